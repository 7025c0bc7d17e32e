"""Section 6 of h2spec's `http2` suite: the frames, one by one."""

from __future__ import annotations

from . import expect, wire
from .case import case
from .connection import Connection
from .starting import dummy_field, other_stream_within_block, priority_within_block
from .wire import ErrorCode, Flag, FrameType, Setting

# 6.1. DATA


@case("http2/6.1/1", "Sends a DATA frame with 0x0 stream identifier", "RFC 9113, 6.1")
def http2_6_1_1(conn: Connection) -> str:
    conn.send(wire.data(0, b"test", end_stream=True))
    return expect.connection_error(conn, ErrorCode.PROTOCOL_ERROR)


@case("http2/6.1/2", 'Sends a DATA frame on the stream that is not in "open" or "half-closed (local)" state', "RFC 9113, 6.1")
def http2_6_1_2(conn: Connection) -> str:
    conn.request(method="POST")
    conn.send(wire.data(1, b"test", end_stream=True))
    return expect.stream_error(conn, ErrorCode.STREAM_CLOSED)


@case("http2/6.1/3", "Sends a DATA frame with invalid pad length", "RFC 9113, 6.1")
def http2_6_1_3(conn: Connection) -> str:
    conn.request(method="POST", end_stream=False, extra=[("content-length", "4")])
    # 5 bytes, 6 of them padding.
    conn.send(wire.frame(FrameType.DATA, Flag.END_STREAM | Flag.PADDED, 1, b"\x06Test"))
    return expect.connection_error(conn, ErrorCode.PROTOCOL_ERROR)


# 6.2. HEADERS


@case("http2/6.2/1", "Sends a HEADERS frame without the END_HEADERS flag, and a PRIORITY frame", "RFC 9113, 6.2")
def http2_6_2_1(conn: Connection) -> str:
    return priority_within_block(conn)


@case("http2/6.2/2", "Sends a HEADERS frame to another stream while sending a HEADERS frame", "RFC 9113, 6.2")
def http2_6_2_2(conn: Connection) -> str:
    return other_stream_within_block(conn)


@case("http2/6.2/3", "Sends a HEADERS frame with 0x0 stream identifier", "RFC 9113, 6.2")
def http2_6_2_3(conn: Connection) -> str:
    conn.request(stream=0)
    return expect.connection_error(conn, ErrorCode.PROTOCOL_ERROR)


@case("http2/6.2/4", "Sends a HEADERS frame with invalid pad length", "RFC 9113, 6.2")
def http2_6_2_4(conn: Connection) -> str:
    block = conn.block(conn.target.fields())
    flags = Flag.END_STREAM | Flag.END_HEADERS | Flag.PADDED
    conn.send(wire.frame(FrameType.HEADERS, flags, 1, bytes([len(block) + 2]) + block))
    return expect.stream_error(conn, ErrorCode.PROTOCOL_ERROR)


# 6.3. PRIORITY


@case("http2/6.3/1", "Sends a PRIORITY frame with 0x0 stream identifier", "RFC 9113, 6.3")
def http2_6_3_1(conn: Connection) -> str:
    conn.send(wire.priority(0))
    return expect.connection_error(conn, ErrorCode.PROTOCOL_ERROR)


@case("http2/6.3/2", "Sends a PRIORITY frame with a length other than 5 octets", "RFC 9113, 6.3")
def http2_6_3_2(conn: Connection) -> str:
    conn.request()
    conn.send(wire.frame(FrameType.PRIORITY, Flag.NONE, 1, b"\x80\x00\x00\x01"))
    return expect.stream_error(conn, ErrorCode.FRAME_SIZE_ERROR)


# 6.4. RST_STREAM


@case("http2/6.4/1", "Sends a RST_STREAM frame with 0x0 stream identifier", "RFC 9113, 6.4")
def http2_6_4_1(conn: Connection) -> str:
    conn.send(wire.rst_stream(0, ErrorCode.CANCEL))
    return expect.connection_error(conn, ErrorCode.PROTOCOL_ERROR)


@case("http2/6.4/2", "Sends a RST_STREAM frame on a idle stream", "RFC 9113, 6.4")
def http2_6_4_2(conn: Connection) -> str:
    conn.send(wire.rst_stream(1, ErrorCode.CANCEL))
    return expect.connection_error(conn, ErrorCode.PROTOCOL_ERROR)


