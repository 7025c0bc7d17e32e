#!/usr/bin/env python3
"""A small server of the same protocol with faults that can be switched on: it shows that torture.py finds them.

    FAULT=keys-in-memory python3 torture.py --binary ./model.py --kills 10 --publishers 8 --subscribers 40

It is right without FAULT. It knows only what torture.py asks for.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import os
import sqlite3
import struct
import sys
import time
from urllib.parse import parse_qsl, unquote, urlsplit

FAULTS = {
    "": "none",
    "acknowledge-early": "answers 201 before the commit",
    "deliver-early": "subscribers get messages before the commit",
    "keys-in-memory": "idempotency keys are forgotten at a restart",
    "keys-apart": "a key is committed after its messages, not with them",
    "batch-in-parts": "a batch is committed item by item",
    "resume-later": "a position from before the last start resumes one message too late",
    "resume-earlier": "a position from before the last start resumes one message too early",
    "hello-ahead": "the position of hello is the end of the log",
    "poll-ahead": "the position of a long-poll answer is the end of the log",
    "new-epoch": "a restart is a new epoch",
    "drop": "one delivery of 5000 does not happen",
    "swap": "one pair of deliveries of 5000 is in the wrong order",
    "short-history": "the history of a channel leaves out its newest message",
}
FAULT = os.environ.get("FAULT", "")


def fault(name):
    assert name in FAULTS
    return FAULT == name


def compact(value):
    return json.dumps(value, separators=(",", ":"))


def matches(pattern, channel):
    wanted, tokens = pattern.split("."), channel.split(".")
    if wanted[-1] == ">":
        wanted, tokens = wanted[:-1], tokens[:len(wanted) - 1] if len(tokens) >= len(wanted) else []
        if not tokens and wanted:
            return False
    return len(wanted) == len(tokens) and all(w in ("*", t) for w, t in zip(wanted, tokens))


class Log:
    def __init__(self, path):
        self.database = sqlite3.connect(path, isolation_level=None)
        self.database.executescript("""PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;
            CREATE TABLE IF NOT EXISTS log(id INTEGER PRIMARY KEY, channel TEXT, sequence INTEGER, body TEXT);
            CREATE TABLE IF NOT EXISTS keys(key TEXT PRIMARY KEY, request BLOB, answer TEXT);
            CREATE TABLE IF NOT EXISTS meta(epoch TEXT);""")
        if fault("new-epoch") or not self.database.execute("SELECT * FROM meta").fetchone():
            self.database.execute("DELETE FROM meta")
            self.database.execute("INSERT INTO meta VALUES (?)", (os.urandom(6).hex(),))
        self.epoch, = self.database.execute("SELECT epoch FROM meta").fetchone()
        self.entries = self.database.execute("SELECT channel, sequence, body FROM log ORDER BY id").fetchall()
        self.at_start = len(self.entries)
        self.sequences = {}
        for channel, sequence, _ in self.entries:
            self.sequences[channel] = sequence
        self.keys = {k: (r, a) for k, r, a in self.database.execute("SELECT * FROM keys")} if not fault("keys-in-memory") else {}
        self.readable = len(self.entries)
        self.news = asyncio.Event()

    def position(self, number):
        return f"{self.epoch}.{number}"

    def tell(self):
        self.readable = len(self.entries)
        self.news.set()
        self.news = asyncio.Event()

    async def publish(self, items, key, request):
        self.database.execute("BEGIN") if not self.database.in_transaction else None
        results = []
        for channel, data in items:
            sequence = self.sequences[channel] = self.sequences.get(channel, 0) + 1
            number = len(self.entries) + 1
            place = {"channel": channel, "sequence": sequence, "position": self.position(number)}
            moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{int(time.time() * 1000) % 1000:03d}Z"
            body = compact({"type": "notification", **place, "time": moment, "data": data})
            self.entries.append((channel, sequence, body))
            self.database.execute("INSERT INTO log VALUES (?, ?, ?, ?)", (number, channel, sequence, body))
            results.append(place)
            if fault("batch-in-parts") and len(items) > 1:
                self.commit()
                time.sleep(0.003)
                self.database.execute("BEGIN")
        if fault("deliver-early"):
            self.tell()
        if fault("keys-apart") and key:
            self.commit()
            time.sleep(0.002)
        if key:
            self.keys[key] = request, compact(results)
            self.database.execute("INSERT INTO keys VALUES (?, ?, ?)", (key, *self.keys[key])) if not fault("keys-in-memory") else None
        if fault("acknowledge-early") or fault("deliver-early"):
            # A transaction that stays open for others, too.
            later = asyncio.get_running_loop().call_later(0.03, self.commit)
            if fault("deliver-early"):
                await asyncio.sleep(max(0.031, later.when() - asyncio.get_running_loop().time()))
                self.commit()
        else:
            self.commit()
        return results

    def commit(self):
        if self.database.in_transaction:
            self.database.execute("COMMIT")
        self.tell()



class Client:
    def __init__(self, log, reader, writer):
        self.log, self.reader, self.writer = log, reader, writer

    async def run(self):
        try:
            while await self.request():
                pass
        except (EOFError, OSError, asyncio.LimitOverrunError):
            pass
        finally:
            self.writer.close()

    async def answer(self, status, value):
        body = compact(value).encode()
        self.writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await self.writer.drain()
        return True

    async def request(self):
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, target, _ = head[0].split(" ")
        fields = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
        body = await self.reader.readexactly(int(fields.get("content-length", 0)))
        url = urlsplit(target)
        path, query = url.path, parse_qsl(url.query)
        if path == "/readyz":
            return await self.answer(200, "ready")
        if path == "/v1/subscribe":
            return await self.subscribe(fields, query, body)
        if method == "POST":
            return await self.publish(path, fields, body)
        return await self.history(unquote(path.removeprefix("/v1/channels/")), dict(query))

    async def publish(self, path, fields, body):
        key, request, batch = fields.get("idempotency-key"), hashlib.sha256(path.encode() + body).digest(), path == "/v1/publish"
        status = 201
        if key in self.log.keys:
            same, results = self.log.keys[key]
            if same != request:
                return await self.answer(409, "reused")
            status, results = 200, json.loads(results)
        elif not batch:
            results = await self.log.publish([(path.removeprefix("/v1/channels/"), json.loads(body))], key, request)
        else:
            lines = fields["content-type"] == "application/x-ndjson"
            items = [json.loads(line) for line in body.splitlines()] if lines else json.loads(body)
            results = await self.log.publish([(i["channel"], i["data"]) for i in items], key, request)
        return await self.answer(status, {"results": results} if batch else results[0])

    async def history(self, channel, query):
        page = channel.endswith("/history")
        channel = channel.removesuffix("/history")
        found = [e for e in self.log.entries if e[0] == channel]
        if not found:
            return await self.answer(404, "nothing")
        if fault("short-history"):
            found.pop()
        if not page:
            return await self.answer(200, {"sequence": found[-1][1], "first_sequence": 1, "count": len(found)})
        after, limit = int(query["after"]), int(query["limit"])
        wanted = [json.loads(e[2]) for e in found if e[1] > after]
        return await self.answer(200, {"messages": wanted[:limit], "first_sequence": 1, "last_sequence": found[-1][1],
                                       "more": len(wanted) > limit})

    def begin(self, after):
        """The number of the last message that the client has, and a gap if it has to be told one."""
        if after in (None, "latest"):
            return self.log.readable, []
        if after == "earliest":
            return 0, []
        epoch, number = after.split(".")
        number = int(number)
        if epoch != self.log.epoch or number > len(self.log.entries):
            return 0, [compact({"type": "gap", "reason": "epoch", "position": self.log.position(0)})]
        if fault("resume-later") and 0 < number < self.log.at_start:
            number += 1
        if fault("resume-earlier") and 0 < number <= self.log.at_start:
            number -= 1
        return number, []

    def collect(self, patterns, cursor, limit):
        found = []
        while cursor < self.log.readable and len(found) < limit:
            channel, _, body = self.log.entries[cursor]
            cursor += 1
            if any(matches(p, channel) for p in patterns):
                if not (fault("drop") and os.urandom(2) < b"\0\x0d"):
                    found.append(body)
                if fault("swap") and len(found) > 1 and os.urandom(2) < b"\0\x40":
                    found[-2:] = reversed(found[-2:])
        return cursor, found

    async def subscribe(self, fields, query, body):
        more = json.loads(body) if body else dict(query)
        patterns = more["channels"] if body else [v for k, v in query if k == "channel"]
        after = fields.get("last-event-id") or more.get("after")
        if "sec-websocket-key" in fields:
            return await self.websocket(fields, patterns, after)
        cursor, found = self.begin(after)
        if "event-stream" in fields.get("accept", ""):
            self.writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")

            def event(text):
                message = json.loads(text)
                name = "" if message["type"] == "notification" else f"event: {message['type']}\n"
                data = f"id: {message['position']}\n{name}data: {text}\n\n".encode()
                self.writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            return await self.stream(patterns, cursor, found, event)
        if after is None:
            return await self.answer(200, {"position": self.log.position(cursor), "messages": []})
        wait = float(dict([fields.get("prefer", "=").split("=")]).get("wait") or more.get("wait", 25))
        deadline = time.monotonic() + wait
        while True:
            news = self.log.news
            cursor, more_found = self.collect(patterns, cursor, 1000)
            found += more_found
            if found or time.monotonic() >= deadline:
                break
            try:
                await asyncio.wait_for(news.wait(), deadline - time.monotonic())
            except TimeoutError:
                pass
        if fault("poll-ahead"):
            await asyncio.sleep(0.01)
            cursor = self.log.readable
        position = self.log.position(cursor)
        return await self.answer(200, {"position": position, "messages": [json.loads(f) for f in found]})

    async def stream(self, patterns, cursor, first, write):
        start = self.log.readable if fault("hello-ahead") else cursor
        write(compact({"type": "hello", "session": "0", "heartbeat": 5, "position": self.log.position(start)}))
        return await self.follow(patterns, cursor, first, write)

    async def follow(self, patterns, cursor, found, write):
        while True:
            news = self.log.news
            for text in found:
                write(text)
            await self.writer.drain()
            before = cursor
            cursor, found = self.collect(patterns, cursor, 100)
            if cursor == before:
                await news.wait()

    def frame(self, text):
        data = text.encode()
        size = bytes([len(data)]) if len(data) < 126 else b"\x7e" + struct.pack("!H", len(data))
        self.writer.write(b"\x81" + size + data)

    async def websocket(self, fields, patterns, after):
        accept = base64.b64encode(hashlib.sha1((fields["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
        self.writer.write(b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        if patterns:
            return await self.stream(patterns, *self.begin(after), self.frame)
        self.frame(compact({"type": "hello", "session": "0", "heartbeat": 5, "position": self.log.position(self.log.readable)}))
        size = (await self.reader.readexactly(2))[1] & 127
        if size == 126:
            size, = struct.unpack("!H", await self.reader.readexactly(2))
        mask, data = await self.reader.readexactly(4), await self.reader.readexactly(size)
        command = json.loads(bytes(byte ^ mask[i & 3] for i, byte in enumerate(data)))
        cursor, found = self.begin(command["after"])
        self.frame(compact({"type": "reply", "id": command["id"], "position": self.log.position(cursor)}))
        return await self.follow(command["channels"], cursor, found, self.frame)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("serve")
    for name in ("--port", "--store", "--durability", "--drain", "--keep"):
        parser.add_argument(name)
    a = parser.parse_args()
    log = Log(a.store)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(15, lambda: (log.commit(), os._exit(0)))
    server = await asyncio.start_server(lambda r, w: Client(log, r, w).run(), "127.0.0.1", int(a.port), limit=1 << 20)
    await server.serve_forever()


if __name__ == "__main__":
    if FAULT not in FAULTS:
        sys.exit(f"faults: {FAULTS}")
    asyncio.run(main())
