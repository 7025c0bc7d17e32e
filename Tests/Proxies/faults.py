"""A TCP proxy whose faults are switched while it runs.

It passes bytes between clients and a target, and looks into them as far as the faults need: it finds `Upgrade: websocket` in what
clients send, and the ends of HTTP/1.1 answers in what comes back. Faults, any of which may be on at a time:

    refuse             every connection is reset as it comes
    block_upgrades     a request to upgrade is answered with 403, and its connection ends
    kill_websockets    a connection that asked to upgrade is reset so many seconds later
    buffer_bytes       what comes from the server is held until so many bytes are together, or the connection ends
    heeds_answers      with buffer_bytes: nor is an answer held that is complete
    cut_after          a connection is reset when it is so many seconds old
    silent             no byte passes either way, and nobody is told: not for connections that exist, nor for new ones, nor later on
"""

import asyncio
import contextlib
import socket
import struct
import time
from dataclasses import dataclass, fields

TICK_SECONDS = 0.02
WINDOW_BYTES = 8 * 1024
HEAD_BYTES_MAX = 64 * 1024
PASSAGES_MAX = 4000
BLOCKED = (b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 23\r\nConnection: close\r\n\r\n"
           b"upgrades are forbidden\n")


@dataclass
class Faults:
    """What is wrong at the moment; as it is made, nothing."""

    refuse: bool = False
    block_upgrades: bool = False
    kill_websockets: float | None = None
    buffer_bytes: int | None = None
    heeds_answers: bool = False
    cut_after: float | None = None
    silent: bool = False


class AnswerEnds:
    """Finds where answers of HTTP/1.1 end. A tunnel (after 101) and an answer without a length never do."""

    def __init__(self):
        self.state = "head"
        self.data = b""
        self.left = 0
        self.taken = 0

    def feed(self, data):
        """Answers how many of the bytes up to here, from the last on, belong to an answer that is not complete."""
        self.data += data
        while self.data and self._step():
            pass
        return self.taken + len(self.data)

    def _take(self, count):
        self.taken += count
        self.data = self.data[count:]

    def _complete(self, state="head"):
        self.state, self.taken = state, 0

    def _line(self, end):
        """The next line, or all lines up to an empty one; None when it has not come yet."""
        text, found, _ = self.data.partition(end)
        if not found:
            return None
        self._take(len(text) + len(end))
        return text

    def _step(self):
        """One step on; answers False when more bytes are needed."""
        if self.state == "head":
            if len(self.data) > HEAD_BYTES_MAX:
                self.state = "endless"
                return True
            head = self._line(b"\r\n\r\n")
            if head is None:
                return False
            self._begin(head.lower())
        elif self.state in ("body", "chunk data"):
            count = min(self.left, len(self.data))
            self.left -= count
            self._take(count)
            if not self.left and self.state == "body":
                self._complete()
            elif not self.left:
                self.state = "chunk"
        elif self.state == "endless":
            self._take(len(self.data))
        else:
            line = self._line(b"\r\n")
            if line is None:
                return False
            if self.state == "trailer" and not line:
                self._complete()
            elif self.state == "chunk":
                size = int(line.split(b";")[0], 16)
                self.left = size + 2
                self.state = "chunk data" if size else "trailer"
        return True

    def _begin(self, head):
        first, *lines = head.split(b"\r\n")
        status = first.split(b" ")[1:2]
        given = dict(line.split(b":", 1) for line in lines if b":" in line)
        if status == [b"101"]:
            self._complete("endless")
        elif status in ([b"100"], [b"103"], [b"204"], [b"304"]):
            self._complete()
        elif b"chunked" in given.get(b"transfer-encoding", b""):
            self.state = "chunk"
        elif b"content-length" in given:
            self.left = int(given[b"content-length"])
            self.state = "body"
            if not self.left:
                self._complete()
        else:
            self.state = "endless"


