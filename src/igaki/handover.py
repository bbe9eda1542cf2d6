"""What host and init agree on before the first byte of a stream: which descriptor is what.

A module of its own, because the host needs no msgspec to start init, and every millisecond before that counts.
"""

STREAM_FD = 3
"""Where init reads the plan."""

STATUS_FD = 4
"""Where init tells what happens; also its lifeline: when the other end is closed, the host is gone."""

EXTRA_FD = 5
"""The first of the descriptors that are passed on to the program."""
