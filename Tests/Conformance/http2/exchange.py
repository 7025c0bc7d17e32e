"""Many streams on one connection: what came for each of them, WebSockets among them, and honest flow control both ways.

A `Session` reads the connection and sorts what comes by stream; a case waits until something holds of one of them.
Here the client keeps the rules, and the server is held to them: what it sends beyond a window fails the case.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from hyperframe import frame as frames

from . import wire
from .connection import Closed, Connection, Silence, Unmet, describe
from .wire import ErrorCode, Setting

# Everything that a case buffers is far below this.
WINDOW_LARGE = 1 << 24


@dataclass
class Stream:
    id: int
    # What the client may still send, and what it allows the server to send.
    send_window: int
    receive_window: int
    # WINDOW_UPDATE follows each DATA; else the case opens the window itself.
    returns_window: bool = True
    headers: list[tuple[str, str]] | None = None
    trailers: list[tuple[str, str]] | None = None
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    reset: int | None = None

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers or [] if key == name]

    @property
    def status(self) -> str:
        return (self.values(":status") or ["none"])[0]

    def __str__(self) -> str:
        said = "no answer" if self.headers is None else f"status {self.status}"
        said += f", {len(self.body)} bytes" if self.body else ""
        said += ", END_STREAM" if self.ended else ""
        said += f", RST_STREAM {wire.error_name(self.reset)}" if self.reset is not None else ""
        return said


class Session:
    """The preface is sent by this: the connection comes fresh."""

    def __init__(self, conn: Connection, window: int = wire.WINDOW_DEFAULT, connection_window: int = WINDOW_LARGE):
        self.conn = conn
        self.streams: dict[int, Stream] = {}
        self.window = window
        self.receive_window = wire.WINDOW_DEFAULT
        self.returns_window = connection_window == WINDOW_LARGE
        self.goaway: frames.GoAwayFrame | None = None
        self.pongs: list[bytes] = []
        self.settings_seen: list[dict[int, int]] = []
        self._next_id = 1
        conn.returns_windows = False
        conn.handshake((Setting.INITIAL_WINDOW_SIZE, window))
        self.settings_seen.append(dict(conn.settings))
        if connection_window > self.receive_window:
            self.grant_connection(connection_window - self.receive_window)

    # Reading.

    def wait(self, expected: str, is_met: Callable[[], bool]) -> None:
        """Reads until `is_met`, at the latest until nothing more comes."""
        while not is_met():
            event = self.conn.next_event()
            if isinstance(event, (Closed, Silence)):
                goaway = f" after {describe(self.goaway)}" if self.goaway else ""
                streams = "; ".join(f"stream {stream.id}: {stream}" for stream in list(self.streams.values())[-4:])
                raise Unmet(f"expected {expected}; got {describe(event)}{goaway} ({streams})")
            self._take(event)

    def round_trip(self) -> None:
        """Reads what the server had to say so far. Twice, since the answer to PING may overtake other frames (RFC 9113, 6.7)."""
        for _ in range(2):
            payload = os.urandom(8)
            self.conn.send(wire.ping(payload))
            self.wait("PING with ACK", lambda: payload in self.pongs)

    def _take(self, event: frames.Frame) -> None:
        match event:
            case frames.SettingsFrame() if "ACK" not in event.flags:
                self.settings_seen.append(dict(event.settings))
                difference = event.settings.get(Setting.INITIAL_WINDOW_SIZE, self._initial) - self._initial
                self.conn.settings.update(event.settings)
                for stream in self.streams.values():
                    stream.send_window += difference
                self.conn.send(wire.settings_ack())
            case frames.PingFrame() if "ACK" in event.flags:
                self.pongs.append(event.opaque_data)
            case frames.PingFrame():
                self.conn.send(wire.ping(event.opaque_data, ack=True))
            case frames.GoAwayFrame():
                self.goaway = event
            case frames.PushPromiseFrame():
                raise Unmet("the server pushes")
            case _ if event.stream_id in self.streams:
                self._take_of_stream(event, self.streams[event.stream_id])
            case frames.DataFrame() | frames.HeadersFrame():
                raise Unmet(f"{describe(event)}, on a stream that was never opened")

    def _take_of_stream(self, event: frames.Frame, stream: Stream) -> None:
        if stream.ended and isinstance(event, (frames.DataFrame, frames.HeadersFrame)):
            raise Unmet(f"{describe(event)} after END_STREAM")
        match event:
            case frames.WindowUpdateFrame():
                stream.send_window += event.window_increment
            case frames.RstStreamFrame():
                stream.reset = event.error_code
            case frames.HeadersFrame() | frames.ContinuationFrame():
                if "END_HEADERS" in event.flags:
                    if stream.headers is None or stream.status.startswith("1"):
                        stream.headers = self.conn.header_list
                    else:
                        stream.trailers = self.conn.header_list
            case frames.DataFrame():
                self._take_data(event, stream)
        if "END_STREAM" in event.flags:
            stream.ended = True

    def _take_data(self, event: frames.DataFrame, stream: Stream) -> None:
        if stream.headers is None:
            raise Unmet(f"{describe(event)} before the answer's head")
        length = event.flow_controlled_length
        stream.body += event.data
        stream.receive_window -= length
        self.receive_window -= length
        if stream.receive_window < 0 or self.receive_window < 0:
            raise Unmet(f"{describe(event)}: more than the window allows")
        if length and stream.returns_window and "END_STREAM" not in event.flags:
            self.grant(stream, length)
        if self.returns_window and self.receive_window < WINDOW_LARGE // 2:
            self.grant_connection(WINDOW_LARGE - self.receive_window)

    @property
    def _initial(self) -> int:
        return self.conn.settings.get(Setting.INITIAL_WINDOW_SIZE, wire.WINDOW_DEFAULT)

    # Writing.

    def grant(self, stream: Stream, count: int) -> None:
        stream.receive_window += count
        self.conn.send(wire.window_update(stream.id, count))

    def grant_connection(self, count: int) -> None:
        self.receive_window += count
        self.conn.send(wire.window_update(0, count))

    def open(self, fields: list[tuple[str, str]], end_stream: bool) -> Stream:
        stream = Stream(self._next_id, self._initial, self.window)
        self._next_id += 2
        self.streams[stream.id] = stream
        self.conn.send(wire.headers(stream.id, self.conn.block(fields), end_stream))
        return stream

    def request(self, method: str, path: str, body: bytes | None = None, extra: list[tuple[str, str]] | None = None) -> Stream:
        stream = self.open(self.conn.target.fields(method, path) + (extra or []), end_stream=body is None)
        if body is not None:
            self.write(stream, body, end_stream=True)
        return stream

    def write(self, stream: Stream, payload: bytes, end_stream: bool = False) -> None:
        """DATA as the windows allow, waiting for them to open."""
        at = 0
        while True:
            if at < len(payload):
                self.wait("WINDOW_UPDATE", lambda: self.room(stream) > 0 or stream.over)
            if stream.over:
                return
            part = payload[at : at + min(self.room(stream), self.conn.frame_bytes_max)]
            at += len(part)
            stream.send_window -= len(part)
            self.conn.send_window -= len(part)
            self.conn.send(wire.data(stream.id, part, end_stream=end_stream and at == len(payload)))
            if at == len(payload):
                return

    def room(self, stream: Stream) -> int:
        return min(stream.send_window, self.conn.send_window)

    def fetch(self, method: str, path: str, body: bytes | None = None, extra: list[tuple[str, str]] | None = None) -> Stream:
        """A request and its whole answer."""
        stream = self.request(method, path, body, extra)
        self.wait(f"an answer to {method} {path}", lambda: stream.over)
        return stream

    def is_alive(self) -> None:
        """The connection still serves requests."""
        if (answer := self.fetch("GET", self.conn.target.path)).status != "200":
            raise Unmet(f"the connection does not go on: {answer}")

    # WebSockets (RFC 8441, 5).

    def connect(self, path: str = "/echo", extra: list[tuple[str, str]] | None = None, version: str = "13") -> "WebSocket":
        """Sends the CONNECT and does not wait for its answer."""
        fields = connect_fields(self.conn, path) + [("sec-websocket-version", version)] + (extra or [])
        return WebSocket(self, self.open(fields, end_stream=False))

    def websocket(self, path: str = "/echo", extra: list[tuple[str, str]] | None = None) -> "WebSocket":
        """An open WebSocket."""
        socket = self.connect(path, extra)
        socket.is_open()
        return socket


def connect_fields(conn: Connection, path: str = "/echo", protocol: str = "websocket") -> list[tuple[str, str]]:
    """The pseudo-header fields of an extended CONNECT (RFC 8441, 4)."""
    return conn.target.fields("CONNECT", path) + [(":protocol", protocol)]


class Opcode(IntEnum):
    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


@dataclass(frozen=True)
class Message:
    """A frame, since the cases have no need to join fragments that the server may choose to send."""

    opcode: int
    payload: bytes
    final: bool = True
    compressed: bool = False

    @property
    def close_code(self) -> int | None:
        return struct.unpack(">H", self.payload[:2])[0] if self.opcode == Opcode.CLOSE and len(self.payload) >= 2 else None

    def __str__(self) -> str:
        name = Opcode(self.opcode).name if self.opcode in Opcode._value2member_map_ else f"opcode {self.opcode}"
        code = f" {self.close_code}" if self.opcode == Opcode.CLOSE else ""
        return f"{name}{code} of {len(self.payload)} bytes"


def masked_frame(opcode: int, payload: bytes = b"", final: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    """A WebSocket frame of a client (RFC 6455, 5.2). `reserved`: RSV1 to RSV3, RSV1 being 4."""
    head = bytes([(0x80 if final else 0) | reserved << 4 | opcode])
    bit = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes([bit | len(payload)])
    elif len(payload) < 1 << 16:
        head += struct.pack(">BH", bit | 126, len(payload))
    else:
        head += struct.pack(">BQ", bit | 127, len(payload))
    if not masked:
        return head + payload
    key = os.urandom(4)
    repeated = key * (len(payload) // 4 + 1)
    count = len(payload)
    coded = int.from_bytes(payload, "big") ^ int.from_bytes(repeated[:count], "big")
    return head + key + coded.to_bytes(count, "big")


class WebSocket:
    def __init__(self, session: Session, stream: Stream):
        self.session = session
        self.stream = stream

    def is_open(self) -> None:
        self.session.wait("an answer to CONNECT", lambda: self.stream.headers is not None or self.stream.over)
        if self.stream.status != "200" or self.stream.over:
            raise Unmet(f"expected status 200 and an open stream; got {self.stream}")

    def send(self, opcode: int, payload: bytes = b"", **options: bool | int) -> None:
        self.session.write(self.stream, masked_frame(opcode, payload, **options))

    def _parse(self) -> tuple[Message, int] | None:
        """The first frame of what has come, and its length; None if it is not whole."""
        body = self.stream.body
        if len(body) < 2:
            return None
        length, at = body[1] & 0x7F, 2
        if body[1] & 0x80:
            raise Unmet("the server masks its frames")
        if length >= 126:
            at = 4 if length == 126 else 10
            if len(body) < at:
                return None
            length = int.from_bytes(body[2:at], "big")
        if len(body) < at + length:
            return None
        message = Message(body[0] & 0xF, bytes(body[at : at + length]), bool(body[0] & 0x80), bool(body[0] & 0x40))
        return message, at + length

    def frames(self) -> Iterator[Message]:
        """The frames that have come and have not been taken."""
        while (parsed := self._parse()) is not None:
            del self.stream.body[: parsed[1]]
            yield parsed[0]

    def receive(self, expected: str = "a WebSocket frame") -> Message:
        self.session.wait(expected, lambda: self._parse() is not None or self.stream.over)
        for message in self.frames():
            return message
        raise Unmet(f"expected {expected}; got {self.stream}")

    def receive_message(self, expected: str = "a message") -> bytes:
        """The payload of a whole message; fragments are joined."""
        payload, final = b"", False
        while not final:
            message = self.receive(expected)
            if message.opcode > Opcode.BINARY:
                raise Unmet(f"expected {expected}; got {message}")
            payload += message.payload
            final = message.final
        return payload

    def echoes(self, payload: bytes, opcode: int = Opcode.TEXT) -> None:
        self.send(opcode, payload)
        if (echo := self.receive_message(f"the echo of {len(payload)} bytes")) != payload:
            raise Unmet(f"expected the echo of {payload[:40]!r}; got {echo[:40]!r} of {len(echo)} bytes")

    def closes_with(self, *codes: int) -> str:
        """The server sends a Close frame with one of the codes, and nothing after it, and ends the stream."""
        message = self.receive(f"Close {codes[0]}")
        if message.close_code not in codes:
            raise Unmet(f"expected Close {codes[0]}; got {message}")
        self.session.wait("the end of the stream", lambda: self.stream.over)
        for after in self.frames():
            raise Unmet(f"{after} after the Close frame")
        return f"Close {message.close_code}, {self.stream}"

    def ends(self) -> str:
        self.session.wait("the end of the stream", lambda: self.stream.over)
        return str(self.stream)

    def reset(self) -> None:
        self.session.conn.send(wire.rst_stream(self.stream.id, ErrorCode.CANCEL))
        self.stream.reset = ErrorCode.CANCEL
