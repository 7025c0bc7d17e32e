"""Readers that never read cost a bounded amount of memory, and the others get everything meanwhile."""

import asyncio
import http.client
import json
import re
import resource
import socket
import time

import aiohttp

from support import http as plain_http
from support import Promise, RawWebSocket, async_http, event_stream, query, run

STALLED, READING, MESSAGES, SIZE = 100, 200, 300, 4096
# What the kernel takes for a socket is up to 4 MiB, so the stalled ones get more than that besides: a message in five, of 100 KB.
EVERY, BULK, BULK_SIZE = 5, 60, 100_000
GROWTH = 60 * 1024 * 1024
SEQUENCE = re.compile(rb'"sequence":(\d+),')


class Reader:
    """Looks only at the sequence of each message, to be quick; what is out of order ends the test."""

    def __init__(self):
        self.last = 0

    def see(self, data):
        for number in SEQUENCE.findall(data):
            assert int(number) == self.last + 1, f"{int(number)} after {self.last}"
            self.last += 1
        return self.last == MESSAGES


async def read_websocket(session, server, channel, ready):
    async with session.ws_connect(f"{server.url}/v1/subscribe?{query(channel + '.live')}", max_msg_size=0) as connection:
        await connection.receive(10)
        ready.release()
        reader = Reader()
        async for message in connection:
            if reader.see(message.data.encode()):
                return
    raise AssertionError("the connection ended early")


async def read_stream(session, server, channel, ready):
    url = f"{server.url}/v1/subscribe?{query(channel + '.live')}"
    async with session.get(url, headers={"Accept": "text/event-stream"}) as answer:
        rest, reader, first = b"", Reader(), True
        async for piece in answer.content.iter_any():
            if first:
                ready.release()
                first = False
            whole, line_break, rest = (rest + piece).rpartition(b"\n")
            if reader.see(whole + line_break):
                return
    raise AssertionError("the stream ended early")


async def publish_all(server, channel):
    async with async_http(timeout=30) as client:
        for number in range(MESSAGES):
            data = json.dumps({"number": number, "filler": "x" * SIZE})
            answer = await client.post(f"{server.url}/v1/channels/{channel}.live", content=data)
            assert answer.status_code == 201
            if number % EVERY == 0:
                answer = await client.post(f"{server.url}/v1/channels/{channel}.bulk", content=json.dumps("y" * BULK_SIZE))
                assert answer.status_code == 201


async def work(server, channel):
    ready = asyncio.Semaphore(0)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=60)) as session:
        half = READING // 2
        readers = [asyncio.create_task(read(session, server, channel, ready))
                   for read in (read_websocket, read_stream) for _ in range(half)]
        for _ in range(READING):
            await asyncio.wait_for(ready.acquire(), 20)
        before = server.resident()
        start = time.monotonic()
        await publish_all(server, channel)
        await asyncio.wait_for(asyncio.gather(*readers), 40)
        return before, time.monotonic() - start


def complete(promise, channel):
    return promise.previous == {f"{channel}.live": MESSAGES, f"{channel}.bulk": BULK}


def drain_websocket(client, channel):
    promise = Promise()
    client.raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    while not complete(promise, channel):
        for message in client.texts(1, 20):
            if message["type"] in ("notification", "gap"):
                promise.see(message)
    return promise


def drain_stream(client, channel):
    promise, data = Promise(), b""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    client.settimeout(20)
    answer = http.client.HTTPResponse(client)
    answer.begin()
    while not complete(promise, channel):
        piece = answer.read1(65536)
        assert piece, "the stream ended"
        *events, data = (data + piece).split(b"\n\n")
        for event in events:
            found = re.search(rb'^data: (\{"type":"(?:notification|gap)".*\})$', event, re.MULTILINE)
            if found:
                promise.see(json.loads(found[1]))
    return promise


def test_100_readers_that_never_read_cost_a_bounded_amount_and_200_others_get_everything_in_order(start_server, channel):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 1024:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    server = start_server(heartbeat=25)
    path = f"/v1/subscribe?{query(channel + '.>')}"
    websockets_ = [RawWebSocket(server.port, path, receive_buffer=4096) for _ in range(STALLED // 2)]
    streams = [event_stream(server.port, path, receive_buffer=4096) for _ in range(STALLED // 2)]
    try:
        for stream in streams:
            assert stream.recv(5, socket.MSG_PEEK), "the stream does not begin"
        before, seconds = run(work(server, channel), 90)
        growth = server.resident() - before
        with plain_http() as client:
            metrics = client.get(f"{server.url}/metrics").text
        congestions = int(re.search(r"^tocsin_congestions_total (\d+)", metrics, re.MULTILINE)[1])
        print(f"{READING} readers got {MESSAGES} messages each in {seconds:.1f} s; resident memory grew by {growth / 2**20:.1f} MiB; "
              f"{congestions} times a socket was full")
        assert congestions >= STALLED, "the sockets of those that never read were not full, so this test showed nothing"
        assert growth < GROWTH, f"{growth / 2**20:.1f} MiB"
        assert seconds < 40
        for promise in (drain_websocket(websockets_[0], channel), drain_stream(streams[0], channel)):
            assert promise.count + promise.skipped + sum(gap["to"] - gap["from"] + 1 for gap in promise.gaps) == MESSAGES + BULK
        server.answers()
    finally:
        for client in websockets_:
            client.raw.close()
        for stream in streams:
            stream.close()
