"""Shows that each case can fail: against one defective server or another, every case of the table has to.

    python3 -m http2.selftest

The servers keep to the form of HTTP/2, and to nothing else.
"""

from __future__ import annotations

import socket
import struct
import sys
import threading
from collections.abc import Callable

from hpack import Encoder

from . import wire
from .table import CASES, Target, run
from .wire import FrameType

# Silence is what most of the defects look like.
TIMEOUT_SECONDS = 0.15

PREFACE_SETTING = (wire.Setting.INITIAL_WINDOW_SIZE, wire.WINDOW_DEFAULT)

# What a server does with one frame: the bytes of its answer, or None to close the connection.
Manners = Callable[[int, int, int, bytes], bytes | None]


def acknowledge(kind: int, flags: int, payload: bytes) -> bytes:
    """What the handshake of a case needs."""
    return wire.settings_ack() if kind == FrameType.SETTINGS and not flags & 1 and len(payload) % 6 == 0 else b""


def deaf(kind: int, flags: int, stream: int, payload: bytes) -> bytes | None:
    """Acknowledges SETTINGS, and says nothing more."""
    return acknowledge(kind, flags, payload)


def forgetful(kind: int, flags: int, stream: int, payload: bytes) -> bytes | None:
    """Acknowledges the SETTINGS of the preface only."""
    return wire.settings_ack() if kind == FrameType.SETTINGS and wire.settings(PREFACE_SETTING).endswith(payload) and payload else b""


def hasty(kind: int, flags: int, stream: int, payload: bytes) -> bytes | None:
    """Closes the connection at whatever is no SETTINGS."""
    return acknowledge(kind, flags, payload) if kind == FrameType.SETTINGS else None


def obliging(kind: int, flags: int, stream: int, payload: bytes) -> bytes | None:
    """Answers every HEADERS and every DATA with 200 and more bytes than any window holds, and every PING."""
    if kind == FrameType.PING:
        return wire.ping(payload.ljust(8, b"\0")[:8], ack=True)
    if kind in (FrameType.HEADERS, FrameType.DATA) and stream:
        block = Encoder().encode([(":status", "200"), ("connection", "upgrade")])
        head = wire.headers(stream, block, end_stream=False) if kind == FrameType.HEADERS else b""
        return head + wire.data(stream, bytes(1000)) * 70 + wire.data(stream, b"", end_stream=True)
    return acknowledge(kind, flags, payload)


def tunnelling(kind: int, flags: int, stream: int, payload: bytes) -> bytes | None:
    """Answers every HEADERS with 200, and sends DATA back as it came."""
    if kind == FrameType.PING:
        return wire.ping(payload.ljust(8, b"\0")[:8], ack=True)
    if kind == FrameType.HEADERS and stream:
        return wire.headers(stream, Encoder().encode([(":status", "200")]), end_stream=False)
    if kind == FrameType.DATA and stream:
        return wire.window_update(stream, len(payload)) * bool(payload) + wire.data(stream, payload, end_stream=bool(flags & 1))
    return acknowledge(kind, flags, payload)


class Server:
    """A server of these manners on a free port; one connection at a time, as the cases come one at a time."""

    def __init__(self, manners: Manners, greeting: bytes):
        self.manners = manners
        self.greeting = greeting
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def __enter__(self) -> "Server":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()

    def _accept(self) -> None:
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn: socket.socket) -> None:
        conn.settimeout(10)
        with conn:
            try:
                self._talk(conn)
            except (OSError, struct.error):
                pass

    def _talk(self, conn: socket.socket) -> None:
        source = conn.makefile("rb")
        if not source.read(len(wire.PREFACE)):
            return
        conn.sendall(self.greeting)
        while len(head := source.read(9)) == 9:
            length, kind, flags, stream = struct.unpack(">I", b"\0" + head[:3])[0], head[3], head[4], struct.unpack(">I", head[5:])[0]
            answer = self.manners(kind, flags, stream & 0x7FFF_FFFF, source.read(length))
            if answer is None:
                return
            conn.sendall(answer)


SETTINGS = wire.settings((wire.Setting.MAX_CONCURRENT_STREAMS, 10))
SERVERS = {
    "deaf": (deaf, SETTINGS, list(CASES)),
    "hasty": (hasty, SETTINGS, list(CASES)),
    "obliging": (obliging, SETTINGS, list(CASES)),
    "tunnelling": (tunnelling, SETTINGS, list(CASES)),
    "forgetful": (forgetful, SETTINGS, ["generic/3.5/1", "http2/6.5.3/2"]),
    # Against this one any case would fail that waits for the preface.
    "without a preface": (deaf, wire.settings_ack(), ["generic/1/1", "http2/3.5/1"]),
}


def main() -> int:
    never_failed = set(CASES)
    for name, (manners, greeting, ids) in SERVERS.items():
        with Server(manners, greeting) as server:
            target = Target("127.0.0.1", server.port, timeout_seconds=TIMEOUT_SECONDS)
            results = {id: run(CASES[id], target) for id in ids}
        if broken := [f"{id}: {detail}" for id, (_, detail) in results.items() if "the case is broken" in detail]:
            print(f"{name}: broken cases\n" + "\n".join(broken))
            return 1
        failed = {id for id, (passed, _) in results.items() if not passed}
        print(f"{name}: {len(failed)} of {len(results)} cases fail", flush=True)
        never_failed -= failed
    if never_failed:
        print("against no defective server fail: " + ", ".join(sorted(never_failed)))
        return 1
    print(f"each of the {len(CASES)} cases can fail")
    return 0


if __name__ == "__main__":
    sys.exit(main())
