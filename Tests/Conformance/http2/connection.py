"""A connection to the server under test, as a client that may break any rule.

What is sent are bytes (see `wire`). What comes is read as frames, one at a time; each wait for the next one is bounded,
and so is the whole connection. Header blocks of the server are always decoded, since each one changes the tables.
"""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from hpack import Decoder, Encoder, HPACKError
from hyperframe import frame as frames
from hyperframe.exceptions import HyperframeError

from . import wire
from .wire import Setting

# No case needs so long, unless the server sends without end.
CONNECTION_SECONDS_MAX = 30.0


class Unmet(Exception):
    """What the case expects did not happen; the text says what did."""


class Closed:
    """The server closed the TCP connection, with FIN or with RST."""


class Silence:
    """Nothing came for as long as the target's timeout."""


Event = frames.Frame | Closed | Silence


@dataclass(frozen=True)
class Target:
    """The server under test, and how its answers are judged."""

    host: str
    port: int
    path: str = "/"
    tls: bool = False
    timeout_seconds: float = 2.0
    exact: bool = False

    @staticmethod
    def at(url: str, tls: bool, timeout_seconds: float, exact: bool) -> "Target":
        parts = urlsplit(url)
        if parts.hostname is None or parts.scheme not in ("http", "https"):
            raise ValueError(f"not an http or https URL: {url}")
        tls = tls or parts.scheme == "https"
        return Target(parts.hostname, parts.port or (443 if tls else 80), parts.path or "/", tls, timeout_seconds, exact)

    @property
    def scheme(self) -> str:
        return "https" if self.tls else "http"

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    def fields(self, method: str = "GET", path: str | None = None) -> list[tuple[str, str]]:
        """The pseudo-header fields of a request, in h2spec's order."""
        path = self.path if path is None else path
        return [(":method", method), (":scheme", self.scheme), (":path", path), (":authority", self.authority)]


def describe(event: Event) -> str:
    match event:
        case Closed():
            return "connection closed"
        case Silence():
            return "silence"
        case frames.GoAwayFrame():
            said = f" ({event.additional_data.decode('latin-1')})" if event.additional_data else ""
            return f"GOAWAY {wire.error_name(event.error_code)}{said}"
        case frames.RstStreamFrame():
            return f"RST_STREAM {wire.error_name(event.error_code)} on stream {event.stream_id}"
        case frames.Frame() if event.type not in wire.FrameType._value2member_map_:
            return f"frame of type {event.type}"
        case _:
            name = wire.FrameType(event.type).name
            return f"{name} ({event.body_len} bytes, flags {sorted(event.flags)}, stream {event.stream_id})"


