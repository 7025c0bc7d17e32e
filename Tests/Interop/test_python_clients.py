"""aiohttp and httpx with httpx-sse, on each of the transports."""

import asyncio
import json

import aiohttp
import httpx_sse
import pytest

from support import Promise, async_http, http, publish, publish_many, query, run, trusting_context

COUNT = 50


def address(server, tls, websocket=False):
    return (server.tls_url if tls else server.url).replace("http", "ws" if websocket else "http", 1)


both = pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])


async def publisher(server, channel):
    async with async_http() as client:
        for number in range(COUNT):
            answer = await client.post(f"{server.url}/v1/channels/{channel}", content=str(number))
            assert answer.status_code == 201


async def check(messages):
    promise, seen = Promise(), []
    async for message in messages:
        promise.see(message)
        seen.append(message["data"])
        if len(seen) == COUNT:
            break
    assert seen == list(range(COUNT))


@both
def test_aiohttp_follows_a_websocket(server, channel, tls):
    async def work():
        async with aiohttp.ClientSession() as session:
            url = f"{address(server, tls, True)}/v1/subscribe?{query(channel)}"
            async with session.ws_connect(url, ssl=trusting_context(), protocols=["tocsin.v1"], compress=15) as socket:
                assert socket.protocol == "tocsin.v1"
                assert (await socket.receive_json())["type"] == "hello"

                async def messages():
                    while True:
                        yield await socket.receive_json()
                await asyncio.gather(check(messages()), publisher(server, channel))
    run(work())


@both
def test_aiohttp_reads_an_event_stream_by_lines(server, channel, tls):
    async def work():
        async with aiohttp.ClientSession() as session:
            url = f"{address(server, tls)}/v1/subscribe?{query(channel)}"
            async with session.get(url, ssl=trusting_context(), headers={"Accept": "text/event-stream"}) as answer:
                assert answer.status == 200 and answer.content_type == "text/event-stream"
                assert answer.headers["Cache-Control"] == "no-store" and answer.headers["X-Accel-Buffering"] == "no"

                async def messages():
                    async for line in answer.content:
                        if line.startswith(b"data:") and b'"type":"hello"' not in line:
                            yield json.loads(line[5:])
                lines = messages()
                await asyncio.gather(check(lines), publisher(server, channel))
    run(work())


@both
def test_aiohttp_polls(server, channel, tls):
    async def work():
        async with aiohttp.ClientSession() as session:
            url = f"{address(server, tls)}/v1/subscribe?"

            async def messages():
                items = query(channel)
                while True:
                    async with session.get(url + items, ssl=trusting_context(), headers={"Prefer": "wait=5"}) as answer:
                        assert answer.status == 200
                        body = await answer.json()
                        if not started.done():
                            started.set_result(None)
                    for message in body["messages"]:
                        yield message
                    items = query(channel, after=body["position"])
            started = asyncio.get_running_loop().create_future()

            async def publish_then():
                await started
                await publisher(server, channel)
            await asyncio.gather(check(messages()), publish_then())
    run(work())


http_ways = pytest.mark.parametrize("version, tls", [("1.1", False), ("1.1", True), ("2", False), ("2", True)],
                                    ids=["http1", "http1-tls", "http2", "http2-tls"])


@http_ways
def test_httpx_sse_follows_an_event_stream(server, channel, version, tls):
    async def work():
        async with async_http(version) as client:
            url = f"{address(server, tls)}/v1/subscribe?{query(channel)}"
            async with httpx_sse.aconnect_sse(client, "GET", url) as source:
                assert source.response.http_version == ("HTTP/2" if version == "2" else "HTTP/1.1")
                events = source.aiter_sse()
                first = await anext(events)
                assert first.event == "hello" and first.retry == 2000

                async def messages():
                    async for event in events:
                        assert event.event == "message" and event.id == event.json()["position"]
                        yield event.json()
                await asyncio.gather(check(messages()), publisher(server, channel))
    run(work())


@http_ways
def test_httpx_polls(server, channel, version, tls):
    async def work():
        async with async_http(version) as client:
            url = f"{address(server, tls)}/v1/subscribe?"
            position = (await client.get(url + query(channel))).json()["position"]

            async def messages(position):
                while True:
                    answer = await client.get(url + query(channel, after=position), headers={"Prefer": "wait=5"})
                    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
                    assert answer.headers["preference-applied"] == "wait=5"
                    for message in answer.json()["messages"]:
                        yield message
                    position = answer.json()["position"]
            await asyncio.gather(check(messages(position)), publisher(server, channel))
    run(work())


