"""Kills the server at random moments under load and checks that the log keeps every word of Docs/protocol.md.

The server gets SIGKILL, so what is tested is the process's end, not the machine's: the kernel still has what was written. That
what is acknowledged has been fsynced cannot be seen from here.
"""

import argparse
import asyncio
import contextlib
import json
import random
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from urllib.parse import quote, urlencode

import checker
from server import Failure, Server, free_port
from wire import HOST, Broken, Connection, EventStream, Malformed, Refused, WebSocket, ask_once, request

# Some in no subscriber's exact list, some at depths that patterns have to tell apart.
CHANNELS = [*(f"torture.c{i}" for i in range(6)), "torture.deep.a", "torture.deep.b", "torture.deep.b.x", "torture.deep.b.y.z"]
PATTERNS = [
    ["torture.deep.>"], ["torture.deep.*"], ["torture.deep.b.>"], ["torture.*.b.x"], ["*.c1"], ["torture.*.b", "torture.c2"],
    # These overlap: a message that matches several of them comes once.
    ["torture.deep.*", "torture.deep.b", "torture.deep.b.>"], ["torture.c3", "*.c3"], ["torture.deep.>", "torture.*.b.*"],
]
EVERYTHING = ["torture.>"]
TRANSPORTS = ["websocket", "sse", "long-poll"]
HEARTBEAT = 5
SILENCE = 45
ANSWER_SECONDS = 20
BROKEN = (OSError, EOFError, Broken)
ROOT = Path(__file__).resolve().parents[2]


def payload(publisher, number):
    """Known from its two numbers, so a subscriber can tell a damaged one. Now and then one that does not fit into a database page."""
    data = {"p": publisher, "n": number}
    if number % 61 == 0:
        data["x"] = chr(97 + number % 26) * (number * 7919 % 20000)
    return data


def compact(value):
    return json.dumps(value, separators=(",", ":"))


class Left(Exception):
    """A subscriber leaves in the middle of something."""


def place(position):
    """Each start begins an epoch; what is behind it in a position stays the same for the same message."""
    return position.partition(".")[2]


class Run:
    """What all parts share: arguments, journals, counters, problems, and which phase it is."""

    def __init__(self, arguments, directory):
        self.arguments, self.directory = arguments, directory
        self.counts, self.problems = Counter(), []
        self.publishing, self.calm, self.over = True, False, False
        self.files = {name: open(directory / f"{name}.jsonl", "w") for name in
                      ("publications", "subscribers", "deliveries", "history", "events")}
        self.begun = time.monotonic()
        self.port = arguments.port or free_port(self.random("port"))
        self.generation = 0
        self.start_position = None
        self.sent = asyncio.Event()

    def random(self, name):
        return random.Random(f"{self.arguments.seed}/{name}")

    def write(self, name, *row):
        self.files[name].write(compact(row) + "\n")

    def event(self, *words):
        self.write("events", round(time.monotonic() - self.begun, 3), *words)

    def problem(self, kind, words):
        self.problems.append((kind, words))
        self.event("problem", kind, words)

    def flush(self):
        for file in self.files.values():
            file.flush()


# Publishers

