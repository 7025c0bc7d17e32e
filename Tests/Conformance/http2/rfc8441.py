"""WebSocket over HTTP/2 (RFC 8441). Numbered by the section of RFC 8441 that a case is about."""

from __future__ import annotations

import json
import struct
import time
import zlib
from urllib.parse import quote

from . import wire
from .case import case
from .connection import Connection, Unmet
from .exchange import Opcode, Session, Stream, connect_fields, masked_frame
from .wire import ErrorCode, Setting

ECHO = "/echo"


def close(code: int) -> bytes:
    return struct.pack(">H", code)


# 3. SETTINGS_ENABLE_CONNECT_PROTOCOL


@case("rfc8441/3/1", "SETTINGS_ENABLE_CONNECT_PROTOCOL is 1 in the first SETTINGS", "RFC 8441, 3", handshake=False)
def rfc8441_3_1(conn: Connection) -> str:
    session = Session(conn)
    value = session.settings_seen[0].get(Setting.ENABLE_CONNECT_PROTOCOL)
    if value != 1:
        raise Unmet(f"expected 1; got {value} in {session.settings_seen[0]}")
    return "1"


@case("rfc8441/3/2", "SETTINGS_ENABLE_CONNECT_PROTOCOL is not taken back", "RFC 8441, 3", handshake=False)
def rfc8441_3_2(conn: Connection) -> str:
    session = Session(conn)
    session.websocket().echoes(b"one")
    session.is_alive()
    if 1 not in (values := [seen.get(Setting.ENABLE_CONNECT_PROTOCOL) for seen in session.settings_seen]) or 0 in values:
        raise Unmet(f"expected 1, and no 0; got {values}")
    return f"{len(values)} SETTINGS"


@case("rfc8441/3/3", "SETTINGS_ENABLE_CONNECT_PROTOCOL of a client has no effect", "RFC 8441, 3", handshake=False)
def rfc8441_3_3(conn: Connection) -> str:
    session = Session(conn)
    conn.send(wire.settings((Setting.ENABLE_CONNECT_PROTOCOL, 1)))
    session.websocket().echoes(b"still here")
    return "echoed"


# 4. The extended CONNECT method


def is_refused(session: Session, stream: Stream, *statuses: str) -> str:
    """The answer has one of these statuses and ends, and the connection goes on."""
    session.wait(f"status {statuses[0]}", lambda: stream.headers is not None or stream.over)
    if stream.status not in statuses:
        raise Unmet(f"expected status {' or '.join(statuses)}; got {stream}")
    session.wait("the end of the answer", lambda: stream.over)
    session.is_alive()
    return str(stream)


def is_malformed(session: Session, fields: list[tuple[str, str]]) -> str:
    """A stream error PROTOCOL_ERROR; status 400 may come before it, or instead of it with END_STREAM (RFC 9113, 8.1.1)."""
    stream = session.open(fields, end_stream=False)
    session.wait("RST_STREAM PROTOCOL_ERROR or status 400", lambda: stream.over)
    if stream.reset not in (None, ErrorCode.PROTOCOL_ERROR, ErrorCode.NO_ERROR):
        raise Unmet(f"expected RST_STREAM PROTOCOL_ERROR; got {stream}")
    if stream.status not in ("none", "400") or (stream.status == "none" and stream.reset != ErrorCode.PROTOCOL_ERROR):
        raise Unmet(f"expected RST_STREAM PROTOCOL_ERROR or status 400; got {stream}")
    session.is_alive()
    return str(stream)


VERSION = [("sec-websocket-version", "13")]


def changed(fields: list[tuple[str, str]], name: str, value: str | None) -> list[tuple[str, str]]:
    """The fields with another value of this one, or without it."""
    return [(key, value if key == name else old) for key, old in fields if key != name or value is not None]


@case("rfc8441/4/1", "CONNECT without :protocol is not accepted", "RFC 9113, 8.5; RFC 9110, 9.3.6", handshake=False)
def rfc8441_4_1(conn: Connection) -> str:
    session = Session(conn)
    stream = session.open([(":method", "CONNECT"), (":authority", conn.target.authority)], end_stream=False)
    return is_refused(session, stream, "501", "405", "400", "403", "404")


