"""Section 5 of h2spec's `http2` suite: stream states, identifiers, concurrency, errors, extensions."""

from __future__ import annotations

from . import expect, wire
from .case import case
from .connection import Connection, Unmet
from .starting import UNKNOWN_TYPE, dummy_field
from .wire import ErrorCode, Flag, Setting

# 5.1. Stream states. Of a stream that is closed, RFC 9113 says that frames MAY be a connection error, where RFC 7540 said MUST; the cases
# 8 to 13 ask what RFC 7540 did. HEADERS on it are an error all the same: their identifier is not a new one (5.1.1).


@case("http2/5.1/1", "idle: Sends a DATA frame", "RFC 9113, 5.1")
def http2_5_1_1(conn: Connection) -> str:
    conn.send(wire.data(1, b"test", end_stream=True))
    return expect.connection_error(conn, ErrorCode.PROTOCOL_ERROR)


@case("http2/5.1/2", "idle: Sends a RST_STREAM frame", "RFC 9113, 5.1")
def http2_5_1_2(conn: Connection) -> str:
    conn.send(wire.rst_stream(1, ErrorCode.CANCEL))
    return expect.connection_error(conn, ErrorCode.PROTOCOL_ERROR)


@case("http2/5.1/3", "idle: Sends a WINDOW_UPDATE frame", "RFC 9113, 5.1")
def http2_5_1_3(conn: Connection) -> str:
    conn.send(wire.window_update(1, 100))
    return expect.connection_error(conn, ErrorCode.PROTOCOL_ERROR)


@case("http2/5.1/4", "idle: Sends a CONTINUATION frame", "RFC 9113, 5.1")
def http2_5_1_4(conn: Connection) -> str:
    conn.send(wire.continuation(1, conn.block(conn.target.fields())))
    return expect.connection_error(conn, ErrorCode.PROTOCOL_ERROR)


@case("http2/5.1/5", "half closed (remote): Sends a DATA frame", "RFC 9113, 5.1")
def http2_5_1_5(conn: Connection) -> str:
    conn.request()
    conn.send(wire.data(1, b"test", end_stream=True))
    return expect.stream_error(conn, ErrorCode.STREAM_CLOSED)


@case("http2/5.1/6", "half closed (remote): Sends a HEADERS frame", "RFC 9113, 5.1")
def http2_5_1_6(conn: Connection) -> str:
    conn.request()
    conn.request()
    return expect.stream_error(conn, ErrorCode.STREAM_CLOSED)


@case("http2/5.1/7", "half closed (remote): Sends a CONTINUATION frame", "RFC 9113, 5.1")
def http2_5_1_7(conn: Connection) -> str:
    block = conn.block(conn.target.fields())
    conn.send(wire.headers(1, block), wire.continuation(1, block))
    return expect.stream_error(conn, ErrorCode.STREAM_CLOSED, ErrorCode.PROTOCOL_ERROR)


@case("http2/5.1/8", "closed: Sends a DATA frame after sending RST_STREAM frame", "RFC 9113, 5.1")
def http2_5_1_8(conn: Connection) -> str:
    conn.request(end_stream=False)
    conn.send(wire.rst_stream(1, ErrorCode.CANCEL), wire.data(1, b"test", end_stream=True))
    return expect.stream_error(conn, ErrorCode.STREAM_CLOSED)


@case("http2/5.1/9", "closed: Sends a HEADERS frame after sending RST_STREAM frame", "RFC 9113, 5.1")
def http2_5_1_9(conn: Connection) -> str:
    conn.request(end_stream=False)
    conn.send(wire.rst_stream(1, ErrorCode.CANCEL))
    conn.request()
    return expect.stream_error(conn, ErrorCode.STREAM_CLOSED)


@case("http2/5.1/10", "closed: Sends a CONTINUATION frame after sending RST_STREAM frame", "RFC 9113, 5.1")
def http2_5_1_10(conn: Connection) -> str:
    conn.request(end_stream=False)
    conn.send(wire.rst_stream(1, ErrorCode.CANCEL), wire.continuation(1, conn.block([dummy_field()])))
    return expect.stream_error(conn, ErrorCode.STREAM_CLOSED, ErrorCode.PROTOCOL_ERROR)


@case("http2/5.1/11", "closed: Sends a DATA frame", "RFC 9113, 5.1")
def http2_5_1_11(conn: Connection) -> str:
    conn.request()
    expect.stream_close(conn)
    conn.send(wire.data(1, b"test", end_stream=True))
    return expect.stream_error(conn, ErrorCode.STREAM_CLOSED)


