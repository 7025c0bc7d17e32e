"""Well-behaved clients that go on while the server is attacked: a publisher, and a subscriber on each transport.

They are a process of their own, so that what attackers do in theirs does not slow them down. It reads `take` from standard input, waits
until every subscriber has everything that was published by then, and writes one line of JSON: the delays since the last `take`, in
milliseconds. A message that is lost, doubled or out of order ends it with a line that says so. With `--stalls`, time for which the machine
itself stood still is no delay.
"""

import asyncio
import contextlib
import gc
import json
import os
import re
import select
import struct
import subprocess
import sys
import time
import uuid
from pathlib import Path

from stalls import Stalls, stalled_within

MESSAGES_PER_SECOND = 100
# Messages that are due and have not been sent. More are not made, so that a server that stalled need not catch up for long.
WAITING_MAX = 20
# Of the long-poll: well above what passes between two messages.
WAIT_SECONDS = 5
PATIENCE = 20.0
TRANSPORTS = ("websocket", "sse", "long-poll")


class Figures:
    """Delays of messages, from the moment they were due to be published to their arrival."""

    def __init__(self, answer):
        self.count, self.p50, self.p99, self.worst = answer["count"], answer["p50"], answer["p99"], answer["worst"]
        # Seconds for which the machine stood still.
        self.stalled = answer["stalled"]

    def __str__(self):
        stalled = f" (less {self.stalled:.1f} s of stalls)" if self.stalled else ""
        return f"p50 {self.p50:.1f} ms, p99 {self.p99:.1f} ms of {self.count}{stalled}"


