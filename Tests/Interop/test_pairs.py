"""A subscriber is cut off on one transport and comes back on another: it gets exactly what it missed, in order, once."""

import asyncio
import itertools

import pytest

from support import WAYS, Cutter, async_http, following, run

BEFORE, AWAY, AFTER = 12, 25, 12
SEEN = 7
PLAIN = ["websocket", "sse", "long-poll"]
HTTP_WAYS = ["sse", "sse-http2", "sse-http2-tls", "long-poll", "long-poll-http2", "long-poll-http2-tls"]


async def publish_each(client, server, names, numbers, pause=0.0):
    """Publishes each number to one of the channels in turn; answers (channel, sequence, number) as the server numbered them."""
    said = []
    for number in numbers:
        name = names[number % len(names)]
        answer = await client.post(f"{server.url}/v1/channels/{name}", content=str(number))
        assert answer.status_code == 201
        said.append((name, answer.json()["sequence"], number))
        if pause:
            await asyncio.sleep(pause)
    return said


async def take(source, count):
    found = []
    async for message in source:
        assert message["type"] == "notification", message
        found.append(message)
        if len(found) == count:
            break
    assert len(found) == count, "the stream ended early"
    return found


async def nothing_more(source):
    """Nothing comes that was not published."""
    try:
        extra = await asyncio.wait_for(anext(source), 0.3)
    except (TimeoutError, StopAsyncIteration):
        return
    raise AssertionError(f"more than was published: {extra}")


async def cut_and_return(server, channel, first, second, several, concurrent):
    names = [f"{channel}.{token}" for token in ("a", "b", "c")] if several else [channel]
    wanted = f"{channel}.*" if several else channel
    total = BEFORE + AWAY + AFTER
    tls = WAYS[first][2]
    async with async_http() as client, Cutter(server.tls_port if tls else server.port) as cutter:
        start = (await client.get(f"{server.url}/v1/subscribe?channel={wanted}")).json()["position"]
        if concurrent:
            publishing = asyncio.create_task(publish_each(client, server, names, range(total), pause=0.004))
        else:
            said = await publish_each(client, server, names, range(BEFORE))
        async with following(first, cutter.port, wanted, start) as source:
            seen = await take(source, SEEN)
            cutter.cut()
        if not concurrent:
            said += await publish_each(client, server, names, range(BEFORE, BEFORE + AWAY))
        port = server.tls_port if WAYS[second][2] else server.port
        async with following(second, port, wanted, seen[-1]["position"]) as source:
            if concurrent:
                seen += await take(source, total - SEEN)
                said = await publishing
            else:
                missed = BEFORE - SEEN + AWAY
                seen += await take(source, missed)
                said += await publish_each(client, server, names, range(BEFORE + AWAY, total))
                seen += await take(source, AFTER)
            await nothing_more(source)
    got = [(message["channel"], message["sequence"], message["data"]) for message in seen]
    assert all("skipped" not in message for message in seen)
    for name in names:
        assert [entry for entry in got if entry[0] == name] == [entry for entry in said if entry[0] == name]
    assert len(got) == total


@pytest.mark.parametrize("concurrent", [False, True], ids=["published-while-away", "published-all-the-time"])
@pytest.mark.parametrize("several", [False, True], ids=["one-channel", "pattern-of-three"])
@pytest.mark.parametrize("first, second", list(itertools.product(PLAIN, PLAIN)), ids=lambda way: way)
def test_a_subscriber_that_was_cut_off_comes_back_and_gets_exactly_what_it_missed(
        server, channel, first, second, several, concurrent):
    run(cut_and_return(server, channel, first, second, several, concurrent))


@pytest.mark.parametrize("first, second", [pair for pair in itertools.product(HTTP_WAYS, HTTP_WAYS)
                                           if WAYS[pair[0]][1:] != WAYS[pair[1]][1:]], ids=lambda way: way)
def test_a_subscriber_comes_back_over_another_version_of_http(server, channel, first, second):
    run(cut_and_return(server, channel, first, second, several=True, concurrent=True))


@pytest.mark.parametrize("first, second", [("websocket-tls", "sse-http2-tls"), ("sse-http2-tls", "websocket-tls"),
                                           ("websocket-tls", "long-poll-http2"), ("long-poll-http2-tls", "websocket")])
def test_a_subscriber_goes_between_a_websocket_and_http2(server, channel, first, second):
    run(cut_and_return(server, channel, first, second, several=True, concurrent=True))


def test_a_subscriber_that_is_cut_off_again_and_again_still_gets_everything_once(server, channel):
    async def work():
        total, got = 240, []
        async with async_http() as client, Cutter(server.port) as cutter:
            position = (await client.get(f"{server.url}/v1/subscribe?channel={channel}")).json()["position"]
            publishing = asyncio.create_task(publish_each(client, server, [channel], range(total), pause=0.002))
            for way in itertools.cycle(["websocket", "sse", "long-poll", "sse-http2", "long-poll-http2"]):
                async with following(way, cutter.port, channel, position) as source:
                    got += await take(source, min(15, total - len(got)))
                    position = got[-1]["position"]
                    cutter.cut()
                if len(got) == total:
                    break
            await publishing
        assert [message["sequence"] for message in got] == list(range(1, total + 1))
        assert [message["data"] for message in got] == list(range(total))
    run(work())