@case("http2/6.4/3", "Sends a RST_STREAM frame with a length other than 4 octets", "RFC 9113, 6.4")
def http2_6_4_3(conn: Connection) -> str:
    conn.request()
    conn.send(wire.frame(FrameType.RST_STREAM, Flag.NONE, 1, bytes(3)))
    return expect.stream_error(conn, ErrorCode.FRAME_SIZE_ERROR)


# 6.5. SETTINGS


@case("http2/6.5/1", "Sends a SETTINGS frame with ACK flag and payload", "RFC 9113, 6.5")
def http2_6_5_1(conn: Connection) -> str:
    conn.send(wire.frame(FrameType.SETTINGS, Flag.ACK, 0, bytes(1)))
    return expect.connection_error(conn, ErrorCode.FRAME_SIZE_ERROR)


@case("http2/6.5/2", "Sends a SETTINGS frame with a stream identifier other than 0x0", "RFC 9113, 6.5")
def http2_6_5_2(conn: Connection) -> str:
    conn.send(wire.frame(FrameType.SETTINGS, Flag.NONE, 1, b"\x00\x03\x00\x00\x00\x64"))
    return expect.connection_error(conn, ErrorCode.PROTOCOL_ERROR)


@case("http2/6.5/3", "Sends a SETTINGS frame with a length other than a multiple of 6 octets", "RFC 9113, 6.5")
def http2_6_5_3(conn: Connection) -> str:
    conn.send(wire.frame(FrameType.SETTINGS, Flag.NONE, 0, b"\x00\x03\x00"))
    return expect.stream_error(conn, ErrorCode.PROTOCOL_ERROR, ErrorCode.FRAME_SIZE_ERROR)


@case("http2/6.5.2/1", "SETTINGS_ENABLE_PUSH (0x2): Sends the value other than 0 or 1", "RFC 9113, 6.5.2")
def http2_6_5_2_1(conn: Connection) -> str:
    conn.send(wire.settings((Setting.ENABLE_PUSH, 2)))
    return expect.connection_error(conn, ErrorCode.PROTOCOL_ERROR)


@case(
    "http2/6.5.2/2",
    "SETTINGS_INITIAL_WINDOW_SIZE (0x4): Sends the value above the maximum flow control window size",
    "RFC 9113, 6.5.2",
)
def http2_6_5_2_2(conn: Connection) -> str:
    conn.send(wire.settings((Setting.INITIAL_WINDOW_SIZE, wire.WINDOW_MAX + 1)))
    return expect.connection_error(conn, ErrorCode.FLOW_CONTROL_ERROR)


@case("http2/6.5.2/3", "SETTINGS_MAX_FRAME_SIZE (0x5): Sends the value below the initial value", "RFC 9113, 6.5.2")
def http2_6_5_2_3(conn: Connection) -> str:
    conn.send(wire.settings((Setting.MAX_FRAME_SIZE, 2**14 - 1)))
    return expect.connection_error(conn, ErrorCode.PROTOCOL_ERROR)


@case("http2/6.5.2/4", "SETTINGS_MAX_FRAME_SIZE (0x5): Sends the value above the maximum allowed frame size", "RFC 9113, 6.5.2")
def http2_6_5_2_4(conn: Connection) -> str:
    conn.send(wire.settings((Setting.MAX_FRAME_SIZE, 2**24)))
    return expect.connection_error(conn, ErrorCode.PROTOCOL_ERROR)


@case("http2/6.5.2/5", "Sends a SETTINGS frame with unknown identifier", "RFC 9113, 6.5.2")
def http2_6_5_2_5(conn: Connection) -> str:
    conn.send(wire.settings((0xFF, 1)), wire.ping())
    return expect.ping_ack(conn)


@case("http2/6.5.3/1", "Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE", "RFC 9113, 6.5.3")
def http2_6_5_3_1(conn: Connection) -> str:
    expect.body_of_at_least(conn, 2)
    conn.send(wire.settings((Setting.INITIAL_WINDOW_SIZE, 100), (Setting.INITIAL_WINDOW_SIZE, 1)))
    expect.settings_ack(conn)
    conn.request()
    return expect.data_of(conn, length=1)


@case("http2/6.5.3/2", "Sends a SETTINGS frame without ACK flag", "RFC 9113, 6.5.3")
def http2_6_5_3_2(conn: Connection) -> str:
    conn.send(wire.settings((Setting.ENABLE_PUSH, 0)))
    return expect.settings_ack(conn)


# 6.7. PING