@http_ways
def test_one_connection_carries_publications_polls_and_streams_one_after_the_other(server, channel, version, tls):
    base = address(server, tls)
    with http(version) as client:
        for number in range(20):
            assert client.post(f"{base}/v1/channels/{channel}", content=str(number)).json()["sequence"] == number + 1
            body = client.get(f"{base}/v1/subscribe?{query(channel, after='earliest')}").json()
            assert [message["data"] for message in body["messages"]] == list(range(number + 1))


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_forty_streams_of_one_http2_connection_get_everything(server, channel, tls):
    async def work():
        async with async_http("2") as client:
            base = address(server, tls)

            async def one(ready):
                async with httpx_sse.aconnect_sse(client, "GET", f"{base}/v1/subscribe?{query(channel)}") as source:
                    events = source.aiter_sse()
                    assert (await anext(events)).event == "hello"
                    ready.set_result(source.response.stream)

                    async def messages():
                        async for event in events:
                            yield event.json()
                    await check(messages())
            loop = asyncio.get_running_loop()
            ready = [loop.create_future() for _ in range(40)]

            async def then_publish():
                await asyncio.gather(*ready)
                for number in range(COUNT):
                    assert (await client.post(f"{base}/v1/channels/{channel}", content=str(number))).status_code == 201
            await asyncio.gather(then_publish(), *[one(future) for future in ready])
    run(work(), 40)


def test_a_subscription_by_post_is_the_same_for_event_streams_and_polls(server, channel):
    publish_many(server, [(channel, number) for number in range(3)])
    wanted = {"channels": [channel], "after": "earliest", "heartbeat": 7, "wait": 3}
    with http() as client:
        answer = client.post(f"{server.url}/v1/subscribe", json=wanted)
        assert answer.status_code == 200 and answer.headers["preference-applied"] == "wait=3"
        assert [message["data"] for message in answer.json()["messages"]] == [0, 1, 2]
        with httpx_sse.connect_sse(client, "POST", f"{server.url}/v1/subscribe", json=wanted) as source:
            events = source.iter_sse()
            assert next(events).json()["heartbeat"] == 7
            assert [next(events).json()["data"] for _ in range(3)] == [0, 1, 2]


def test_last_event_id_wins_over_after(server, channel):
    results = publish_many(server, [(channel, number) for number in range(5)])
    with http() as client:
        with httpx_sse.connect_sse(client, "GET", f"{server.url}/v1/subscribe?{query(channel, after='earliest')}",
                                   headers={"Last-Event-ID": results[2]["position"]}) as source:
            events = source.iter_sse()
            assert next(events).json()["position"] == results[2]["position"]
            assert [next(events).json()["data"] for _ in range(2)] == [3, 4]


def test_a_raw_event_stream_has_the_event_of_the_publisher_and_the_payload_alone(server, channel):
    publish(server, channel, {"score": [1, 0]}, event="goal")
    publish(server, channel, "no event")
    with http() as client:
        text = {"content": "line one\nline two", "headers": {"Content-Type": "text/plain"}}
        assert client.post(f"{server.url}/v1/channels/{channel}", **text).status_code == 201
        url = f"{server.url}/v1/subscribe?{query(channel, after='earliest', format='raw')}"
        with httpx_sse.connect_sse(client, "GET", url) as source:
            events = source.iter_sse()
            assert next(events).event == "hello"
            goal, bare, lines = next(events), next(events), next(events)
            assert (goal.event, goal.data) == ("goal", '{"score":[1,0]}') and goal.id
            assert (bare.event, bare.data) == ("message", '"no event"')
            assert lines.event == "message" and lines.data in ("line one\nline two", '"line one\\nline two"')


def test_a_notification_is_the_same_bytes_on_all_transports(server, channel):
    import websockets.sync.client
    with http() as client:
        content = '{ "z" : 1.50 , "a" : [ 1e3, 123456789012345678901234567890, "\\u00e9\u00e9" ] }'
        publication = f"{server.url}/v1/channels/{channel}?event=e&key=k&priority=high&ttl=60"
        assert client.post(publication, content=content.encode()).status_code == 201
        items = query(channel, after="earliest")
        polled = client.get(f"{server.url}/v1/subscribe?{items}").text
        history = client.get(f"{server.url}/v1/channels/{channel}/history").text
        with httpx_sse.connect_sse(client, "GET", f"{server.url}/v1/subscribe?{items}") as source:
            events = source.iter_sse()
            next(events)
            streamed = next(events).data
    with websockets.sync.client.connect(f"ws://127.0.0.1:{server.port}/v1/subscribe?{items}", proxy=None) as socket:
        socket.recv(5)
        sent = socket.recv(5)
    assert sent == streamed
    assert streamed in polled and streamed in history
    assert '"z":1.50,"a":[1e3,123456789012345678901234567890,"' in streamed
    assert json.loads(streamed)["data"]["a"][2] == "\u00e9\u00e9"


