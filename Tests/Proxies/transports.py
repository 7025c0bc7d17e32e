"""Single transports of the protocol, each in one attempt: what comes over it, until it ends, which is a WireFault.

Each yields the objects of the protocol; polls yield a `hello` of their own when the first answer has come.
"""

import asyncio
import json
import urllib.parse

import wire

PAD_BYTES = 4096


def query(channel, **items):
    return "/v1/subscribe?" + urllib.parse.urlencode(
        [("channel", channel)] + [(name, value) for name, value in items.items() if value is not None])


async def websocket(route, channel, after="earliest", heartbeat=None):
    socket = await wire.WebSocket.open(route, query(channel, after=after, heartbeat=heartbeat))
    try:
        async for message in socket.messages():
            yield message
    finally:
        socket.close()


async def event_stream(route, channel, after="earliest", heartbeat=None, pad=None, post=False):
    fields = {"Accept": "text/event-stream"}
    if post:
        items = {"channels": [channel], "after": after, "heartbeat": heartbeat, "pad": pad}
        body = json.dumps({name: value for name, value in items.items() if value is not None}).encode()
        asking = wire.request(route, "POST", "/v1/subscribe", {**fields, "Content-Type": "application/json"}, body)
    else:
        asking = wire.request(route, "GET", query(channel, after=after, heartbeat=heartbeat, pad=pad), fields)
    async with asking as (status, reason, answered, pieces):
        if status != 200:
            raise wire.WireFault(f"{status} {reason}".strip())
        if not answered.get("content-type", "").startswith("text/event-stream"):
            raise wire.WireFault(f"an answer of type {answered.get('content-type')}")
        rest, data = b"", []
        async for piece in pieces:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if line.startswith(b"data:"):
                    data.append(line[5:].strip())
                elif not line.strip() and data:
                    yield json.loads(b"\n".join(data))
                    data = []
        raise wire.WireFault("ended")


async def event_stream_post(route, channel, after="earliest", heartbeat=None):
    async for message in event_stream(route, channel, after, heartbeat, post=True):
        yield message


async def event_stream_padded(route, channel, after="earliest", heartbeat=None):
    """Heartbeats every second, and padded, to push what is held back out of a buffer."""
    async for message in event_stream(route, channel, after, heartbeat=1, pad=PAD_BYTES, post=True):
        yield message


async def long_poll(route, channel, after="earliest", heartbeat=None, wait=10, pause=0.0, close=False):
    """`close`: the connection ends after each answer; else it stays open, as far as the other end is told."""
    begun = False
    fields = {"Accept": "application/json", "Content-Type": "application/json", "Prefer": f"wait={wait}"}
    if close:
        fields["Connection"] = "close"
    while True:
        async with asyncio.timeout(wait + 10):
            body = json.dumps({"channels": [channel], "after": after}).encode()
            status, _, content = await wire.fetch(route, "POST", "/v1/subscribe", fields, body)
        if status != 200:
            raise wire.WireFault(f"{status}")
        answer = json.loads(content)
        if not begun:
            begun = True
            yield {"type": "hello", "position": answer["position"]}
        for message in answer["messages"]:
            yield message
        after = answer["position"]
        await asyncio.sleep(pause)


async def long_poll_close(route, channel, after="earliest", heartbeat=None):
    async for message in long_poll(route, channel, after, close=True):
        yield message


async def short_poll(route, channel, after="earliest", heartbeat=None):
    """Asks every two seconds, and is answered at once."""
    async for message in long_poll(route, channel, after, wait=0, pause=2.0, close=True):
        yield message


# The rungs of Docs/fallback.md, best first.
TRANSPORTS = {
    "websocket": websocket,
    "sse": event_stream,
    "sse-post": event_stream_post,
    "sse-padded": event_stream_padded,
    "long-poll": long_poll,
    "long-poll-close": long_poll_close,
    "short-poll": short_poll,
}
