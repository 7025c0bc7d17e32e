"""HTTP/1.1 and WebSocket as a client sees them, on asyncio's streams: enough to tell exactly what a proxy does, and when.

Each request has a connection of its own, which may go through a forward proxy: requests in absolute form, WebSockets through CONNECT.
"""

import asyncio
import base64
import contextlib
import json
import os
import struct
import time
import urllib.parse
from dataclasses import dataclass

HEAD_BYTES_MAX = 64 * 1024
FRAME_BYTES_MAX = 16 * 1024 * 1024


def milliseconds():
    """Milliseconds since 1970, as the clients of all kinds count them."""
    return time.time() * 1000


class WireFault(Exception):
    """How a request failed, in words for people."""


@dataclass(frozen=True)
class Route:
    """How the server is reached: its URL as the client writes it, and the forward proxy on the way, if there is one."""

    url: str
    forward: str | None = None

    @property
    def authority(self):
        return urllib.parse.urlsplit(self.url).netloc

    def peer(self):
        """The host and port to connect to."""
        parts = urllib.parse.urlsplit(self.forward or self.url)
        return parts.hostname, parts.port

    def target(self, path):
        """What the request line names: proxies are told the whole URL."""
        return self.url + path if self.forward else path


class Connection:
    """A connection for one request."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, route):
        host, port = route.peer()
        try:
            return cls(*await asyncio.open_connection(host, port, limit=HEAD_BYTES_MAX))
        except OSError as fault:
            raise WireFault(f"no connection: {fault.strerror or fault}") from None

    def close(self):
        self.writer.transport.abort()

    async def send(self, data):
        self.writer.write(data)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def read_head(self):
        """The status and the fields of an answer."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as fault:
            raise WireFault("closed within the head" if fault.partial else "closed without an answer") from None
        except ConnectionError:
            raise WireFault("reset without an answer") from None
        except asyncio.LimitOverrunError:
            raise WireFault("an answer with too long a head") from None
        first, *lines = head.decode("latin-1").split("\r\n")
        version, _, rest = first.partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
            raise WireFault(f"no HTTP: {first[:60]!r}")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return int(rest[:3]), rest[4:].strip(), fields

    async def read(self, count):
        """Exactly so many bytes."""
        try:
            return await self.reader.readexactly(count)
        except asyncio.IncompleteReadError:
            raise WireFault("closed") from None
        except ConnectionError:
            raise WireFault("reset") from None

    async def pieces(self, fields):
        """The body as it comes, without its transfer coding."""
        if "chunked" in fields.get("transfer-encoding", ""):
            while size := int((await self.read_line()).split(b";")[0], 16):
                left = size
                while left:
                    piece = await self.read_some(min(left, 65536))
                    left -= len(piece)
                    yield piece
                await self.read(2)
            return
        left = int(fields["content-length"]) if "content-length" in fields else None
        while left is None or left > 0:
            piece = await self.read_some(65536 if left is None else min(left, 65536), at_end=b"" if left is None else None)
            if not piece:
                return
            left = left - len(piece) if left is not None else None
            yield piece

    async def read_line(self):
        try:
            line = await self.reader.readuntil(b"\r\n")
        except asyncio.IncompleteReadError:
            raise WireFault("closed") from None
        except ConnectionError:
            raise WireFault("reset") from None
        return line[:-2]

    async def read_some(self, count, at_end=None):
        """What has come, at most so many bytes; at the end of the connection `at_end`, or a fault if that is None."""
        try:
            piece = await self.reader.read(count)
        except ConnectionError:
            raise WireFault("reset") from None
        if not piece and at_end is None:
            raise WireFault("closed")
        return piece or at_end


@contextlib.asynccontextmanager
async def request(route, method, path, fields=None, body=None):
    """Sends a request; answers status, reason, fields and the pieces of the body."""
    connection = await Connection.open(route)
    try:
        lines = [f"{method} {route.target(path)} HTTP/1.1", f"Host: {route.authority}"]
        lines += [f"{name}: {value}" for name, value in (fields or {}).items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        await connection.send(("\r\n".join(lines) + "\r\n\r\n").encode() + (body or b""))
        status, reason, answered = await connection.read_head()
        yield status, reason, answered, connection.pieces(answered)
    finally:
        connection.close()


async def fetch(route, method, path, fields=None, body=None):
    """A request and its whole answer: status, fields, body."""
    async with request(route, method, path, fields, body) as (status, _, answered, pieces):
        content = b"".join([piece async for piece in pieces])
        return status, answered, content


class WebSocket:
    """A WebSocket, of text messages, that answers pings."""

    def __init__(self, connection):
        self.connection = connection

    @classmethod
    async def open(cls, route, path):
        connection = await Connection.open(route)
        try:
            if route.forward:
                await connection.send(f"CONNECT {route.authority} HTTP/1.1\r\nHost: {route.authority}\r\n\r\n".encode())
                status, reason, _ = await connection.read_head()
                if status != 200:
                    raise WireFault(f"{status} {reason} to CONNECT")
            key = base64.b64encode(os.urandom(16)).decode()
            await connection.send((f"GET {path} HTTP/1.1\r\nHost: {route.authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                   f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
                                   "Sec-WebSocket-Protocol: tocsin.v1\r\n\r\n").encode())
            status, reason, _ = await connection.read_head()
            if status != 101:
                raise WireFault(f"{status} {reason}".strip())
        except BaseException:
            connection.close()
            raise
        return cls(connection)

    async def send(self, opcode, payload):
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        await self.connection.send(struct.pack("!BB", 0x80 | opcode, 0x80 | len(payload)) + mask + masked)

    async def messages(self):
        """The objects that come, until the end, which is a fault that says how."""
        whole = b""
        while True:
            first, second = await self.connection.read(2)
            size = second & 0x7F
            if size == 126:
                size, = struct.unpack("!H", await self.connection.read(2))
            elif size == 127:
                size, = struct.unpack("!Q", await self.connection.read(8))
            if size > FRAME_BYTES_MAX:
                raise WireFault(f"a frame of {size} bytes")
            payload, opcode = await self.connection.read(size), first & 0x0F
            if opcode in (0, 1):
                whole += payload
                if first & 0x80:
                    yield json.loads(whole)
                    whole = b""
            elif opcode == 8:
                raise WireFault(f"closed with {struct.unpack('!H', payload[:2])[0] if payload else 1005}")
            elif opcode == 9:
                await self.send(10, payload)

    def close(self):
        self.connection.close()