@case("rfc8441/4/2", "CONNECT with :scheme and :path and without :protocol is malformed", "RFC 9113, 8.5", handshake=False)
def rfc8441_4_2(conn: Connection) -> str:
    return is_malformed(Session(conn), conn.target.fields("CONNECT", ECHO) + VERSION)


@case("rfc8441/4/3", "An unknown :protocol is answered with 501 or 400", "RFC 9220, 3", handshake=False)
def rfc8441_4_3(conn: Connection) -> str:
    session = Session(conn)
    stream = session.open(connect_fields(conn, protocol="connect-udp") + VERSION, end_stream=False)
    return is_refused(session, stream, "501", "400")


@case("rfc8441/4/4", ":protocol without :path is malformed", "RFC 8441, 4", handshake=False)
def rfc8441_4_4(conn: Connection) -> str:
    return is_malformed(Session(conn), changed(connect_fields(conn), ":path", None) + VERSION)


@case("rfc8441/4/5", ":protocol without :scheme is malformed", "RFC 8441, 4", handshake=False)
def rfc8441_4_5(conn: Connection) -> str:
    return is_malformed(Session(conn), changed(connect_fields(conn), ":scheme", None) + VERSION)


@case("rfc8441/4/6", ":protocol with an empty :path is malformed", "RFC 9113, 8.3.1", handshake=False)
def rfc8441_4_6(conn: Connection) -> str:
    return is_malformed(Session(conn), changed(connect_fields(conn), ":path", "") + VERSION)


@case("rfc8441/4/7", ":protocol with GET is malformed", "RFC 8441, 4", handshake=False)
def rfc8441_4_7(conn: Connection) -> str:
    return is_malformed(Session(conn), changed(connect_fields(conn), ":method", "GET") + VERSION)


@case("rfc8441/4/8", ":protocol twice is malformed", "RFC 9113, 8.3", handshake=False)
def rfc8441_4_8(conn: Connection) -> str:
    return is_malformed(Session(conn), connect_fields(conn) + [(":protocol", "websocket")] + VERSION)


@case("rfc8441/4/9", ":protocol after a regular field is malformed", "RFC 9113, 8.3", handshake=False)
def rfc8441_4_9(conn: Connection) -> str:
    return is_malformed(Session(conn), changed(connect_fields(conn), ":protocol", None) + VERSION + [(":protocol", "websocket")])


def resets_on_headers(conn: Connection, end_stream: bool) -> str:
    """No frame but DATA and those that manage a stream may come on one that is connected; the RFC names no code."""
    session = Session(conn)
    socket = session.websocket()
    conn.send(wire.headers(socket.stream.id, conn.block([("x-trailer", "1")]), end_stream))
    session.wait("RST_STREAM", lambda: socket.stream.over)
    if socket.stream.reset in (None, ErrorCode.NO_ERROR):
        raise Unmet(f"expected RST_STREAM with an error; got {socket.stream}")
    session.is_alive()
    return str(socket.stream)


@case("rfc8441/4/10", "HEADERS that end an open WebSocket are a stream error", "RFC 9113, 8.5", handshake=False)
def rfc8441_4_10(conn: Connection) -> str:
    return resets_on_headers(conn, end_stream=True)


@case("rfc8441/4/11", "HEADERS that do not end an open WebSocket are a stream error", "RFC 9113, 8.5", handshake=False)
def rfc8441_4_11(conn: Connection) -> str:
    return resets_on_headers(conn, end_stream=False)


# 5. The opening handshake


@case("rfc8441/5/1", "CONNECT is answered with 200 and an open stream", "RFC 8441, 5", handshake=False)
def rfc8441_5_1(conn: Connection) -> str:
    socket = Session(conn).websocket()
    return str(socket.stream)


@case("rfc8441/5/2", "The answer has no field of an HTTP/1.1 upgrade, and no length", "RFC 8441, 5; RFC 9110, 9.3.6", handshake=False)
def rfc8441_5_2(conn: Connection) -> str:
    socket = Session(conn).websocket()
    for name in ("connection", "upgrade", "sec-websocket-accept", "transfer-encoding", "content-length"):
        if values := socket.stream.values(name):
            raise Unmet(f"expected no {name}; got {values}")
    return f"{len(socket.stream.headers or [])} fields"