class Publisher:
    def __init__(self, run, index):
        self.run, self.index = run, index
        self.chance = run.random(f"publisher {index}")
        self.keyed = index % 2 == 0
        self.channels = self.chance.sample(CHANNELS, self.chance.randint(3, 6))
        # Each channel has at least two publishers, one of each kind.
        self.channels = sorted({*self.channels, CHANNELS[index // 2 % len(CHANNELS)]})
        self.number = 0
        self.connection = None
        self.again = []

    async def work(self):
        due = time.monotonic() + self.chance.random()
        while self.run.publishing:
            now = time.monotonic()
            if due > now:
                await asyncio.sleep(min(due - now, 0.5))
                continue
            count = self.chance.randint(2, 20) if self.chance.random() < 0.1 else 1
            await self.publish(count)
            # What was missed while the server was down is not made up for: that would be a burst after each start.
            due = max(due, now - 0.5) + count / self.run.arguments.rate
        if self.connection:
            self.connection.abort()

    def compose(self, count):
        """The request's bytes, its messages and whether it is a batch."""
        items = []
        for _ in range(count):
            self.number += 1
            items.append((self.number, self.chance.choice(self.channels)))
        fields = [("Idempotency-Key", f"{self.run.arguments.seed}-{self.index}-{items[0][0]}")] if self.keyed else []
        batch = count > 1 or self.chance.random() < 0.02
        if not batch:
            number, channel = items[0]
            fields.append(("Content-Type", "application/json"))
            return request("POST", f"/v1/channels/{channel}", fields, compact(payload(self.index, number)).encode()), items, batch
        objects = [compact({"channel": channel, "data": payload(self.index, number)}) for number, channel in items]
        if self.chance.random() < 0.5:
            fields.append(("Content-Type", "application/json"))
            body = "[" + ",".join(objects) + "]"
        else:
            fields.append(("Content-Type", "application/x-ndjson"))
            body = "".join(o + "\n" for o in objects)
        return request("POST", "/v1/publish", fields, body.encode()), items, batch

    async def publish(self, count):
        data, items, batch = self.compose(count)
        impatient = self.chance.random() < 0.02
        tries, answer = 0, None
        while answer is None:
            if not await self.connect():
                break
            if tries == 0:
                for number, channel in items:
                    self.run.write("publications", "sent", self.index, number, channel, self.keyed)
                self.run.counts["published"] += len(items)
                self.run.counts["batches"] += batch
            tries += 1
            self.run.counts["publish retries"] += tries > 1
            answer = await self.exchange(data, impatient and tries == 1)
            if answer is None and not self.keyed:
                break
            if answer and answer[0] == 503:
                self.run.counts["publications told 503"] += 1
                answer = None
                if not self.keyed:
                    break
                await asyncio.sleep(self.chance.uniform(0.05, 0.3))
        if answer is None:
            # Without a try it was not published at all: that is so only when the run ends while the server is away.
            if tries:
                self.run.counts["unknown"] += len(items)
                for number, channel in items:
                    self.run.write("publications", "unknown", self.index, number, channel)
            return
        self.take(answer, items, batch, (201,) if tries == 1 else (200, 201))
        if self.keyed and self.chance.random() < 0.1:
            self.again.append((self.run.generation, data, items, batch))
        await self.ask_again()

    async def connect(self):
        while not self.connection:
            try:
                self.connection = await Connection.open(self.run.port)
            except BROKEN:
                if self.run.over:
                    return False
                await asyncio.sleep(self.chance.uniform(0.02, 0.15))
        return True

    async def exchange(self, data, impatient=False):
        """Status and body, or None if there was no answer."""
        connection = self.connection
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await connection.send(data)
                self.run.sent.set()
                if impatient:
                    # The answer is lost while the server lives on, and the retry may overtake the request.
                    await asyncio.sleep(self.chance.choice([0, 0.001, 0.005]))
                    self.run.counts["answers not waited for"] += 1
                    raise Broken("left")
                status, fields = await connection.read_head()
                return status, await connection.read_body(fields)
        except BROKEN as error:
            if isinstance(error, TimeoutError):
                self.run.counts["publications without an answer in time"] += 1
            connection.abort()
            self.connection = None
            return None

    def take(self, answer, items, batch, statuses):
        status, body = answer
        try:
            results = json.loads(body)
            results = results["results"] if batch and "results" in results else [results]
            if len(results) != len(items):
                raise ValueError("not as many results as items")
            for (number, _), result in zip(items, results):
                row = [self.index, number, result["channel"], result["sequence"], place(result["position"])]
                self.run.write("publications", "answer", *row)
                self.run.counts["acknowledged"] += 1
            if status not in statuses:
                raise ValueError(f"status {status}, not {statuses}")
        except (ValueError, KeyError, TypeError) as error:
            words = f"publisher {self.index}, from number {items[0][0]} on: {error!r}: {body[:300]!r}"
            self.run.problem("publish-answer", words)

    async def ask_again(self):
        """A request that was answered long ago: at once for some, after the next restart for others. It has the first answer."""
        for entry in list(self.again):
            generation, data, items, batch = entry
            if generation == self.run.generation and self.chance.random() > 0.05 or not self.connection:
                continue
            answer = await self.exchange(data)
            if answer is None or answer[0] == 503:
                continue
            self.again.remove(entry)
            self.run.counts["asked again"] += 1
            self.run.counts["asked again after a restart"] += generation != self.run.generation
            self.run.counts["acknowledged"] -= len(items)
            self.take(answer, items, batch, (200,))


# Subscribers

class Subscriber:
    def __init__(self, run, index):
        self.run, self.index, self.name = run, index, f"s{index}"
        self.chance = chance = run.random(f"subscriber {index}")
        kind = chance.random()
        if kind < 0.65:
            self.patterns = chance.sample(CHANNELS, chance.choice([1, 1, 2, 3]))
        elif kind < 0.95:
            self.patterns = chance.choice(PATTERNS)
        else:
            self.patterns = EVERYTHING
        self.channels = [c for c in CHANNELS if any(checker.matches(p, c) for p in self.patterns)]
        self.transport = TRANSPORTS[index % 3]
        self.position = chance.choice(["earliest", run.start_position])
        self.slow, self.absent = index % 7 == 0, index % 5 == 0
        self.last = dict.fromkeys(CHANNELS, 0)
        self.connection, self.heard_at = None, 0
        run.write("subscribers", self.name, self.patterns)

    async def work(self):
        await asyncio.sleep(self.chance.random())
        while not self.run.over:
            # In the calm at the end nobody leaves of his own accord, so that all catch up.
            stay = None if self.run.calm else 0.2 + self.chance.expovariate(1 / 5)
            try:
                async with asyncio.timeout(stay) as limit:
                    await getattr(self, self.transport.replace("-", "_"))()
            except TimeoutError:
                self.drop()
                if limit.expired():
                    await self.leave()
                    continue
                self.run.counts["timeouts"] += 1
            except Left:
                self.drop()
                await self.leave()
                continue
            except BROKEN:
                pass
            except Refused as error:
                if error.status == 503:
                    self.run.counts["subscriptions told 503"] += 1
                else:
                    self.run.problem("subscribe-answer", f"{self.name} on {self.transport} after {self.position}: {error}")
                    await asyncio.sleep(0.5)
            except (Malformed, ValueError, KeyError, TypeError) as error:
                self.run.problem("malformed", f"{self.name} on {self.transport} after {self.position}: {error!r}")
                await asyncio.sleep(0.5)
            self.drop()
            self.run.counts["reconnects"] += 1
            if self.chance.random() < 0.4:
                self.change()
            await asyncio.sleep(self.chance.uniform(0.02, 0.25))
        self.drop()

    def drop(self):
        if self.connection:
            self.connection.abort()
            self.connection = None

    async def leave(self):
        self.change()
        if self.absent and not self.run.calm:
            await asyncio.sleep(self.chance.uniform(0.5, 4))

    def change(self):
        self.transport = TRANSPORTS[(TRANSPORTS.index(self.transport) + self.chance.choice([1, 1, 2])) % 3]
        self.run.counts["transport changes"] += 1

    def heard(self):
        self.heard_at = time.monotonic()

    async def connect(self):
        self.connection = await Connection.open(self.run.port, 4096 if self.slow else None)
        self.heard()
        return self.connection

    def query(self, after=True, **more):
        items = [("channel", p) for p in self.patterns] + [("heartbeat", HEARTBEAT)] + list(more.items())
        return "/v1/subscribe?" + urlencode(items + [("after", self.position)] * after, quote_via=quote)

    async def pause(self):
        if self.slow and not self.run.calm and self.chance.random() < 0.02:
            await asyncio.sleep(self.chance.uniform(0.2, 2))
            self.heard()

    def deal(self, message):
        """The only place where something counts as received; there is no await between the note and the position."""
        kind = message["type"]
        if kind == "notification":
            data, channel, sequence = message["data"], message["channel"], message["sequence"]
            number = data["p"], data["n"]
            if data != payload(*number):
                self.run.problem("wrong-payload", f"{self.name}: {channel} {sequence} is damaged: {compact(message)[:300]}")
            self.run.write("deliveries", self.name, kind, self.transport, channel, sequence, message.get("skipped", 0),
                           *number, place(message["position"]), message["time"])
            self.run.counts[self.transport] += 1
            self.last[channel] = sequence
        elif kind == "gap":
            self.run.write("deliveries", self.name, kind, self.transport,
                           message.get("channel"), message.get("from"), message.get("to"), message["reason"])
            self.run.event("gap", self.name, self.transport, self.position, message)
            self.run.counts["gaps"] += 1
        elif kind == "hello":
            # `hello` may name the position in other words; taking it on must not lose anything.
            if self.position != "earliest" and self.chance.random() < 0.5:
                return
        elif kind == "going-away":
            raise Broken("going away")
        else:
            raise Malformed(f"type {kind}")
        self.position = message["position"]
        if kind == "hello" and not self.run.calm and self.chance.random() < 0.1:
            # Nothing but hello arrived: its position has to bring all that would have followed.
            self.run.counts["left after hello"] += 1
            raise Left

    async def websocket(self):
        socket = WebSocket(await self.connect())
        # Half subscribe with a command. Two channels of a command that overlap are not what the protocol promises to take.
        command = self.patterns not in PATTERNS and self.chance.random() < 0.5
        await socket.shake_hands(f"/v1/subscribe?heartbeat={HEARTBEAT}" if command else self.query())
        first = json.loads(await socket.text(self.heard))
        if first["type"] != "hello":
            raise Malformed(f"{first} before hello")
        if command:
            words = {"id": 1, "type": "subscribe", "channels": self.patterns, "after": self.position}
            await socket.send(1, compact(words).encode())
            reply = json.loads(await socket.text(self.heard))
            if reply.get("type") == "going-away":
                raise Broken("going away")
            if reply.get("type") != "reply" or "error" in reply:
                raise Malformed(f"answer to subscribe: {reply}")
            self.deal({"type": "hello", "position": reply["position"]})
        else:
            self.deal(first)
        while True:
            self.deal(json.loads(await socket.text(self.heard)))
            if self.slow:
                await self.pause()

    def posted(self, **more):
        """The same as the query, as a body."""
        return compact({"channels": self.patterns, "after": self.position, "heartbeat": HEARTBEAT, **more}).encode()

    async def sse(self):
        connection = await self.connect()
        fields, way = [("Accept", "text/event-stream")], self.chance.randrange(3)
        if way == 0:
            await connection.send(request("GET", self.query(), fields))
        elif way == 1:
            await connection.send(request("POST", "/v1/subscribe", fields + [("Content-Type", "application/json")], self.posted()))
        elif self.position == "earliest":
            await connection.send(request("GET", self.query(), fields))
        else:
            # It wins over `after`, as it has to for an EventSource that comes back with the URL it began with.
            await connection.send(request("GET", self.query(after=False, after_="earliest").replace("after_", "after"),
                                          fields + [("Last-Event-ID", self.position)]))
        status, answer = await connection.read_head()
        if status != 200 or not answer.get("content-type", "").startswith("text/event-stream"):
            raise Refused(status, await connection.read_body(answer))
        stream, greeted = EventStream(), False
        chunked = "chunked" in answer.get("transfer-encoding", "")
        while piece := await (connection.chunk() if chunked else connection.reader.read(65536)):
            self.heard()
            for kind, data, last_id in stream.feed(piece):
                message = json.loads(data)
                if not greeted and message["type"] != "hello":
                    raise Malformed(f"{data[:200]} before hello")
                greeted = True
                if kind != ("message" if message["type"] == "notification" else message["type"]):
                    raise Malformed(f"event {kind} with {data[:200]}")
                if message["type"] in ("notification", "gap") and last_id != message["position"]:
                    raise Malformed(f"id {last_id} with {data[:200]}")
                self.deal(message)
                if self.slow:
                    await self.pause()
        raise Broken("the stream ended")

    async def long_poll(self):
        connection = await self.connect()
        while True:
            wait = self.chance.choice([0, 1, HEARTBEAT, HEARTBEAT])
            way = self.chance.randrange(3)
            if way == 0:
                status, _, body = await connection.ask("GET", self.query(), [("Prefer", f"wait={wait}")])
            elif way == 1:
                status, _, body = await connection.ask("GET", self.query(wait=wait))
            else:
                status, _, body = await connection.ask("POST", "/v1/subscribe", [("Content-Type", "application/json")],
                                                       self.posted(wait=wait))
            self.heard()
            if status != 200:
                raise Refused(status, body)
            answer = json.loads(body)
            messages = answer["messages"]
            for message in messages:
                self.deal(message)
                if self.slow:
                    await self.pause()
                if self.chance.random() < 0.01:
                    # A client that stopped in the middle goes on from the message it dealt with last.
                    self.run.counts["polls left in the middle"] += 1
                    break
            else:
                if not messages or self.chance.random() < 0.5:
                    self.position = answer["position"]
            if wait == 0 and not messages:
                await asyncio.sleep(self.chance.uniform(0.1, 0.5))


# The run

async def history(run):
    """Each channel's whole history, in pages, as the notices that the checker takes."""
    chance, result = run.random("history"), {}
    for channel in CHANNELS:
        notices, after = [], 0
        try:
            while True:
                page = await ask_once(run.port, "GET", f"/v1/channels/{channel}/history?after={after}&limit={chance.randint(50, 1000)}")
                for m in page["messages"]:
                    data = m["data"]
                    if data != payload(data["p"], data["n"]):
                        run.problem("wrong-payload", f"the history: {channel} {m['sequence']} is damaged: {compact(m)[:300]}")
                    notices.append([channel, m["sequence"], m.get("skipped", 0), data["p"], data["n"], place(m["position"]), m["time"]])
                if not page["more"]:
                    break
                if not page["messages"]:
                    raise Failure(f"an empty page of {channel} after {after} that has more")
                after = notices[-1][1]
            newest = await ask_once(run.port, "GET", f"/v1/channels/{channel}")
        except Refused as error:
            # 404 is right for a channel that has nothing; if it should have something the checker misses it.
            if error.status != 404:
                run.problem("history", f"{channel}: {error}")
            continue
        told = page["first_sequence"], page["last_sequence"], newest["first_sequence"], newest["sequence"], newest["count"]
        first, last = notices[0][1], notices[-1][1]
        if told != (first, last, first, last, len(notices)):
            run.problem("history", f"{channel}: has {first} to {last}, {len(notices)} in all; the numbers told are {told}")
        result[channel] = notices
    return result


async def disturb(run, server):
    """Kills and starts, at random moments; some kills hit the server while it starts."""
    chance, (low, high) = run.random("kills"), run.arguments.seconds_between
    while run.counts["kills"] < run.arguments.kills:
        await asyncio.sleep(chance.uniform(low, high))
        if chance.random() < 0.6:
            # Between a request and its answer, where a log that does half of the work shows it.
            run.sent.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(run.sent.wait(), 1)
            await asyncio.sleep(chance.choice([0, 0.001, 0.003, 0.01]) * chance.random())
            run.counts["aimed kills"] += 1
        await server.kill()
        while run.counts["kills"] < run.arguments.kills and chance.random() < 0.15:
            server.start()
            await asyncio.sleep(chance.choice([0.002, 0.01, 0.03, 0.1]) * chance.random())
            await server.kill()
            run.counts["kills while it starts"] += 1
        if chance.random() < 0.3:
            await asyncio.sleep(chance.uniform(0, 0.5))
        server.start()
        await server.ready()
        if sys.stderr.isatty() or run.counts["kills"] % 10 == 0:
            say(f"{run.counts['kills']} kills, {run.counts['acknowledged']} acknowledged, {delivered(run)} delivered")
    await asyncio.sleep(run.arguments.seconds)


def delivered(run):
    return sum(run.counts[t] for t in TRANSPORTS)


async def watch(run, server, subscribers):
    """A server that ended by itself ends the run; a connection without even a heartbeat is a problem and is broken."""
    while True:
        await asyncio.sleep(0.25)
        server.must_run()
        now = time.monotonic()
        for s in subscribers:
            if s.connection and now - s.heard_at > SILENCE:
                run.problem("silent", f"{s.name} heard nothing on {s.transport} for {SILENCE} s")
                s.drop()


async def catch_up(run, subscribers, newest):
    deadline = time.monotonic() + run.arguments.catch_up
    while time.monotonic() < deadline:
        behind = [s for s in subscribers if any(s.last[c] < newest.get(c, 0) for c in s.channels)]
        if not behind:
            return
        await asyncio.sleep(0.1)
    for s in behind:
        missing = {c: (s.last[c], newest[c]) for c in s.channels if s.last[c] < newest.get(c, 0)}
        run.problem("behind", f"{s.name} on {s.transport} after {s.position} has not caught up: {missing}")


def compare(run, before, after, when):
    for channel in CHANNELS:
        if before.get(channel) != after.get(channel):
            sizes = len(before.get(channel, [])), len(after.get(channel, []))
            run.problem("history", f"{channel} is another one {when}: {sizes[0]} and {sizes[1]} messages")


async def load(run, server):
    server.start()
    await server.ready()
    run.start_position = (await ask_once(run.port, "GET", "/v1/subscribe?" + urlencode({"channel": "torture.>"})))["position"]
    subscribers = [Subscriber(run, i) for i in range(run.arguments.subscribers)]
    publishers = [Publisher(run, i) for i in range(run.arguments.publishers)]
    reading, writing = [], []
    try:
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(watch(run, server, subscribers))
            reading = [group.create_task(s.work()) for s in subscribers]
            await asyncio.sleep(0.5)
            writing = [group.create_task(p.work()) for p in publishers]
            await disturb(run, server)
            run.publishing = False
            _, late = await asyncio.wait(writing, timeout=30)
            if late:
                run.problem("publishers", f"{len(late)} publishers have no answer 30 s after the last start")
                for task in late:
                    task.cancel()
            say(f"{run.counts['kills']} kills, {run.counts['acknowledged']} acknowledged; subscribers catch up")
            run.calm = True
            run.event("calm")
            final = await history(run)
            began = time.monotonic()
            await catch_up(run, subscribers, {c: notices[-1][1] for c, notices in final.items()})
            run.counts["catch-up milliseconds"] = int((time.monotonic() - began) * 1000)
            # What comes twice may come late.
            await asyncio.sleep(1)
            run.over = True
            for task in reading + [watcher]:
                task.cancel()
    finally:
        run.over = True
        for s in subscribers:
            s.drop()
    for row in final.items():
        run.write("history", *row)
    compare(run, final, await history(run), "after the subscribers have left")
    if run.arguments.memory:
        return await server.stop()
    await server.stop()
    server.start()
    await server.ready()
    compare(run, final, await history(run), "after SIGTERM and a start")
    first = await ask_once(run.port, "GET", "/v1/subscribe?" + urlencode({"channel": "torture.>", "after": run.start_position, "wait": 0}))
    if any(m["type"] == "gap" for m in first["messages"]):
        run.problem("gap", f"the position from before the first message, {run.start_position}, gets {compact(first['messages'][0])}")
    await server.stop()
    store = run.directory / "log.sqlite"
    with contextlib.closing(sqlite3.connect(store)) as database:
        answer = database.execute("PRAGMA integrity_check").fetchall()
        if answer != [("ok",)]:
            run.problem("store", f"integrity_check: {answer[:5]}")


def say(words):
    print(words, file=sys.stderr, flush=True)


def span(text):
    low, high = (float(part) for part in text.split(":"))
    if not 0 <= low <= high:
        raise ValueError
    return low, high


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--binary", help="the server; default: the release build, else the debug build")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--publishers", type=int, default=20)
    parser.add_argument("--subscribers", type=int, default=200)
    parser.add_argument("--rate", type=float, default=8, help="messages a second of each publisher")
    parser.add_argument("--seed", type=int, default=None, help="default: a random one, which is printed")
    parser.add_argument("--seconds-between", type=span, default=(0.3, 2.0), metavar="LOW:HIGH", help="from ready to the next kill")
    parser.add_argument("--seconds", type=float, default=None, help="load after the last kill; default 3, without kills 10")
    parser.add_argument("--port", type=int, default=0, help="0: a free one, kept over restarts")
    parser.add_argument("--work", type=Path, help="directory of the store, logs and journals; default: a temporary one, kept on failure")
    parser.add_argument("--catch-up", type=float, default=60, help="seconds that subscribers have to catch up at the end")
    parser.add_argument("--deadline", type=float, default=None, help="seconds for the whole run; default: from the number of kills")
    parser.add_argument("--serve-arguments", default="", help="more arguments of `tocsin serve`, in one word")
    parser.add_argument("--allow-gaps", action="store_true", help="gaps of retention are not failures")
    parser.add_argument("--memory", action="store_true", help="no --store; with kills it has to fail, which tests this tool")
    a = parser.parse_args()
    if not a.binary:
        found = [str(ROOT / ".build" / c / "tocsin") for c in ("release", "debug") if (ROOT / ".build" / c / "tocsin").exists()]
        if not found:
            parser.error("no binary in .build; name one with --binary")
        a.binary = found[0]
    if a.seed is None:
        a.seed = random.SystemRandom().randrange(1_000_000)
    if a.seconds is None:
        a.seconds = 3 if a.kills else 10
    if a.deadline is None:
        a.deadline = 120 + a.seconds + a.catch_up + a.kills * (a.seconds_between[1] + 5)
    if not a.memory:
        known = subprocess.run([a.binary, "serve", "--help"], capture_output=True, text=True, timeout=20).stdout
        if "--store" not in known:
            if a.kills:
                parser.error(f"{a.binary} has no --store; --kills 0 works without it")
            say("this binary has no --store: the log is in memory")
            a.memory = True
    return a


def summary(run, server, problems):
    c = run.counts
    rows = [("kills", f"{c['kills']}, {c['aimed kills']} of them right after a request, {c['kills while it starts']} while it starts"),
            ("published", f"{c['published']} messages, {c['batches']} batches"),
            ("acknowledged", c["acknowledged"]),
            ("unknown", f"{c['unknown']}, {c['unknown, in the log']} of them are in the log"), ("retries", c["publish retries"]),
            ("delivered", f"{delivered(run)}: " + ", ".join(f"{t} {c[t]}" for t in TRANSPORTS)),
            ("reconnects", c["reconnects"]), ("transport changes", c["transport changes"])]
    for name in ("asked again", "asked again after a restart", "answers not waited for", "polls left in the middle", "left after hello",
                 "publications told 503", "subscriptions told 503", "publications without an answer in time", "timeouts", "gaps"):
        rows.append((name, c[name]))
    if server.recoveries:
        rows.append(("start to /readyz", f"at most {max(server.recoveries):.3f} s, last {server.recoveries[-1]:.3f} s"))
    rows.append(("catching up at the end", f"{c['catch-up milliseconds'] / 1000:.1f} s"))
    usage, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    seconds = time.monotonic() - run.begun
    rows.append(("time", f"{seconds:.0f} s; CPU {usage.ru_utime + usage.ru_stime:.0f} s here, "
                         f"{children.ru_utime + children.ru_stime:.0f} s in the servers; {usage.ru_maxrss // 1024} MiB here"))
    for name, value in rows:
        print(f"{name:40} {value}")
    print(f"{'problems':40} {len(problems)}")
    for kind, count in Counter(kind for kind, _ in problems).most_common():
        print(f"  {kind:38} {count}")
    # The first of each kind: one fault is often many problems of one kind, which would hide the others.
    share, shown = max(2, 20 // max(1, len({kind for kind, _ in problems}))), Counter()
    for kind, words in problems:
        shown[kind] += 1
        if shown[kind] <= share:
            print(f"{kind}: {words}")


def main():
    a = parse()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * a.subscribers + 1024)), hard))
    directory = a.work or Path(tempfile.mkdtemp(prefix="tocsin-torture-"))
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        sys.exit(f"{directory} is not empty")
    # The build may replace the binary while this runs; all starts have to be of one.
    a.binary = str(shutil.copy2(a.binary, directory / "tocsin-under-test"))
    run = Run(a, directory)
    server = Server(run)
    run.event("arguments", {k: str(v) for k, v in vars(a).items()})
    say(f"seed {a.seed}, port {run.port}, work in {directory}")
    # SIGTERM ends this as ^C does: through `finally`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    failed = True
    try:
        async def limited():
            try:
                async with asyncio.timeout(a.deadline) as limit:
                    await load(run, server)
            except TimeoutError as error:
                raise Failure(f"not finished after {a.deadline:.0f} s") if limit.expired() else error
        try:
            asyncio.run(limited())
        except Exception as error:
            for part in error.exceptions if isinstance(error, ExceptionGroup) else [error]:
                run.problem("failure", f"{type(part).__name__}: {part}")
                if not isinstance(part, (Failure, OSError)):
                    traceback.print_exception(part)
        server.finish()
        run.flush()
        problems = list(run.problems)
        # A run that did not come to its end has subscribers that were not done: their missing messages say nothing.
        if any(kind == "failure" for kind, _ in problems):
            say("the run broke off: the journals are not judged for completeness")
            broken_off = checker.check(*checker.load(directory)[:3], None, a.allow_gaps)
            problems += [p for p in broken_off if p[0] not in ("lost", "partly-delivered")]
        else:
            journals = checker.load(directory)
            problems += checker.check(*journals, a.allow_gaps)
            answered = {a[:2] for a in journals[1]}
            there = {(n.publisher, n.number) for notices in journals[3].values() for n in notices}
            run.counts["unknown, in the log"] = len(there - answered)
        summary(run, server, problems)
        failed = bool(problems)
    finally:
        server.finish()
        for file in run.files.values():
            file.close()
        if failed:
            print(f"seed {a.seed}; store, journals and the server's log are in {directory}")
        elif not a.work:
            shutil.rmtree(directory)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
