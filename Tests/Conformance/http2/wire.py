"""Frames as bytes (RFC 9113, 4.1 and 6), right ones and wrong ones, and names for what is on the wire."""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WINDOW_DEFAULT = 65535
WINDOW_MAX = 2**31 - 1
FRAME_BYTES_DEFAULT = 16384


class FrameType(IntEnum):
    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Flag(IntFlag):
    NONE = 0
    ACK = 1
    END_STREAM = 1
    END_HEADERS = 4
    PADDED = 8
    PRIORITY = 32


class ErrorCode(IntEnum):
    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class Setting(IntEnum):
    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6
    ENABLE_CONNECT_PROTOCOL = 8


def error_name(code: int) -> str:
    return ErrorCode(code).name if code in ErrorCode._value2member_map_ else f"error {code:#x}"


def frame(kind: int, flags: int, stream: int, payload: bytes, length: int | None = None) -> bytes:
    """One frame, whether or not it makes sense. `length` may lie; `stream` may have the reserved bit set."""
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def priority_fields(depends_on: int = 0, exclusive: bool = False, weight: int = 255) -> bytes:
    """`weight` as on the wire: one less than the weight that is meant."""
    return struct.pack(">IB", depends_on | (0x8000_0000 if exclusive else 0), weight)


def data(stream: int, payload: bytes, end_stream: bool = False, padding: int | None = None) -> bytes:
    flags = Flag.END_STREAM if end_stream else Flag.NONE
    if padding is not None:
        flags |= Flag.PADDED
        payload = bytes([padding]) + payload + bytes(padding)
    return frame(FrameType.DATA, flags, stream, payload)


def headers(
    stream: int,
    block: bytes,
    end_stream: bool = True,
    end_headers: bool = True,
    padding: int | None = None,
    priority: bytes | None = None,
) -> bytes:
    flags = (Flag.END_STREAM if end_stream else Flag.NONE) | (Flag.END_HEADERS if end_headers else Flag.NONE)
    payload = block
    if priority is not None:
        flags |= Flag.PRIORITY
        payload = priority + payload
    if padding is not None:
        flags |= Flag.PADDED
        payload = bytes([padding]) + payload + bytes(padding)
    return frame(FrameType.HEADERS, flags, stream, payload)


def continuation(stream: int, block: bytes, end_headers: bool = True) -> bytes:
    return frame(FrameType.CONTINUATION, Flag.END_HEADERS if end_headers else Flag.NONE, stream, block)


def priority(stream: int, depends_on: int = 0, exclusive: bool = False, weight: int = 255) -> bytes:
    return frame(FrameType.PRIORITY, Flag.NONE, stream, priority_fields(depends_on, exclusive, weight))


def rst_stream(stream: int, code: int) -> bytes:
    return frame(FrameType.RST_STREAM, Flag.NONE, stream, struct.pack(">I", code))


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(FrameType.SETTINGS, Flag.NONE, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def settings_ack() -> bytes:
    return frame(FrameType.SETTINGS, Flag.ACK, 0, b"")


def push_promise(stream: int, promised: int, block: bytes) -> bytes:
    return frame(FrameType.PUSH_PROMISE, Flag.END_HEADERS, stream, struct.pack(">I", promised) + block)


def ping(payload: bytes = bytes(8), ack: bool = False, stream: int = 0) -> bytes:
    return frame(FrameType.PING, Flag.ACK if ack else Flag.NONE, stream, payload)


def goaway(last_stream: int, code: int, debug: bytes = b"", stream: int = 0) -> bytes:
    return frame(FrameType.GOAWAY, Flag.NONE, stream, struct.pack(">II", last_stream, code) + debug)


def window_update(stream: int, increment: int) -> bytes:
    return frame(FrameType.WINDOW_UPDATE, Flag.NONE, stream, struct.pack(">I", increment))
