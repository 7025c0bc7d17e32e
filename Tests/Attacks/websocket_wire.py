"""WebSocket by hand (RFC 6455): handshakes as they are wanted, and frames with an extension."""

import base64
import os
import struct
import zlib

from support import RawAnswer, RawWebSocket, connect

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def handshake(port, *fields, method="GET", path="/v1/subscribe", version="HTTP/1.1", without=(), body=b""):
    """The bytes of a handshake: the usual fields, without those named, and with those given."""
    usual = [("Host", f"127.0.0.1:{port}"), ("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Key", KEY),
             ("Sec-WebSocket-Version", "13")]
    kept = [field for field in usual if field[0] not in without]
    lines = "".join(f"{name}: {value}\r\n" for name, value in [*kept, *fields])
    return f"{method} {path} {version}\r\n{lines}\r\n".encode("latin-1") + body


def first_answer(port, data):
    """Sends bytes; answers the first answer as soon as it has come, or None if the server closes without one."""
    with connect(port) as raw:
        raw.sendall(data)
        received = b""
        while b"\r\n\r\n" not in received:
            piece = raw.recv(65536)
            if not piece:
                return None
            received += piece
        answer = RawAnswer(received)
        has_body = answer.status_code != 101 and not data.startswith(b"HEAD ")
        while has_body and len(answer.content) < int(answer.headers.get("content-length", 0)):
            received += raw.recv(65536)
            answer = RawAnswer(received)
        return answer


def refused(port, data):
    """The answer to a handshake that must not succeed."""
    answer = first_answer(port, data)
    assert answer is not None, "closed without an answer"
    assert answer.status_code != 101, "the handshake succeeded"
    return answer


class ExtendedWebSocket(RawWebSocket):
    """A client that offers extensions, and knows what the server chose."""

    def __init__(self, port, offer, path="/v1/subscribe"):
        self.raw = connect(port)
        self.raw.sendall(handshake(port, ("Sec-WebSocket-Extensions", offer), path=path).replace(
            KEY.encode(), base64.b64encode(os.urandom(16))))
        self.data = b""
        while b"\r\n\r\n" not in self.data:
            self.data += self._receive()
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        self.extensions = RawAnswer(head + b"\r\n\r\n").headers.get("sec-websocket-extensions", "")


def deflated(data, level=9):
    """A message in the form of permessage-deflate (RFC 7692, section 7.2.1)."""
    packer = zlib.compressobj(level, zlib.DEFLATED, -15)
    packed = packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)
    assert packed.endswith(b"\x00\x00\xff\xff")
    return packed[:-4]


def bomb(mebibytes):
    """So many MiB of spaces, a thousandth of that in deflated form, made piece by piece."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = b" " * (1 << 20)
    packed = b"".join(packer.compress(piece) for _ in range(mebibytes)) + packer.flush(zlib.Z_SYNC_FLUSH)
    return packed[:-4]


def header(opcode, declared, form=None, first=None, masked=True):
    """A frame header with a length of so many bytes, in the form of 7, 16 or 64 bits; the payload may never come."""
    first = 0x80 | opcode if first is None else first
    form = form or (7 if declared < 126 else 16 if declared < 65536 else 64)
    bit = 0x80 if masked else 0
    length = {7: lambda: struct.pack("!B", bit | declared), 16: lambda: struct.pack("!BH", bit | 126, declared),
              64: lambda: struct.pack("!BQ", bit | 127, declared)}[form]()
    return bytes([first]) + length + (b"\0\0\0\0" if masked else b"")


def masked(opcode, payload=b"", first=None):
    """A frame masked with zeros."""
    payload = payload.encode() if isinstance(payload, str) else payload
    return header(opcode, len(payload), first=first) + payload


def part(opcode, payload=b""):
    """A frame that is not the last of its message."""
    return masked(opcode, payload, first=opcode)
