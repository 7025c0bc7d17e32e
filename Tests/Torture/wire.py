"""HTTP/1.1, WebSocket and SSE over asyncio streams: only what a client of Docs/protocol.md needs, on the standard library."""

import asyncio
import base64
import codecs
import hashlib
import json
import os
import socket
import struct

HOST = "127.0.0.1"
WEBSOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Broken(Exception):
    """The connection ended, or the server said that it will not go on with it."""


class Malformed(Exception):
    """The server sent something that the protocol does not allow."""


class Refused(Exception):
    """An answer that is not the hoped-for status."""

    def __init__(self, status, body):
        super().__init__(f"{status} {body[:200]!r}")
        self.status = status


class Connection:
    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port, receive_buffer=None):
        sock = socket.socket()
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if receive_buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            async with asyncio.timeout(10):
                await asyncio.get_running_loop().sock_connect(sock, (HOST, port))
                return cls(*await asyncio.open_connection(sock=sock))
        except BaseException:
            sock.close()
            raise

    def abort(self):
        """Ends without a farewell; what was not read is lost, which is what a crashed client does."""
        self.writer.transport.abort()

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def read_head(self):
        line = await self.reader.readline()
        if not line.endswith(b"\n"):
            raise Broken("ended before the status line")
        parts = line.decode("latin-1").split(None, 2)
        if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
            raise Malformed(f"status line {line!r}")
        fields = {}
        while True:
            line = await self.reader.readline()
            if not line.endswith(b"\n"):
                raise Broken("ended in the head")
            line = line.decode("latin-1").strip()
            if not line:
                return int(parts[1]), fields
            name, _, value = line.partition(":")
            fields[name.lower()] = value.strip()

    async def chunk(self):
        """One chunk of a chunked body; empty at the end."""
        line = await self.reader.readline()
        if not line.endswith(b"\n"):
            raise Broken("ended between chunks")
        size = int(line.split(b";")[0], 16)
        data = await self.reader.readexactly(size + 2)
        if data[size:] != b"\r\n":
            raise Malformed("chunk without its end")
        return data[:size]

    async def read_body(self, fields):
        if "chunked" in fields.get("transfer-encoding", ""):
            pieces = []
            while piece := await self.chunk():
                pieces.append(piece)
            return b"".join(pieces)
        if "content-length" in fields:
            return await self.reader.readexactly(int(fields["content-length"]))
        return await self.reader.read()

    async def ask(self, method, target, fields=(), body=None):
        """One request and its answer on a connection that stays open."""
        await self.send(request(method, target, fields, body))
        status, answer = await self.read_head()
        return status, answer, await self.read_body(answer)


def request(method, target, fields=(), body=None):
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in fields)]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


async def ask_once(port, method, target, fields=(), body=None, seconds=20):
    connection = await Connection.open(port)
    try:
        async with asyncio.timeout(seconds):
            status, _, answer = await connection.ask(method, target, fields, body)
    finally:
        connection.abort()
    if status != 200:
        raise Refused(status, answer)
    return json.loads(answer)


class WebSocket:
    """RFC 6455, client side."""

    def __init__(self, connection):
        self.connection = connection

    async def shake_hands(self, target):
        key = base64.b64encode(os.urandom(16)).decode()
        fields = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", key)]
        await self.connection.send(request("GET", target, fields))
        status, answer = await self.connection.read_head()
        if status != 101:
            raise Refused(status, await self.connection.read_body(answer))
        expected = base64.b64encode(hashlib.sha1((key + WEBSOCKET_GUID).encode()).digest()).decode()
        if answer.get("sec-websocket-accept") != expected:
            raise Malformed("wrong Sec-WebSocket-Accept")

    async def send(self, opcode, data):
        mask = os.urandom(4)
        size = len(data)
        length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + struct.pack("!H", size)
        masked = bytes(byte ^ mask[i & 3] for i, byte in enumerate(data))
        await self.connection.send(bytes([0x80 | opcode]) + length + mask + masked)

    async def text(self, heard):
        """The next text message; pings are answered on the way, `heard` is told of each frame."""
        reader, pieces = self.connection.reader, []
        while True:
            first, second = await reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                size, = struct.unpack("!H", await reader.readexactly(2))
            elif size == 127:
                size, = struct.unpack("!Q", await reader.readexactly(8))
            if second & 0x80 or first & 0x70:
                raise Malformed("a masked frame, or reserved bits")
            data = await reader.readexactly(size) if size else b""
            heard()
            opcode = first & 0x0F
            if opcode == 9:
                await self.send(10, data)
            elif opcode == 8:
                raise Broken(f"closed with {struct.unpack('!H', data[:2])[0] if len(data) >= 2 else 'no code'}")
            elif opcode in (0, 1):
                if (opcode == 0) != bool(pieces):
                    raise Malformed("a continuation out of place")
                pieces.append(data)
                if first & 0x80:
                    return b"".join(pieces).decode()
            elif opcode != 10:
                raise Malformed(f"opcode {opcode}")


class EventStream:
    """The SSE parser of the HTML standard: bytes in, (type, data, last event id) out."""

    def __init__(self):
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.rest, self.after_cr = "", False
        self.kind, self.data, self.last_id = "", [], ""

    def feed(self, data):
        text = self.decoder.decode(data)
        # A CR at the end of what came is an end of line; the LF that may follow in the next piece belongs to it.
        if self.after_cr and text:
            text, self.after_cr = text.removeprefix("\n"), False
        self.after_cr = self.after_cr or text.endswith("\r")
        lines = (self.rest + text.replace("\r\n", "\n").replace("\r", "\n")).split("\n")
        self.rest = lines.pop()
        events = []
        for line in lines:
            if not line:
                if self.data:
                    events.append((self.kind or "message", "\n".join(self.data), self.last_id))
                self.kind, self.data = "", []
                continue
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                self.data.append(value)
            elif name == "event":
                self.kind = value
            elif name == "id" and "\0" not in value:
                self.last_id = value
        return events
