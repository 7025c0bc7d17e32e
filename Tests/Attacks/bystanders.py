"""Well-behaved clients that go on while the server is attacked: a publisher, and a subscriber on each transport.

They are a process of their own, so that what attackers do in theirs does not slow them down. It reads `take` from standard input, waits
until every subscriber has everything that was published by then, and writes one line of JSON: the delays since the last `take`, in
milliseconds. A message that is lost, doubled or out of order ends it with a line that says so.
"""

import asyncio
import contextlib
import gc
import json
import os
import select
import subprocess
import sys
import time
import uuid
from pathlib import Path

import aiohttp
import websockets.asyncio.client

MESSAGES_PER_SECOND = 100
# Of the long-poll: well above what passes between two messages.
WAIT_SECONDS = 5
PATIENCE = 20.0
TRANSPORTS = ("websocket", "sse", "long-poll")


class Figures:
    """Delays of messages, from the moment they were due to be published to their arrival."""

    def __init__(self, answer):
        self.count, self.p50, self.p99, self.worst = answer["count"], answer["p50"], answer["p99"], answer["worst"]

    def __str__(self):
        return f"p50 {self.p50:.1f} ms, p99 {self.p99:.1f} ms of {self.count}"


class Bystanders:
    """The process, as the tests see it."""

    def __init__(self, port):
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.buffered = b""
        self._answer("they are connected")

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
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        self.process.stdout.close()


class Subscriber:
    """Checks that the numbers are 1, 2, 3, and notes how long each message took."""

    def __init__(self, transport):
        self.transport = transport
        self.last = 0
        self.delays = []
        self.ready = asyncio.Event()

    def see(self, message):
        if message["type"] in ("hello", "reply"):
            return
        assert message["type"] == "notification", f"{self.transport}: {message}"
        assert message["sequence"] == self.last + 1, f"{self.transport}: message {message['sequence']} after {self.last}"
        assert not message.get("skipped"), f"{self.transport}: {message}"
        self.last += 1
        self.delays.append((time.monotonic_ns() - message["data"]["due"]) / 1e6)


class Clients:
    def __init__(self, port):
        self.port = port
        self.base = f"http://127.0.0.1:{port}/v1"
        self.channel = f"watch.{uuid.uuid4().hex[:12]}"
        self.subscribers = {name: Subscriber(name) for name in TRANSPORTS}
        self.published = 0
        self.publishing = set()
        self.failed = asyncio.get_running_loop().create_future()

    def session(self):
        """One connection, kept."""
        connector = aiohttp.TCPConnector(limit=1, keepalive_timeout=3600)
        return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None, sock_read=60))

    async def websocket(self):
        subscriber = self.subscribers["websocket"]
        url = f"ws://127.0.0.1:{self.port}/v1/subscribe?channel={self.channel}&after=latest"
        async with websockets.asyncio.client.connect(url, proxy=None, compression=None, ping_interval=None, close_timeout=1) as connection:
            async for text in connection:
                subscriber.see(json.loads(text))
                subscriber.ready.set()
        raise AssertionError("websocket: the server closed")

    async def event_stream(self):
        subscriber = self.subscribers["sse"]
        url = f"{self.base}/subscribe?channel={self.channel}&after=latest"
        async with self.session() as session, session.get(url, headers={"Accept": "text/event-stream"}) as answer:
            assert answer.status == 200, f"sse: {answer.status}"
            async for line in answer.content:
                if line.startswith(b"data: "):
                    subscriber.see(json.loads(line[6:]))
                    subscriber.ready.set()
        raise AssertionError("sse: the server ended the stream")

    async def long_poll(self):
        subscriber = self.subscribers["long-poll"]
        async with self.session() as session:
            after = {}
            while True:
                url = f"{self.base}/subscribe?channel={self.channel}"
                async with session.get(url, params=after, headers={"Prefer": f"wait={WAIT_SECONDS}"}) as answer:
                    assert answer.status == 200, f"long-poll: {answer.status} {await answer.text()}"
                    body = await answer.json()
                for message in body["messages"]:
                    subscriber.see(message)
                after = {"after": body["position"]}
                subscriber.ready.set()

    async def publish_one(self, session, due):
        async with session.post(f"{self.base}/channels/{self.channel}", json={"due": due}) as answer:
            body = await answer.json()
            assert answer.status == 201, f"publish: {answer.status} {body}"
            self.published = max(self.published, body["sequence"])

    async def publish(self):
        """At a fixed rate, whether or not earlier ones have been answered: what waits counts as delay."""
        async with self.session() as session:
            when = asyncio.get_running_loop().time()
            while True:
                when = max(when + 1 / MESSAGES_PER_SECOND, asyncio.get_running_loop().time() - 0.1)
                await asyncio.sleep(max(0, when - asyncio.get_running_loop().time()))
                task = asyncio.create_task(self.publish_one(session, time.monotonic_ns()))
                self.publishing.add(task)
                task.add_done_callback(self.ended)

    def ended(self, task):
        self.publishing.discard(task)
        if not task.cancelled() and task.exception() and not self.failed.done():
            self.failed.set_exception(task.exception())

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
        delays = sorted(delay for subscriber in self.subscribers.values() for delay in subscriber.delays)
        for subscriber in self.subscribers.values():
            subscriber.delays = []
        if not delays:
            return {"count": 0, "p50": 0.0, "p99": 0.0, "worst": 0.0}
        return {"count": len(delays), "p50": delays[len(delays) // 2], "p99": delays[len(delays) * 99 // 100], "worst": delays[-1]}

    async def commands(self):
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
        while await reader.readline():
            say(await self.take())

    async def run(self):
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
            await asyncio.wait([*tasks, self.failed, commands], return_when=asyncio.FIRST_COMPLETED)
            for task in [*tasks, self.failed, commands]:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def say(answer):
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def main():
    try:
        await Clients(int(sys.argv[1])).run()
    except Exception as fault:
        say({"fault": f"{type(fault).__name__}: {fault}"})


if __name__ == "__main__":
    asyncio.run(main())