class Bystanders:
    """The process, as the tests see it."""

    def __init__(self, port, sees_stalls=False):
        command = [sys.executable, str(Path(__file__).resolve()), str(port), *(["--stalls"] if sees_stalls else [])]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.buffered = b""
        try:
            self._answer("they are connected")
        except BaseException:
            self.stop()
            raise

    def take(self):
        """Waits until all that was published has arrived everywhere; answers the figures since the last time."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(b"take\n")
            self.process.stdin.flush()
        return Figures(self._answer("every message has arrived"))

    def _answer(self, what):
        deadline = time.monotonic() + PATIENCE + 5
        while b"\n" not in self.buffered:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            piece = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            assert piece, f"the bystanders do not say that {what}"
            self.buffered += piece
        line, _, self.buffered = self.buffered.partition(b"\n")
        answer = json.loads(line)
        assert "fault" not in answer, f"bystanders: {answer['fault']}"
        return answer

    def stop(self):
        # What was written last may not have been read, if the process has ended by itself.
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        self.process.stdout.close()


class Subscriber:
    """Checks that the numbers are 1, 2, 3, and notes when each message was due and when it came, in nanoseconds."""

    def __init__(self, transport):
        self.transport = transport
        self.last = 0
        self.times = []
        self.ready = asyncio.Event()

    def see(self, message):
        if message["type"] in ("hello", "reply"):
            return
        assert message["type"] == "notification", f"{self.transport}: {message}"
        assert message["sequence"] == self.last + 1, f"{self.transport}: message {message['sequence']} after {self.last}"
        assert not message.get("skipped"), f"{self.transport}: {message}"
        self.last += 1
        self.times.append((message["data"]["due"], time.monotonic_ns()))


class Clients:
    """The clients' side of the protocols is written out here, as little as it takes: a library would need more time than the server."""

    def __init__(self, port):
        self.port = port
        self.channel = f"watch.{uuid.uuid4().hex[:12]}"
        self.subscribers = {name: Subscriber(name) for name in TRANSPORTS}
        self.stalls = Stalls()
        self.published = 0

    async def connect(self):
        return await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 22)

    def head(self, method, path, *fields):
        lines = "".join(f"{field}\r\n" for field in fields)
        return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n{lines}\r\n".encode()

    def subscription(self, after):
        return f"/v1/subscribe?channel={self.channel}&after={after}"

    async def answer(self, reader, what, status):
        """Reads an answer with a length; answers its body."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)[1])
        body = await reader.readexactly(length)
        assert head.startswith(b"HTTP/1.1 %d " % status), f"{what}: {head.splitlines()[0].decode()} {body[:300]}"
        return json.loads(body)

    async def websocket(self):
        subscriber = self.subscribers["websocket"]
        reader, writer = await self.connect()
        writer.write(self.head("GET", self.subscription("latest"), "Upgrade: websocket", "Connection: Upgrade",
                               "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), f"websocket: {head}"
        while True:
            first, size = await reader.readexactly(2)
            if size == 126:
                size, = struct.unpack("!H", await reader.readexactly(2))
            elif size == 127:
                size, = struct.unpack("!Q", await reader.readexactly(8))
            payload = await reader.readexactly(size)
            if first == 0x89:
                writer.write(bytes([0x8A, 0x80 | size, 0, 0, 0, 0]) + payload)
                continue
            assert first == 0x81, f"websocket: a frame that begins with {first:#x}: {payload[:100]}"
            subscriber.see(json.loads(payload))
            subscriber.ready.set()

    async def event_stream(self):
        subscriber = self.subscribers["sse"]
        reader, writer = await self.connect()
        writer.write(self.head("GET", self.subscription("latest"), "Accept: text/event-stream"))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), f"sse: {head}"
        while line := await reader.readline():
            # An event is a chunk, so no line is cut by one.
            if line.startswith(b"data: "):
                subscriber.see(json.loads(line[6:]))
                subscriber.ready.set()
        raise AssertionError("sse: the server ended the stream")

    async def long_poll(self):
        subscriber = self.subscribers["long-poll"]
        reader, writer = await self.connect()
        writer.write(self.head("GET", f"/v1/subscribe?channel={self.channel}"))
        while True:
            body = await self.answer(reader, "long-poll", 200)
            writer.write(self.head("GET", self.subscription(body["position"]), f"Prefer: wait={WAIT_SECONDS}"))
            for message in body["messages"]:
                subscriber.see(message)
            subscriber.ready.set()

    async def publish(self):
        """At a fixed rate, whether or not the last one has been answered: what waits counts as delay. A few may wait at most."""
        waiting = asyncio.Queue(WAITING_MAX)
        sender = asyncio.create_task(self.publish_each(waiting))
        try:
            when = time.monotonic()
            while not sender.done():
                when = max(when + 1 / MESSAGES_PER_SECOND, time.monotonic())
                await asyncio.sleep(when - time.monotonic())
                if not waiting.full():
                    waiting.put_nowait(time.monotonic_ns())
            sender.result()
        finally:
            sender.cancel()

    async def publish_each(self, waiting):
        reader, writer = await self.connect()
        while True:
            data = json.dumps({"due": await waiting.get()}).encode()
            writer.write(self.head("POST", f"/v1/channels/{self.channel}", f"Content-Length: {len(data)}") + data)
            self.published = (await self.answer(reader, "publish", 201))["sequence"]

    async def until(self, condition, what):
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what()}"
            await asyncio.sleep(0.002)

    async def take(self):
        await self.until(lambda: self.published > 0, lambda: "a message is published")
        target = self.published
        await self.until(
            lambda: all(subscriber.last >= target for subscriber in self.subscribers.values()),
            lambda: f"{target} messages arrive; " + ", ".join(f"{name} has {one.last}" for name, one in self.subscribers.items()))
        times = [one for subscriber in self.subscribers.values() for one in subscriber.times]
        for subscriber in self.subscribers.values():
            subscriber.times = []
        # What stood still as the last one arrived has written that down by now.
        await asyncio.sleep(0.02)
        stalls = self.stalls.collect()
        stalled = sum(end - begin for begin, end in stalls) / 1e9
        delays = sorted((end - begin - stalled_within(stalls, begin, end)) / 1e6 for begin, end in times)
        if not delays:
            return {"count": 0, "p50": 0.0, "p99": 0.0, "worst": 0.0, "stalled": stalled}
        return {"count": len(delays), "p50": delays[len(delays) // 2], "p99": delays[len(delays) * 99 // 100], "worst": delays[-1],
                "stalled": stalled}

    async def commands(self):
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
        while await reader.readline():
            say(await self.take())

    async def run(self):
        if "--stalls" in sys.argv:
            self.stalls.start()
        tasks = [asyncio.create_task(work) for work in (self.websocket(), self.event_stream(), self.long_poll())]
        try:
            ready = asyncio.gather(*(subscriber.ready.wait() for subscriber in self.subscribers.values()))
            await asyncio.wait([*tasks, asyncio.ensure_future(ready)], timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
            assert ready.done(), "not every subscriber was let in"
            tasks.append(asyncio.create_task(self.publish()))
            await self.until(lambda: self.published > 2 or any(task.done() for task in tasks), lambda: "messages are published")
            gc.collect()
            gc.freeze()
            say({})
            commands = asyncio.create_task(self.commands())
            await asyncio.wait([*tasks, commands], return_when=asyncio.FIRST_COMPLETED)
            for task in [*tasks, commands]:
                if task.done():
                    task.result()
        finally:
            self.stalls.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def say(answer):
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def main():
    try:
        await Clients(int(sys.argv[1])).run()
    except asyncio.IncompleteReadError:
        say({"fault": "the server closed the connection of a bystander"})
    except Exception as fault:
        say({"fault": f"{type(fault).__name__}: {fault}"})


if __name__ == "__main__":
    asyncio.run(main())