@case("rfc8441/5/3", "Sec-WebSocket-Key is not looked at", "RFC 8441, 5", handshake=False)
def rfc8441_5_3(conn: Connection) -> str:
    socket = Session(conn).websocket(extra=[("sec-websocket-key", "not the base64 of 16 bytes")])
    if values := socket.stream.values("sec-websocket-accept"):
        raise Unmet(f"expected no sec-websocket-accept; got {values}")
    socket.echoes(b"open")
    return "echoed"


@case("rfc8441/5/4", "Another Sec-WebSocket-Version is answered with 400", "RFC 6455, 4.2.2; RFC 9110, 15.5.22", handshake=False)
def rfc8441_5_4(conn: Connection) -> str:
    # 426 has to name a protocol in Upgrade, which a message of HTTP/2 cannot have.
    session = Session(conn)
    return is_refused(session, session.connect(version="8").stream, "400")


@case("rfc8441/5/5", "The answer to another Sec-WebSocket-Version names version 13", "RFC 6455, 4.2.2", handshake=False)
def rfc8441_5_5(conn: Connection) -> str:
    session = Session(conn)
    stream = session.connect(version="14").stream
    session.wait("an answer", lambda: stream.over)
    if stream.values("sec-websocket-version") != ["13"] or stream.values("upgrade"):
        raise Unmet(f"expected sec-websocket-version 13, and no upgrade; got {stream.headers}")
    return str(stream)


@case("rfc8441/5/6", "No Sec-WebSocket-Version is answered with 400", "RFC 6455, 4.2.1", handshake=False)
def rfc8441_5_6(conn: Connection) -> str:
    session = Session(conn)
    return is_refused(session, session.open(connect_fields(conn), end_stream=False), "400")


@case("rfc8441/5/7", "The subprotocol that the server knows is chosen", "RFC 6455, 4.2.2", handshake=False)
def rfc8441_5_7(conn: Connection) -> str:
    socket = Session(conn).websocket("/v1/subscribe", [("sec-websocket-protocol", "other, tocsin.v1")])
    if (chosen := socket.stream.values("sec-websocket-protocol")) != ["tocsin.v1"]:
        raise Unmet(f"expected tocsin.v1; got {chosen}")
    return "tocsin.v1"


@case("rfc8441/5/8", "A subprotocol that the server does not know is not chosen", "RFC 6455, 4.2.2", handshake=False)
def rfc8441_5_8(conn: Connection) -> str:
    socket = Session(conn).websocket("/v1/subscribe", [("sec-websocket-protocol", "other, another")])
    if chosen := socket.stream.values("sec-websocket-protocol"):
        raise Unmet(f"expected none; got {chosen}")
    return "none"


@case("rfc8441/5/9", "Subprotocols may come in several fields", "RFC 6455, 11.3.4", handshake=False)
def rfc8441_5_9(conn: Connection) -> str:
    offered = [("sec-websocket-protocol", "other"), ("sec-websocket-protocol", "tocsin.v1")]
    socket = Session(conn).websocket("/v1/subscribe", offered)
    if (chosen := socket.stream.values("sec-websocket-protocol")) != ["tocsin.v1"]:
        raise Unmet(f"expected tocsin.v1; got {chosen}")
    return "tocsin.v1"


@case("rfc8441/5/10", "A path without a WebSocket is not one by CONNECT either", "RFC 8441, 5", handshake=False)
def rfc8441_5_10(conn: Connection) -> str:
    session = Session(conn)
    return is_refused(session, session.connect("/no/such/path").stream, "404")


@case("rfc8441/5/11", "CONNECT with Connection and Upgrade is malformed", "RFC 8441, 5; RFC 9113, 8.2.2", handshake=False)
def rfc8441_5_11(conn: Connection) -> str:
    return is_malformed(Session(conn), connect_fields(conn) + VERSION + [("connection", "upgrade"), ("upgrade", "websocket")])