@case("http2/5.1/12", "closed: Sends a HEADERS frame", "RFC 9113, 5.1")
def http2_5_1_12(conn: Connection) -> str:
    conn.request()
    expect.stream_close(conn)
    conn.request()
    return expect.connection_error(conn, ErrorCode.STREAM_CLOSED)


@case("http2/5.1/13", "closed: Sends a CONTINUATION frame", "RFC 9113, 5.1")
def http2_5_1_13(conn: Connection) -> str:
    conn.request()
    expect.stream_close(conn)
    conn.send(wire.continuation(1, conn.block([dummy_field()])))
    return expect.connection_error(conn, ErrorCode.STREAM_CLOSED, ErrorCode.PROTOCOL_ERROR)


@case("http2/5.1.1/1", "Sends even-numbered stream identifier", "RFC 9113, 5.1.1")
def http2_5_1_1_1(conn: Connection) -> str:
    conn.request(stream=2)
    return expect.connection_error(conn, ErrorCode.PROTOCOL_ERROR)


@case("http2/5.1.1/2", "Sends stream identifier that is numerically smaller than previous", "RFC 9113, 5.1.1")
def http2_5_1_1_2(conn: Connection) -> str:
    conn.request(stream=5)
    conn.request(stream=3)
    return expect.connection_error(conn, ErrorCode.PROTOCOL_ERROR)


@case(
    "http2/5.1.2/1",
    "Sends HEADERS frames that causes their advertised concurrent stream limit to be exceeded",
    "RFC 9113, 5.1.2",
)
def http2_5_1_2_1(conn: Connection) -> str:
    count = conn.settings.get(Setting.MAX_CONCURRENT_STREAMS)
    if count is None:
        raise Unmet("cannot be tried: the server sets no SETTINGS_MAX_CONCURRENT_STREAMS")
    # Without a window no answer ends.
    conn.send(wire.settings((Setting.INITIAL_WINDOW_SIZE, 0)))
    for index in range(count + 1):
        conn.request(stream=1 + 2 * index)
    return expect.stream_error(conn, ErrorCode.PROTOCOL_ERROR, ErrorCode.REFUSED_STREAM)


# 5.3. Stream priority. RFC 9113 has no priorities any more, and does not speak of a stream that depends on itself: these two are the older
# RFC's alone.


@case("http2/5.3.1/1", "Sends HEADERS frame that depends on itself", "RFC 7540, 5.3.1")
def http2_5_3_1_1(conn: Connection) -> str:
    conn.send(wire.headers(1, conn.block(conn.target.fields()), priority=wire.priority_fields(depends_on=1)))
    return expect.stream_error(conn, ErrorCode.PROTOCOL_ERROR)


@case("http2/5.3.1/2", "Sends PRIORITY frame that depend on itself", "RFC 7540, 5.3.1")
def http2_5_3_1_2(conn: Connection) -> str:
    conn.send(wire.priority(1, depends_on=1))
    return expect.stream_error(conn, ErrorCode.PROTOCOL_ERROR)


# 5.4. Error handling


@case("http2/5.4.1/1", "Sends an invalid PING frame for connection close", "RFC 9113, 5.4.1")
def http2_5_4_1_1(conn: Connection) -> str:
    conn.send(wire.ping(stream=3))
    return expect.connection_close(conn)


@case("http2/5.4.1/2", "Sends an invalid PING frame to receive GOAWAY frame", "RFC 9113, 5.4.1")
def http2_5_4_1_2(conn: Connection) -> str:
    conn.send(wire.ping(stream=3))
    return expect.goaway(conn)


# 5.5. Extending HTTP/2


@case("http2/5.5/1", "Sends an unknown extension frame", "RFC 9113, 5.5")
def http2_5_5_1(conn: Connection) -> str:
    conn.send(wire.frame(UNKNOWN_TYPE, Flag.NONE, 0, bytes(8)), wire.ping())
    return expect.ping_ack(conn)


@case("http2/5.5/2", "Sends an unknown extension frame in the middle of a header block", "RFC 9113, 5.5")
def http2_5_5_2(conn: Connection) -> str:
    conn.send(
        wire.headers(1, conn.block(conn.target.fields()), end_headers=False),
        wire.frame(UNKNOWN_TYPE, Flag.NONE, 0, bytes(8)),
    )
    return expect.connection_error(conn, ErrorCode.PROTOCOL_ERROR)