def test_the_query_item_wait_counts_unless_prefer_says_otherwise(server, channel):
    position = publish(server, channel, 1)["position"]
    with http() as client:
        answer = client.get(f"{server.url}/v1/subscribe?{query(channel, after=position, wait=1)}")
        assert answer.json()["messages"] == [] and answer.headers["preference-applied"] == "wait=1"
        assert 0.8 <= answer.elapsed.total_seconds() <= 4
        answer = client.get(f"{server.url}/v1/subscribe?{query(channel, after=position, wait=10)}", headers={"Prefer": "wait=0"})
        assert answer.json() == {"position": position, "messages": []}
        assert answer.elapsed.total_seconds() < 3


def test_a_poll_again_with_the_old_position_gives_the_same_messages(server, channel):
    results = publish_many(server, [(channel, number) for number in range(6)])
    url = f"{server.url}/v1/subscribe?{query(channel, after=results[1]['position'])}"
    with http() as client:
        first, second = client.get(url), client.get(url)
    assert first.json()["messages"] == second.json()["messages"]
    assert [message["data"] for message in first.json()["messages"]] == [2, 3, 4, 5]


def test_a_poll_has_at_most_1000_messages_and_goes_on_where_it_ended(server, channel):
    publish_many(server, [(channel, number) for number in range(2500)])
    with http() as client:
        after, sizes, promise = "earliest", [], Promise()
        while sum(sizes) < 2500:
            body = client.get(f"{server.url}/v1/subscribe?{query(channel, after=after)}").json()
            sizes.append(len(body["messages"]))
            for message in body["messages"]:
                promise.see(message)
            after = body["position"]
    assert max(sizes) <= 1000 and promise.count == 2500


def test_a_poll_has_about_one_mebibyte_at_most(server, channel):
    publish_many(server, [(channel, "x" * 100_000) for _ in range(30)])
    with http() as client:
        after, count = "earliest", 0
        while count < 30:
            answer = client.get(f"{server.url}/v1/subscribe?{query(channel, after=after)}")
            assert 0 < len(answer.content) < 1_400_000
            count += len(answer.json()["messages"])
            after = answer.json()["position"]
    assert count == 30


def test_a_position_of_another_life_of_the_log_gets_a_gap_and_then_all_that_there_is(server, start_server, channel):
    foreign = publish(start_server(), channel, "elsewhere")["position"]
    publish_many(server, [(channel, number) for number in range(3)])
    with http() as client:
        body = client.get(f"{server.url}/v1/subscribe?{query(channel, after=foreign)}").json()
        assert body["messages"][0]["type"] == "gap" and body["messages"][0]["reason"] == "epoch"
        assert [message["data"] for message in body["messages"][1:]] == [0, 1, 2]
        with httpx_sse.connect_sse(client, "GET", f"{server.url}/v1/subscribe?{query(channel, after=foreign)}") as source:
            events = source.iter_sse()
            kinds = [next(events) for _ in range(5)]
            assert [event.event for event in kinds] == ["hello", "gap", "message", "message", "message"]
            assert kinds[1].id == kinds[1].json()["position"]


def test_who_stays_away_longer_than_messages_are_kept_gets_a_gap_with_the_range(start_server, channel):
    server = start_server(arguments=["--keep-messages", "10"])
    positions = [result["position"] for result in publish_many(server, [(channel, number) for number in range(1, 41)])]
    with http() as client:
        body = client.get(f"{server.url}/v1/subscribe?{query(channel, after=positions[4])}").json()
        gap, *messages = body["messages"]
        assert gap["type"] == "gap" and gap["reason"] == "retention" and gap["channel"] == channel
        assert gap["to"] == messages[0]["sequence"] - 1 - messages[0].get("skipped", 0)
        assert gap["from"] <= 6
        promise = Promise({channel: 5})
        for message in body["messages"]:
            promise.see(message)
        assert messages[-1]["sequence"] == 40
