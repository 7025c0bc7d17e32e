"""Sections 3 and 4 of h2spec's `http2` suite: the prefaces, and the form of frames and of header blocks."""

from __future__ import annotations

from . import expect, wire
from .case import case
from .connection import Connection, Unmet
from .generic import server_preface
from .wire import ErrorCode, Flag, FrameType

UNKNOWN_TYPE = 0x16
UNDEFINED_FLAGS = 0x16  # without ACK


def dummy_field(number: int = 0) -> tuple[str, str]:
    """A field of the longest value that h2spec sends."""
    return (f"x-dummy{number}", "x" * 4000)


@case("http2/3.5/1", "Sends client connection preface", "RFC 9113, 3.4", handshake=False)
def http2_3_5_1(conn: Connection) -> str:
    return server_preface(conn)


@case("http2/3.5/2", "Sends invalid connection preface", "RFC 9113, 3.4", handshake=False)
def http2_3_5_2(conn: Connection) -> str:
    conn.send(b"INVALID CONNECTION PREFACE\r\n\r\n")
    # GOAWAY may be omitted. A port that has HTTP/1.1 as well may answer in that, as long as it closes the connection.
    said = conn.read_until_closed()
    if said is None:
        raise Unmet("expected the connection to be closed; got silence")
    return f"connection closed after {len(said)} bytes"


# 4.1. Frame format


@case("http2/4.1/1", "Sends a frame with unknown type", "RFC 9113, 4.1")
def http2_4_1_1(conn: Connection) -> str:
    conn.send(wire.frame(UNKNOWN_TYPE, Flag.NONE, 0, bytes(8)), wire.ping())
    return expect.ping_ack(conn)


@case("http2/4.1/2", "Sends a frame with undefined flag", "RFC 9113, 4.1")
def http2_4_1_2(conn: Connection) -> str:
    conn.send(wire.frame(FrameType.PING, UNDEFINED_FLAGS, 0, bytes(8)))
    return expect.ping_ack(conn)


@case("http2/4.1/3", "Sends a frame with reserved field bit", "RFC 9113, 4.1")
def http2_4_1_3(conn: Connection) -> str:
    conn.send(wire.frame(FrameType.PING, UNDEFINED_FLAGS, 0x8000_0000, bytes(8)))
    return expect.ping_ack(conn)


# 4.2. Frame size


@case("http2/4.2/1", "Sends a DATA frame with 2^14 octets in length", "RFC 9113, 4.2")
def http2_4_2_1(conn: Connection) -> str:
    conn.request(method="POST", end_stream=False)
    conn.send(wire.data(1, b"x" * 2**14, end_stream=True))
    return expect.answer(conn)


@case("http2/4.2/2", "Sends a large size DATA frame that exceeds the SETTINGS_MAX_FRAME_SIZE", "RFC 9113, 4.2")
def http2_4_2_2(conn: Connection) -> str:
    conn.request(method="POST", end_stream=False)
    conn.send(wire.data(1, b"x" * (conn.frame_bytes_max + 1), end_stream=True))
    return expect.stream_error(conn, ErrorCode.FRAME_SIZE_ERROR)


@case("http2/4.2/3", "Sends a large size HEADERS frame that exceeds the SETTINGS_MAX_FRAME_SIZE", "RFC 9113, 4.2")
def http2_4_2_3(conn: Connection) -> str:
    block = conn.block(conn.target.fields())
    number = 0
    while len(block) <= conn.frame_bytes_max:
        block += conn.block([dummy_field(number)])
        number += 1
    conn.send(wire.headers(1, block))
    return expect.connection_error(conn, ErrorCode.FRAME_SIZE_ERROR)


# 4.3. Header compression and decompression


@case("http2/4.3/1", "Sends invalid header block fragment", "RFC 9113, 4.3")
def http2_4_3_1(conn: Connection) -> str:
    # A literal field with incremental indexing, without its strings.
    conn.send(wire.headers(1, b"\x40"))
    return expect.connection_error(conn, ErrorCode.COMPRESSION_ERROR)


def priority_within_block(conn: Connection) -> str:
    conn.send(
        wire.headers(1, conn.block(conn.target.fields()), end_stream=False, end_headers=False),
        wire.priority(1),
        wire.continuation(1, conn.block([dummy_field()])),
    )
    return expect.connection_error(conn, ErrorCode.PROTOCOL_ERROR)


def other_stream_within_block(conn: Connection) -> str:
    conn.send(
        wire.headers(1, conn.block(conn.target.fields()), end_stream=False, end_headers=False),
        wire.headers(3, conn.block(conn.target.fields())),
        wire.continuation(1, conn.block([dummy_field()])),
    )
    return expect.connection_error(conn, ErrorCode.PROTOCOL_ERROR)


@case("http2/4.3/2", "Sends a PRIORITY frame while sending the header blocks", "RFC 9113, 4.3")
def http2_4_3_2(conn: Connection) -> str:
    return priority_within_block(conn)


@case("http2/4.3/3", "Sends a HEADERS frame to another stream while sending the header blocks", "RFC 9113, 4.3")
def http2_4_3_3(conn: Connection) -> str:
    return other_stream_within_block(conn)