@case("http2/6.7/1", "Sends a PING frame", "RFC 9113, 6.7")
def http2_6_7_1(conn: Connection) -> str:
    conn.send(wire.ping(b"h2spec\0\0"))
    return expect.ping_ack(conn, b"h2spec\0\0")


@case("http2/6.7/2", "Sends a PING frame with ACK", "RFC 9113, 6.7")
def http2_6_7_2(conn: Connection) -> str:
    conn.send(wire.ping(b"invalid\0", ack=True), wire.ping(b"h2spec\0\0"))
    return expect.ping_ack(conn, b"h2spec\0\0")


@case("http2/6.7/3", "Sends a PING frame with a stream identifier field value other than 0x0", "RFC 9113, 6.7")
def http2_6_7_3(conn: Connection) -> str:
    conn.send(wire.ping(stream=1))
    return expect.connection_error(conn, ErrorCode.PROTOCOL_ERROR)


@case("http2/6.7/4", "Sends a PING frame with a length field value other than 8", "RFC 9113, 6.7")
def http2_6_7_4(conn: Connection) -> str:
    conn.send(wire.ping(bytes(6)))
    return expect.connection_error(conn, ErrorCode.FRAME_SIZE_ERROR)


# 6.8. GOAWAY


@case("http2/6.8/1", "Sends a GOAWAY frame with a stream identifier other than 0x0", "RFC 9113, 6.8")
def http2_6_8_1(conn: Connection) -> str:
    conn.send(wire.goaway(0, ErrorCode.NO_ERROR, stream=1))
    return expect.connection_error(conn, ErrorCode.PROTOCOL_ERROR)


# 6.9. WINDOW_UPDATE


@case("http2/6.9/1", "Sends a WINDOW_UPDATE frame with a flow control window increment of 0", "RFC 9113, 6.9")
def http2_6_9_1(conn: Connection) -> str:
    conn.send(wire.window_update(0, 0))
    return expect.connection_error(conn, ErrorCode.PROTOCOL_ERROR)


@case("http2/6.9/2", "Sends a WINDOW_UPDATE frame with a flow control window increment of 0 on a stream", "RFC 9113, 6.9")
def http2_6_9_2(conn: Connection) -> str:
    conn.request(end_stream=False)
    conn.send(wire.window_update(1, 0))
    return expect.stream_error(conn, ErrorCode.PROTOCOL_ERROR)


@case("http2/6.9/3", "Sends a WINDOW_UPDATE frame with a length other than 4 octets", "RFC 9113, 6.9")
def http2_6_9_3(conn: Connection) -> str:
    conn.send(wire.frame(FrameType.WINDOW_UPDATE, Flag.NONE, 0, b"\x00\x00\x01"))
    return expect.connection_error(conn, ErrorCode.FRAME_SIZE_ERROR)


@case(
    "http2/6.9.1/1",
    "Sends SETTINGS frame to set the initial window size to 1 and sends HEADERS frame",
    "RFC 9113, 6.9.1",
)
def http2_6_9_1_1(conn: Connection) -> str:
    expect.body_of_at_least(conn, 2)
    conn.send(wire.settings((Setting.INITIAL_WINDOW_SIZE, 1)))
    expect.settings_ack(conn)
    conn.request()
    return expect.data_of(conn, length=1)


@case(
    "http2/6.9.1/2",
    "Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1",
    "RFC 9113, 6.9.1",
)
def http2_6_9_1_2(conn: Connection) -> str:
    conn.send(wire.window_update(0, wire.WINDOW_MAX), wire.window_update(0, wire.WINDOW_MAX))
    return expect.goaway(conn, ErrorCode.FLOW_CONTROL_ERROR)


@case(
    "http2/6.9.1/3",
    "Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1 on a stream",
    "RFC 9113, 6.9.1",
)
def http2_6_9_1_3(conn: Connection) -> str:
    conn.request(end_stream=False)
    conn.send(wire.window_update(1, wire.WINDOW_MAX), wire.window_update(1, wire.WINDOW_MAX))
    return expect.rst_stream(conn, 1, ErrorCode.FLOW_CONTROL_ERROR)


@case("http2/6.9.2/1", "Changes SETTINGS_INITIAL_WINDOW_SIZE after sending HEADERS frame", "RFC 9113, 6.9.2")
def http2_6_9_2_1(conn: Connection) -> str:
    expect.body_of_at_least(conn, 2)
    conn.send(wire.settings((Setting.INITIAL_WINDOW_SIZE, 0)))
    expect.settings_ack(conn)
    conn.request()
    conn.send(wire.settings((Setting.INITIAL_WINDOW_SIZE, 1)))
    return expect.data_of(conn, length=1)