@case("rfc8441/5/12", "CONNECT with Upgrade alone is malformed", "RFC 9113, 8.2.2", handshake=False)
def rfc8441_5_12(conn: Connection) -> str:
    return is_malformed(Session(conn), connect_fields(conn) + VERSION + [("upgrade", "websocket")])


@case("rfc8441/5/13", "The upgrade of HTTP/1.1 is malformed", "RFC 9113, 8.2.2 and 8.6", handshake=False)
def rfc8441_5_13(conn: Connection) -> str:
    upgrade = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")]
    return is_malformed(Session(conn), conn.target.fields("GET", ECHO) + VERSION + upgrade)


@case("rfc8441/5/14", "A CONNECT with END_STREAM does not stay open", "RFC 8441, 5", handshake=False)
def rfc8441_5_14(conn: Connection) -> str:
    session = Session(conn)
    stream = session.open(connect_fields(conn) + VERSION, end_stream=True)
    session.wait("the end of the stream", lambda: stream.over)
    session.is_alive()
    return str(stream)


@case("rfc8441/5/15", "permessage-deflate, if it is chosen, is spoken", "RFC 7692, 7", handshake=False)
def rfc8441_5_15(conn: Connection) -> str:
    takes_over = "permessage-deflate; client_no_context_takeover; server_no_context_takeover"
    socket = Session(conn).websocket(extra=[("sec-websocket-extensions", takes_over)])
    text = b"again and " * 200
    if not socket.stream.values("sec-websocket-extensions"):
        socket.echoes(text)
        return "not chosen"
    coder = zlib.compressobj(wbits=-15)
    coded = (coder.compress(text) + coder.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")
    socket.send(Opcode.TEXT, coded, reserved=4)
    message = socket.receive("the echo")
    plain = message.payload
    if message.compressed:
        plain = zlib.decompressobj(wbits=-15).decompress(message.payload + b"\x00\x00\xff\xff")
    if plain != text:
        raise Unmet(f"expected the echo of {len(text)} bytes; got {message}")
    return f"chosen, and the echo is {'compressed' if message.compressed else 'plain'}"


# 5. WebSocket frames in DATA


@case("rfc8441/5/16", "Text is echoed", "RFC 8441, 5", handshake=False)
def rfc8441_5_16(conn: Connection) -> str:
    socket = Session(conn).websocket()
    for text in ("", "a", "grüße 🔔", "x" * 125, "x" * 126, "x" * 65535, "x" * 65536):
        socket.echoes(text.encode())
    return "7 messages"


@case("rfc8441/5/17", "Binary data is echoed", "RFC 8441, 5", handshake=False)
def rfc8441_5_17(conn: Connection) -> str:
    socket = Session(conn).websocket()
    for payload in (b"", bytes(range(256)), bytes(70000)):
        socket.echoes(payload, Opcode.BINARY)
    return "3 messages"


@case("rfc8441/5/18", "Ping is answered with Pong", "RFC 6455, 5.5.2", handshake=False)
def rfc8441_5_18(conn: Connection) -> str:
    socket = Session(conn).websocket()
    socket.send(Opcode.PING, b"are you there")
    if (pong := socket.receive("a Pong")).opcode != Opcode.PONG or pong.payload != b"are you there":
        raise Unmet(f"expected a Pong with the payload of the Ping; got {pong}")
    return str(pong)


@case("rfc8441/5/19", "Close is answered with Close, then the stream ends with END_STREAM", "RFC 8441, 5; RFC 6455, 5.5.1", handshake=False)
def rfc8441_5_19(conn: Connection) -> str:
    session = Session(conn)
    socket = session.websocket()
    socket.send(Opcode.CLOSE, close(1000))
    seen = socket.closes_with(1000)
    if not socket.stream.ended:
        raise Unmet(f"expected END_STREAM; got {seen}")
    session.is_alive()
    return seen


@case("rfc8441/5/20", "A frame may be spread over many DATA frames, of which some are empty or padded", "RFC 8441, 5", handshake=False)
def rfc8441_5_20(conn: Connection) -> str:
    session = Session(conn)
    socket = session.websocket()
    text = b"one byte at a time"
    for byte in masked_frame(Opcode.TEXT, text):
        conn.send(wire.data(socket.stream.id, bytes([byte])), wire.data(socket.stream.id, b""))
        conn.send(wire.data(socket.stream.id, b"", padding=3))
    if (echo := socket.receive_message("the echo")) != text:
        raise Unmet(f"expected {text!r}; got {echo!r}")
    return "echoed"


@case("rfc8441/5/21", "One DATA frame may hold several frames and the beginning of another", "RFC 8441, 5", handshake=False)
def rfc8441_5_21(conn: Connection) -> str:
    session = Session(conn)
    socket = session.websocket()
    texts = [b"first", b"second", b"third"]
    coded = b"".join(masked_frame(Opcode.TEXT, text) for text in texts)
    session.write(socket.stream, coded[:-4])
    session.write(socket.stream, coded[-4:])
    if (echoes := [socket.receive_message("an echo") for _ in texts]) != texts:
        raise Unmet(f"expected {texts}; got {echoes}")
    return "3 echoes"


@case("rfc8441/5/22", "A message in fragments, with a Ping among them, is echoed", "RFC 6455, 5.4", handshake=False)
def rfc8441_5_22(conn: Connection) -> str:
    socket = Session(conn).websocket()
    socket.send(Opcode.TEXT, b"frag", final=False)
    socket.send(Opcode.PING, b"between")
    socket.send(Opcode.CONTINUATION, b"ments")
    if (pong := socket.receive("a Pong")).opcode != Opcode.PONG:
        raise Unmet(f"expected a Pong; got {pong}")
    if (echo := socket.receive_message("the echo")) != b"fragments":
        raise Unmet(f"expected fragments; got {echo!r}")
    return "echoed"


@case("rfc8441/5/23", "A frame that is not masked closes with 1002", "RFC 6455, 5.1", handshake=False)
def rfc8441_5_23(conn: Connection) -> str:
    session = Session(conn)
    socket = session.websocket()
    socket.send(Opcode.TEXT, b"plain", masked=False)
    seen = socket.closes_with(1002)
    session.is_alive()
    return seen


@case("rfc8441/5/24", "A reserved bit closes with 1002", "RFC 6455, 5.2", handshake=False)
def rfc8441_5_24(conn: Connection) -> str:
    session = Session(conn)
    socket = session.websocket()
    socket.send(Opcode.TEXT, b"reserved", reserved=2)
    seen = socket.closes_with(1002)
    session.is_alive()
    return seen


@case("rfc8441/5/25", "Text that is not UTF-8 closes with 1007", "RFC 6455, 8.1", handshake=False)
def rfc8441_5_25(conn: Connection) -> str:
    session = Session(conn)
    socket = session.websocket()
    socket.send(Opcode.TEXT, b"\xc3\x28")
    seen = socket.closes_with(1007)
    session.is_alive()
    return seen


# 5. The end of a stream


@case("rfc8441/5/26", "END_STREAM is the end of the TCP connection: the server ends the stream as well", "RFC 8441, 5", handshake=False)
def rfc8441_5_26(conn: Connection) -> str:
    session = Session(conn)
    socket = session.websocket()
    socket.echoes(b"before")
    session.write(socket.stream, b"", end_stream=True)
    seen = socket.ends()
    session.websocket().echoes(b"another")
    return seen


@case("rfc8441/5/27", "END_STREAM with the last message: its echo comes before the end", "RFC 8441, 5", handshake=False)
def rfc8441_5_27(conn: Connection) -> str:
    session = Session(conn)
    socket = session.websocket()
    session.write(socket.stream, masked_frame(Opcode.TEXT, b"last") + masked_frame(Opcode.CLOSE, close(1000)), end_stream=True)
    if (echo := socket.receive_message("the echo")) != b"last":
        raise Unmet(f"expected last; got {echo!r}")
    seen = socket.closes_with(1000)
    session.is_alive()
    return seen


@case("rfc8441/5/28", "END_STREAM in the middle of a frame ends the stream", "RFC 8441, 5", handshake=False)
def rfc8441_5_28(conn: Connection) -> str:
    session = Session(conn)
    socket = session.websocket()
    session.write(socket.stream, masked_frame(Opcode.TEXT, b"not whole")[:-3], end_stream=True)
    seen = socket.ends()
    session.is_alive()
    return seen


@case("rfc8441/5/29", "RST_STREAM CANCEL is a TCP reset: only this WebSocket ends", "RFC 8441, 5", handshake=False)
def rfc8441_5_29(conn: Connection) -> str:
    session = Session(conn)
    first, second = session.websocket(), session.websocket()
    first.echoes(b"first")
    first.reset()
    second.echoes(b"second")
    session.websocket().echoes(b"third")
    return "the others go on"


@case("rfc8441/5/30", "A WebSocket that was reset gives its place back", "RFC 9113, 5.1.2", handshake=False)
def rfc8441_5_30(conn: Connection) -> str:
    session = Session(conn)
    count = min(conn.settings.get(Setting.MAX_CONCURRENT_STREAMS, 100), 200)
    for _ in range(2):
        sockets = [session.connect() for _ in range(count)]
        for socket in sockets:
            socket.is_open()
        for socket in sockets:
            socket.reset()
        session.round_trip()
    session.websocket().echoes(b"there is room")
    return f"twice {count} WebSockets"


@case("rfc8441/5/31", "A GOAWAY of the client does not end its WebSockets", "RFC 9113, 6.8", handshake=False)
def rfc8441_5_31(conn: Connection) -> str:
    session = Session(conn)
    socket = session.websocket()
    conn.send(wire.goaway(0, ErrorCode.NO_ERROR))
    socket.echoes(b"still here")
    socket.send(Opcode.CLOSE, close(1000))
    return socket.closes_with(1000)


# 5. Flow control


@case("rfc8441/5/32", "A large echo fits a small window", "RFC 9113, 5.2 and 6.9", handshake=False)
def rfc8441_5_32(conn: Connection) -> str:
    socket = Session(conn, window=1000).websocket()
    payload = bytes(range(256)) * 2000
    socket.echoes(payload, Opcode.BINARY)
    return f"{len(payload)} bytes through a window of 1000"


@case("rfc8441/5/33", "A window that opens byte by byte is used byte by byte", "RFC 9113, 6.9", handshake=False)
def rfc8441_5_33(conn: Connection) -> str:
    session = Session(conn, window=0)
    socket = session.websocket()
    socket.stream.returns_window = False
    socket.send(Opcode.TEXT, b"byte by byte")
    session.round_trip()
    for count in range(1, 2 + len(b"byte by byte") + 1):
        session.grant(socket.stream, 1)
        session.wait(f"byte {count}", lambda: len(socket.stream.body) == count)
    if (echo := socket.receive_message("the echo")) != b"byte by byte":
        raise Unmet(f"expected byte by byte; got {echo!r}")
    return "14 windows of 1"


@case("rfc8441/5/34", "A closed window of one WebSocket does not hold another one up", "RFC 9113, 5.2", handshake=False)
def rfc8441_5_34(conn: Connection) -> str:
    session = Session(conn)
    stopped, going = session.websocket(), session.websocket()
    stopped.stream.returns_window = False
    payload = bytes(60000)
    for _ in range(2):
        stopped.send(Opcode.BINARY, payload)
    session.wait("a full window", lambda: stopped.stream.receive_window == 0)
    going.echoes(b"on my way")
    session.grant(stopped.stream, 10 * len(payload))
    echoes = [stopped.receive_message("the echo") for _ in range(2)]
    if echoes != [payload, payload]:
        raise Unmet(f"expected two echoes of 60000 bytes; got {[len(echo) for echo in echoes]}")
    return "both echo"


@case("rfc8441/5/35", "Who does not read the echo cannot write without end", "RFC 9113, 10.5", handshake=False)
def rfc8441_5_35(conn: Connection) -> str:
    session = Session(conn, window=0)
    socket = session.websocket()
    coded = masked_frame(Opcode.BINARY, bytes(16000))
    sent, limit = 0, 16 << 20
    while sent < limit:
        if session.room(socket.stream) < len(coded):
            session.round_trip()
        if session.room(socket.stream) < len(coded) or socket.stream.over:
            break
        session.write(socket.stream, coded)
        sent += len(coded)
    else:
        raise Unmet(f"the server took {sent} bytes, and nobody has read their echo")
    # The answer to HEAD needs no window.
    if (answer := session.fetch("HEAD", conn.target.path)).status != "200":
        raise Unmet(f"the connection does not go on: {answer}")
    return f"stopped after {sent} bytes ({socket.stream})"


@case("rfc8441/5/36", "A closed window of the connection holds echoes up until it opens", "RFC 9113, 6.9", handshake=False)
def rfc8441_5_36(conn: Connection) -> str:
    session = Session(conn, window=1 << 20, connection_window=wire.WINDOW_DEFAULT)
    sockets = [session.websocket() for _ in range(2)]
    payload = bytes(60000)
    for socket in sockets:
        socket.send(Opcode.BINARY, payload)
    session.wait("a full window", lambda: session.receive_window == 0)
    session.round_trip()
    session.grant_connection(len(payload))
    for socket in sockets:
        if (echo := socket.receive_message("the echo")) != payload:
            raise Unmet(f"expected the echo of {len(payload)} bytes; got {len(echo)}")
    return "both echo"


# 5. Together with other streams


@case("rfc8441/5/37", "As many WebSockets as the server allows, on one connection", "RFC 9113, 5.1.2", handshake=False)
def rfc8441_5_37(conn: Connection) -> str:
    session = Session(conn)
    count = min(conn.settings.get(Setting.MAX_CONCURRENT_STREAMS, 100), 200)
    sockets = [session.connect() for _ in range(count)]
    for socket in sockets:
        socket.is_open()
    for number, socket in enumerate(sockets):
        socket.send(Opcode.TEXT, f"number {number}".encode())
    for number, socket in enumerate(sockets):
        if (echo := socket.receive_message("an echo")) != f"number {number}".encode():
            raise Unmet(f"expected number {number}; got {echo!r}")
    return f"{count} WebSockets"


@case("rfc8441/5/38", "WebSockets, an event stream and a poll at once on one connection", "RFC 8441, 1", handshake=False)
def rfc8441_5_38(conn: Connection) -> str:
    session = Session(conn)
    channel = f"conformance.http2.{time.time_ns()}"
    path = f"/v1/subscribe?channel={channel}"
    echoes = [session.websocket() for _ in range(3)]
    subscriber = session.websocket(path, [("sec-websocket-protocol", "tocsin.v1")])
    subscriber.receive_message("hello")
    events = session.request("GET", path, extra=[("accept", "text/event-stream")])
    session.wait("the event stream's hello", lambda: b"event: hello" in events.body or events.over)
    start = json.loads(session.fetch("GET", path).body)["position"]
    poll = session.request("GET", f"{path}&after={quote(start)}", extra=[("prefer", "wait=10")])
    session.round_trip()

    for number, socket in enumerate(echoes):
        socket.send(Opcode.TEXT, f"echo {number}".encode())
    published = session.fetch("POST", f"/v1/channels/{channel}", b'{"goal":1}', [("content-type", "application/json")])
    if published.status != "201":
        raise Unmet(f"the publication: expected status 201; got {published}")
    session.wait("the message on the event stream", lambda: b'{"goal":1}' in events.body or events.over)
    session.wait("the answer to the poll", lambda: poll.over)
    seen = {
        "WebSocket": subscriber.receive_message("the message on the WebSocket"),
        "event stream": bytes(events.body),
        "poll": bytes(poll.body),
    }
    if missing := [name for name, body in seen.items() if b'{"goal":1}' not in body]:
        raise Unmet(f"the message did not come by {', '.join(missing)}")
    for number, socket in enumerate(echoes):
        if (echo := socket.receive_message("an echo")) != f"echo {number}".encode():
            raise Unmet(f"expected echo {number}; got {echo!r}")
    conn.send(wire.rst_stream(events.id, ErrorCode.CANCEL))
    subscriber.send(Opcode.CLOSE, close(1000))
    subscriber.closes_with(1000)
    echoes[0].echoes(b"and on")
    return "all of them"