class Connection:
    def __init__(self, target: Target):
        self.target = target
        self.deadline = time.monotonic() + CONNECTION_SECONDS_MAX
        self.settings: dict[int, int] = {}
        self.encoder = Encoder()
        # Whether DATA is answered with WINDOW_UPDATE once a window is used up.
        self.returns_windows = True
        # The header list that came last.
        self.header_list: list[tuple[str, str]] = []
        # What may be sent on the connection as a whole; who sends much takes it off.
        self.send_window = wire.WINDOW_DEFAULT
        self._decoder = Decoder()
        self._block = b""
        self._windows: dict[int, int] = {}
        self._buffer = bytearray()
        self._end: Closed | None = None
        self._socket = self._connect()

    def _connect(self) -> socket.socket:
        plain = socket.create_connection((self.target.host, self.target.port), timeout=self.target.timeout_seconds)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self.target.tls:
            return plain
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.set_alpn_protocols(["h2"])
            secured = context.wrap_socket(plain, server_hostname=self.target.host)
        except BaseException:
            plain.close()
            raise
        if secured.selected_alpn_protocol() != "h2":
            chosen = secured.selected_alpn_protocol()
            secured.close()
            raise Unmet(f"the server did not choose h2 by ALPN, but {chosen}")
        return secured

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    # Sending.

    def send(self, *parts: bytes) -> None:
        """Sends the bytes. A connection that the server has closed shows when it is read from."""
        try:
            self._socket.settimeout(self.target.timeout_seconds)
            self._socket.sendall(b"".join(parts))
        except TimeoutError:
            raise Unmet("the server does not read") from None
        except (ConnectionError, ssl.SSLError):
            pass

    def block(self, fields: list[tuple[str, str]]) -> bytes:
        """A header block; later blocks rely on it, so it has to be sent, and in this order."""
        return self.encoder.encode(fields)

    def request(self, stream: int = 1, method: str = "GET", end_stream: bool = True, extra: list[tuple[str, str]] | None = None) -> None:
        self.send(wire.headers(stream, self.block(self.target.fields(method) + (extra or [])), end_stream))

    def handshake(self, *settings: tuple[int, int]) -> None:
        """Exchanges the prefaces (RFC 9113, 3.4), and waits until either side's SETTINGS are acknowledged."""
        self.send(wire.PREFACE, wire.settings(*(settings or ((Setting.INITIAL_WINDOW_SIZE, wire.WINDOW_DEFAULT),))))
        theirs = ours = False
        while not (theirs and ours):
            event = self.next_event()
            match event:
                case frames.SettingsFrame() if "ACK" in event.flags:
                    ours = True
                case frames.SettingsFrame():
                    self.settings.update(event.settings)
                    theirs = True
                    self.send(wire.settings_ack())
                case Closed() | Silence():
                    raise Unmet(f"no handshake: {describe(event)}")

    @property
    def frame_bytes_max(self) -> int:
        return self.settings.get(Setting.MAX_FRAME_SIZE, wire.FRAME_BYTES_DEFAULT)

    # Receiving.

    def next_event(self) -> Event:
        until = time.monotonic() + self.target.timeout_seconds
        header = self._take(9, until)
        if isinstance(header, (Closed, Silence)):
            return header
        try:
            event, length = frames.Frame.parse_frame_header(memoryview(header))
            if length > wire.FRAME_BYTES_DEFAULT:
                raise Unmet(f"a frame of {length} bytes, which is more than was allowed")
            body = self._take(length, until)
            if isinstance(body, (Closed, Silence)):
                return body
            event.parse_body(memoryview(body))
        except HyperframeError as error:
            raise Unmet(f"the server sent a malformed frame: {error!r}") from error
        self._note(event)
        return event

    def _take(self, count: int, until: float) -> bytes | Closed | Silence:
        while len(self._buffer) < count:
            ended = self._fill(until)
            if ended is not None:
                return ended
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _fill(self, until: float) -> Closed | Silence | None:
        if self._end is not None:
            return self._end
        now = time.monotonic()
        if now >= self.deadline:
            raise Unmet(f"not over after {CONNECTION_SECONDS_MAX:.0f} seconds")
        try:
            self._socket.settimeout(max(0.001, min(until, self.deadline) - now))
            received = self._socket.recv(65536)
        except TimeoutError:
            return Silence()
        except (ConnectionError, ssl.SSLError):
            received = b""
        if not received:
            self._end = Closed()
            return self._end
        self._buffer += received
        return None

    def read_until_closed(self) -> bytes | None:
        """What the server says before it closes the connection, whatever protocol that is; None if it does not close."""
        until = time.monotonic() + self.target.timeout_seconds
        while True:
            match self._fill(until):
                case Closed():
                    return bytes(self._buffer)
                case Silence():
                    return None

    def _note(self, event: frames.Frame) -> None:
        match event:
            case frames.WindowUpdateFrame() if event.stream_id == 0:
                self.send_window += event.window_increment
            case frames.HeadersFrame() | frames.ContinuationFrame() | frames.PushPromiseFrame():
                self._block += event.data
                if "END_HEADERS" in event.flags:
                    try:
                        self.header_list = [(str(name), str(value)) for name, value in self._decoder.decode(self._block)]
                    except HPACKError as error:
                        raise Unmet(f"the server sent a malformed header block: {error!r}") from error
                    self._block = b""
            case frames.DataFrame() if self.returns_windows:
                for stream in (event.stream_id, 0):
                    left = self._windows.get(stream, wire.WINDOW_DEFAULT) - event.flow_controlled_length
                    if left <= 0:
                        self.send(wire.window_update(stream, wire.WINDOW_DEFAULT - left))
                        left = wire.WINDOW_DEFAULT
                    self._windows[stream] = left

    def status(self) -> str | None:
        """`:status` of the header list that came last."""
        return dict(self.header_list).get(":status")