class Passage:
    """One connection from a client to the target."""

    def __init__(self, proxy, reader, writer):
        self.proxy = proxy
        self.reader, self.writer = reader, writer
        self.far_reader = self.far_writer = None
        self.began = time.monotonic()
        self.window = b""
        self.upgrade_asked = None
        self.subscribing = False
        self.held = bytearray()
        self.ends = AnswerEnds()
        self.dead = False

    async def run(self):
        if self.dead or self.proxy.faults.silent:
            self.dead = True
            await self._swallow(self.reader)
            return
        try:
            self.far_reader, self.far_writer = await asyncio.open_connection("127.0.0.1", self.proxy.target)
        except OSError:
            self.reset()
            return
        await asyncio.gather(self._up(), self._down())

    async def _swallow(self, reader):
        """Takes what comes and tells nobody, until the peer has gone."""
        with contextlib.suppress(OSError):
            while await reader.read(65536):
                pass

    async def _up(self):
        """From the client to the target."""
        with contextlib.suppress(OSError):
            while data := await self.reader.read(65536):
                if self.dead:
                    continue
                self._look(data)
                if self.upgrade_asked and self.proxy.faults.block_upgrades and self.upgrade_asked >= self.proxy.blocking_since:
                    self.writer.write(BLOCKED)
                    await self.writer.drain()
                    self.writer.close()
                    self.far_writer.transport.abort()
                    return
                self.far_writer.write(data)
                await self.far_writer.drain()
        if not self.dead:
            with contextlib.suppress(OSError):
                self.far_writer.write_eof()

    def _look(self, data):
        """Does the client ask to upgrade, or subscribe?"""
        if self.upgrade_asked is None:
            self.window = (self.window + data)[-WINDOW_BYTES:]
            self.subscribing = self.subscribing or b"/v1/subscribe" in self.window
            if b"\r\nupgrade: websocket" in self.window.lower():
                self.upgrade_asked = time.monotonic()
                self.window = b""

    async def _down(self):
        """From the target to the client."""
        with contextlib.suppress(OSError):
            while data := await self.far_reader.read(65536):
                if self.dead:
                    continue
                self.held += data
                incomplete = self.ends.feed(data)
                size = self.proxy.faults.buffer_bytes
                keep = min(len(self.held), incomplete) if self.proxy.faults.heeds_answers else len(self.held)
                await self.release(keep if size is not None and keep < size else 0)
        if not self.dead:
            with contextlib.suppress(OSError):
                await self.release()
                self.writer.close()

    async def release(self, keep=0):
        """Sends on what was held back, but for so many of the last bytes."""
        data, self.held = bytes(self.held[:len(self.held) - keep]), self.held[len(self.held) - keep:]
        if data and not self.dead:
            self.writer.write(data)
            await self.writer.drain()

    def reset(self):
        """Ends it on both sides, without a goodbye."""
        for writer in (self.writer, self.far_writer):
            if writer is None:
                continue
            raw = writer.get_extra_info("socket")
            with contextlib.suppress(OSError, AttributeError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class FaultProxy:
    """The proxy: `port` to connect to, `target` the port behind it."""

    def __init__(self, target):
        self.target = target
        self.faults = Faults()
        self.blocking_since = 0.0
        self.passages = {}
        self.accepted = 0
        self.counted = {"resets": 0}

    async def start(self):
        self.server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        self.ticker = asyncio.create_task(self._tick())
        return self

    async def stop(self):
        self.server.close()
        self.ticker.cancel()
        tasks = [*self.passages.values(), self.ticker]
        for passage in list(self.passages):
            passage.reset()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader, writer):
        self.accepted += 1
        passage = Passage(self, reader, writer)
        if self.faults.refuse or len(self.passages) >= PASSAGES_MAX:
            passage.reset()
            return
        self.passages[passage] = asyncio.current_task()
        try:
            await passage.run()
        except asyncio.CancelledError:
            pass
        finally:
            del self.passages[passage]
            for each in (passage.writer, passage.far_writer):
                if each is not None:
                    each.close()

    async def _tick(self):
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now, faults = time.monotonic(), self.faults
            for passage in [each for each in self.passages if not each.dead]:
                asked = passage.upgrade_asked
                killed = faults.kill_websockets is not None and asked and now - asked >= faults.kill_websockets
                if killed or faults.cut_after is not None and now - passage.began >= faults.cut_after:
                    self.counted["resets"] += 1
                    passage.reset()

    async def switch(self, target=None, **faults):
        """Sets the faults to these, and no others; a new target cuts all connections."""
        unknown = set(faults) - {field.name for field in fields(Faults)}
        assert not unknown, f"no such faults: {unknown}"
        if faults.get("block_upgrades") and not self.faults.block_upgrades:
            self.blocking_since = time.monotonic()
        self.faults = Faults(**faults)
        if self.faults.silent:
            for passage in self.passages:
                passage.dead = True
        if self.faults.buffer_bytes is None:
            for passage in list(self.passages):
                with contextlib.suppress(OSError):
                    await passage.release()
        if target is not None and target != self.target:
            self.target = target
            self.cut()
        if self.faults.refuse:
            self.cut()

    def cut(self):
        """Resets all connections."""
        for passage in [each for each in self.passages if not each.dead]:
            self.counted["resets"] += 1
            passage.reset()

    @property
    def subscriptions(self):
        """How many connections are open that have asked to subscribe."""
        return sum(passage.subscribing and not passage.dead for passage in self.passages)