@case("http2/6.9.2/2", "Sends a SETTINGS frame for window size to be negative", "RFC 9113, 6.9.2")
def http2_6_9_2_2(conn: Connection) -> str:
    expect.body_of_at_least(conn, 5)
    conn.send(wire.settings((Setting.INITIAL_WINDOW_SIZE, 3)))
    expect.settings_ack(conn)
    conn.request()
    expect.data_of(conn)
    # The window is now 2 - 3, and 1 after two more bytes have been granted.
    conn.send(wire.settings((Setting.INITIAL_WINDOW_SIZE, 2)))
    expect.settings_ack(conn)
    conn.send(wire.window_update(1, 2))
    return expect.data_of(conn, length=1)


@case(
    "http2/6.9.2/3",
    "Sends a SETTINGS_INITIAL_WINDOW_SIZE settings with an exceeded maximum window size value",
    "RFC 9113, 6.9.2",
)
def http2_6_9_2_3(conn: Connection) -> str:
    conn.send(wire.settings((Setting.INITIAL_WINDOW_SIZE, wire.WINDOW_MAX + 1)))
    return expect.connection_error(conn, ErrorCode.FLOW_CONTROL_ERROR)


# 6.10. CONTINUATION


@case("http2/6.10/1", "Sends multiple CONTINUATION frames preceded by a HEADERS frame", "RFC 9113, 6.10")
def http2_6_10_1(conn: Connection) -> str:
    conn.send(
        wire.headers(1, conn.block(conn.target.fields()), end_headers=False),
        wire.continuation(1, conn.block([dummy_field()]), end_headers=False),
        wire.continuation(1, conn.block([dummy_field()])),
    )
    return expect.answer(conn)


@case("http2/6.10/2", "Sends a CONTINUATION frame followed by any frame other than CONTINUATION", "RFC 9113, 6.10")
def http2_6_10_2(conn: Connection) -> str:
    conn.send(
        wire.headers(1, conn.block(conn.target.fields("POST")), end_stream=False, end_headers=False),
        wire.continuation(1, conn.block([dummy_field()]), end_headers=False),
        wire.data(1, b"test", end_stream=True),
    )
    return expect.connection_error(conn, ErrorCode.PROTOCOL_ERROR)


@case("http2/6.10/3", "Sends a CONTINUATION frame with 0x0 stream identifier", "RFC 9113, 6.10")
def http2_6_10_3(conn: Connection) -> str:
    conn.send(
        wire.headers(1, conn.block(conn.target.fields()), end_headers=False),
        wire.continuation(0, conn.block([dummy_field()])),
    )
    return expect.connection_error(conn, ErrorCode.PROTOCOL_ERROR)


@case("http2/6.10/4", "Sends a CONTINUATION frame preceded by a HEADERS frame with END_HEADERS flag", "RFC 9113, 6.10")
def http2_6_10_4(conn: Connection) -> str:
    conn.request()
    conn.send(wire.continuation(1, conn.block([dummy_field()])))
    return expect.connection_error(conn, ErrorCode.PROTOCOL_ERROR)


@case("http2/6.10/5", "Sends a CONTINUATION frame preceded by a CONTINUATION frame with END_HEADERS flag", "RFC 9113, 6.10")
def http2_6_10_5(conn: Connection) -> str:
    conn.send(
        wire.headers(1, conn.block(conn.target.fields()), end_headers=False),
        wire.continuation(1, conn.block([dummy_field()])),
        wire.continuation(1, conn.block([dummy_field()])),
    )
    return expect.connection_error(conn, ErrorCode.PROTOCOL_ERROR)


@case("http2/6.10/6", "Sends a CONTINUATION frame preceded by a DATA frame", "RFC 9113, 6.10")
def http2_6_10_6(conn: Connection) -> str:
    conn.send(
        wire.headers(1, conn.block(conn.target.fields("POST")), end_stream=False, end_headers=False),
        wire.data(1, b"test", end_stream=True),
        wire.continuation(1, conn.block([dummy_field()]), end_headers=False),
        wire.continuation(0, conn.block([dummy_field()])),
    )
    return expect.connection_error(conn, ErrorCode.PROTOCOL_ERROR)
