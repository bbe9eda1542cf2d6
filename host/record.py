"""Recorded streams: what ran, without what is secret in it."""

from __future__ import annotations

import hashlib
import os
import stat

from msgspec.structs import replace

from igaki.ops import Octets, Place, Plan, Redacted, encode_plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from igaki.ops import AnyOp


def record(plan: Plan, path: str, *, secrets: bool) -> None:
    """Write the stream of `plan` to `path`, readable by its owner only; without `secrets`, redacted. Raises OSError."""
    stream = encode_plan(plan if secrets else redact(plan))
    with open(path, "wb", opener=_private) as file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            os.fchmod(file.fileno(), 0o600)  # it may have existed, for others to read
        file.write(stream)


def redact(plan: Plan) -> Plan:
    """`plan` with the content of placed files and the values of the environment replaced by what they were."""
    env = {name: _redacted(value) for name, value in plan.setup.env.items()}
    ops = [_without_data(op) for op in plan.ops]
    return Plan(replace(plan.setup, env=env), ops, plan.namespaces)


def _without_data(op: AnyOp) -> AnyOp:
    return replace(op, data=_redacted(op.data)) if isinstance(op, Place) else op


def _redacted(value: str | bytes | Octets | Redacted) -> Redacted:
    if isinstance(value, Redacted):
        return value
    if isinstance(value, Octets):
        value = value.data
    data = value.encode() if isinstance(value, str) else value
    return Redacted(len(data), hashlib.sha256(data).hexdigest())


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)  # a link may have been left by what ran here before
