"""The stream: how a plan and a status become bytes and come back, strictly.

    stream  = preamble frame*         the same bytes on the pipe and in a recorded file
    preamble = "\\x89igaki" version    version: 2 bytes, big-endian
    frame   = length message          length: 4 bytes, big-endian; message: msgpack
    plan    = Namespaces Setup op* End
    status  = the messages of status.py, without a preamble

Host and init come from one installation, so the version is compared, not negotiated.
"""

from __future__ import annotations

from msgspec import Struct, ValidationError
from msgspec.msgpack import Decoder, Encoder

from igaki.ops.base import Message
from igaki.ops.failure import ProtocolError
from igaki.ops.place import PLACE_MAX
from igaki.ops.setup import Namespaces, Setup
from igaki.ops.status import AnyOp, Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    T = TypeVar("T")

VERSION = 1
MAGIC = b"\x89igaki"
PREAMBLE = MAGIC + VERSION.to_bytes(2)

LENGTH_BYTES = 4
FRAME_MAX = PLACE_MAX + 1024 * 1024
STREAM_MAX = 256 * 1024 * 1024
OPS_MAX = 100_000


class End(Message, frozen=True):
    """Closes a plan; `ops` is how many there were, so that a cut stream is never mistaken for a shorter plan."""

    ops: int


class Plan(Struct, frozen=True):
    """Everything a container is: its program, the ops that build its file system in order, its namespaces."""

    setup: Setup
    ops: list[AnyOp]
    namespaces: Namespaces = Namespaces()


_encode = Encoder().encode


def encode(*messages: Message) -> bytearray:
    """Frames of `messages`. Raises ValueError for one that is too large."""
    frames = bytearray()
    for message in messages:
        body = _encode(message)
        if len(body) > FRAME_MAX:
            raise ValueError(f"a message of {len(body)} bytes is more than the {FRAME_MAX} a frame may hold")
        frames += len(body).to_bytes(LENGTH_BYTES)
        frames += body
    return frames


def encode_plan(plan: Plan) -> bytearray:
    """The whole stream of `plan`. Raises ValueError when it is larger than init accepts."""
    if len(plan.ops) > OPS_MAX:
        raise ValueError(f"{len(plan.ops)} ops are more than the {OPS_MAX} a plan may have")
    stream = PREAMBLE + encode(plan.namespaces, plan.setup, *plan.ops, End(len(plan.ops)))
    if len(stream) > STREAM_MAX:
        raise ValueError(f"the plan takes {len(stream)} bytes, more than the {STREAM_MAX} of a stream")
    return bytearray(stream)


def decode_plan(stream: bytes) -> Plan:
    """The plan that `stream` holds. Raises ProtocolError."""
    position = 0

    def read(size: int) -> bytes:
        nonlocal position
        piece = stream[position : position + size]
        position += len(piece)
        return piece

    namespaces = read_namespaces(read)
    setup, ops = decode_body(stream[position:])
    return Plan(setup, ops, namespaces)


def read_namespaces(read: Callable[[int], bytes]) -> Namespaces:
    """Take the preamble and the first message, and not one byte more. Raises ProtocolError."""
    preamble = _exactly(read, len(PREAMBLE))
    if preamble[: len(MAGIC)] != MAGIC:
        raise ProtocolError("this is not a stream of igaki's: it starts with other bytes")
    if preamble != PREAMBLE:
        raise ProtocolError(
            f"the stream has version {int.from_bytes(preamble[len(MAGIC) :])}, this igaki reads version {VERSION}"
        )
    length = _checked_length(_exactly(read, LENGTH_BYTES))
    return _decode(Decoder(Namespaces), _exactly(read, length), "namespaces")


def decode_body(data: bytes) -> tuple[Setup, list[AnyOp]]:
    """What follows the namespaces. Raises ProtocolError that names the op at fault."""
    if len(data) > STREAM_MAX:
        raise ProtocolError(f"the stream is longer than {STREAM_MAX} bytes")
    frames = split(data)
    first = next(frames, None)
    if first is None:
        raise ProtocolError("the stream ends before the setup")
    setup = _decode(Decoder(Setup), first, "setup")
    decoder = Decoder(AnyOp | End)
    ops: list[AnyOp] = []
    for frame in frames:
        message = _decode(decoder, frame, f"op {len(ops)}")
        if isinstance(message, End):
            if message.ops != len(ops):
                raise ProtocolError(f"the stream holds {len(ops)} ops and says that it has {message.ops}")
            if next(frames, None) is not None:
                raise ProtocolError("the stream goes on after its end")
            return setup, ops
        if len(ops) == OPS_MAX:
            raise ProtocolError(f"the stream holds more than {OPS_MAX} ops")
        ops.append(message)
    raise ProtocolError(
        f"the stream is cut: it ends after op {len(ops) - 1}" if ops else "the stream is cut: it has no end"
    )


def split(data: bytes) -> Iterator[memoryview]:
    """The messages in `data`. Raises ProtocolError at a frame that is too long or incomplete."""
    view = memoryview(data)
    position = 0
    while position < len(view):
        start = position + LENGTH_BYTES
        if start > len(view):
            raise ProtocolError(f"the stream is cut in the length of a frame, at byte {position}")
        position = start + _checked_length(view[position:start])
        if position > len(view):
            raise ProtocolError(f"the stream is cut in a frame that starts at byte {start}")
        yield view[start:position]


class StatusReader:
    """Turns bytes from init, as they come, into messages."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._decoder = Decoder(Status)

    def feed(self, data: bytes) -> Iterator[Status]:
        """The messages that `data` completes. Raises ProtocolError."""
        self._pending += data
        while len(self._pending) >= LENGTH_BYTES:
            end = LENGTH_BYTES + _checked_length(self._pending[:LENGTH_BYTES])
            if len(self._pending) < end:
                return
            frame = bytes(self._pending[LENGTH_BYTES:end])
            del self._pending[:end]
            yield _decode(self._decoder, frame, "status")


def _exactly(read: Callable[[int], bytes], size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = read(size - len(data))
        if not piece:
            raise ProtocolError("the stream is cut: it ends before the plan")
        data += piece
    return data


def _checked_length(field: bytes | bytearray | memoryview) -> int:
    length = int.from_bytes(field)
    if length > FRAME_MAX:
        raise ProtocolError(f"a frame of {length} bytes is more than the {FRAME_MAX} that are accepted")
    return length


def _decode(decoder: Decoder[T], frame: bytes | memoryview, what: str) -> T:
    try:
        return decoder.decode(frame)
    except (ValidationError, ValueError, RecursionError) as error:
        raise ProtocolError(f"{what}: {error}") from error
