"""Attacks on long-polling and on the bodies of requests: sessions, caches, storms, JSON bombs."""

import contextlib
import re
import socket

import pytest

from support import RawWebSocket, async_http, connect, event_stream, eventually, http, publish, publish_many, query, run
from websocket_wire import first_answer


def position(server, channel):
    with http() as client:
        return client.get(f"{server.url}/v1/subscribe?{query(channel)}").json()["position"]


# Sessions.

def sessions(server, count):
    found = []
    for _ in range(count):
        with RawWebSocket(server.port) as raw:
            found.append(raw.texts(1)[0]["session"])
    return found


def test_session_numbers_cannot_be_guessed(server):
    """128 random bits each: none twice, and each bit set in half of them. The rest says where it is served."""
    count = 400
    found = sessions(server, count)
    assert len(set(found)) == count
    assert all(re.fullmatch("[0-9a-f]{40}", one) for one in found)
    numbers = [int(one[:32], 16) for one in found]
    for bit in range(128):
        ones = sum(number >> bit & 1 for number in numbers)
        # Seven standard deviations.
        assert abs(ones - count / 2) < 70, f"bit {bit} is set in {ones} of {count}"
    differences = {second - first for first, second in zip(numbers, numbers[1:])}
    assert len(differences) == count - 1, "the numbers follow each other"


def test_session_numbers_are_not_in_the_log(start_server):
    server = start_server("--log-level", "trace")
    found = sessions(server, 5)
    server.answers()
    text = "".join(server.output)
    assert text and not any(one in text for one in found)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_session_of_somebody_else_and_one_that_is_none_are_answered_alike(server, method):
    with RawWebSocket(server.port) as raw:
        own = raw.texts(1)[0]["session"]
        # All but the last of its random bits, and where it is served.
        guessed = own[:31] + ("0" if own[31] != "0" else "1") + own[32:]
        with http() as client:
            answers = [client.request(method, f"{server.url}/v1/sessions/{session}", content=b"{}" if method == "POST" else None)
                       for session in (guessed, "0" * 40, own.upper() + "x")]
    assert all(400 <= answer.status_code < 500 for answer in answers), [answer.status_code for answer in answers]
    assert len({answer.status_code for answer in answers}) == 1


@pytest.mark.parametrize("way", ["stream", "poll"])
def test_commands_by_the_hundred_do_not_hold_up_the_others(server, besiege, channel, way):
    """Each request subscribes and unsubscribes fifty times, with patterns that match all that others publish."""
    publish_many(server, [(channel, "x" * 1000)] * 100)
    batch = [command for number in range(50) for command in (
        {"id": 1, "type": "subscribe", "channels": [f"a{number}.>", ">"][:1 + number % 2], "after": "earliest"},
        {"id": 2, "type": "unsubscribe", "channels": [f"a{number}.>", ">"][:1 + number % 2]})]

    def attack(server, deadline):
        count = 0
        with contextlib.ExitStack() as stack:
            if way == "stream":
                raw = stack.enter_context(event_stream(server.port, "/v1/subscribe?channel=none"))
                text = b""
                while b'"session":"' not in text:
                    text += raw.recv(4096)
                session = text.split(b'"session":"')[1][:40].decode()
                raw.setblocking(False)
            client = stack.enter_context(http())
            if way == "poll":
                session = client.get(f"{server.url}/v1/subscribe?channel=none&wait=0&session=new").json()["session"]
            while not deadline.over or not count:
                answer = client.post(f"{server.url}/v1/sessions/{session}", json=batch)
                assert answer.status_code == 200 and len(answer.json()) == 100, answer.text
                count += 1
                with contextlib.suppress(BlockingIOError):
                    while way == "stream" and raw.recv(1 << 20):
                        pass
        return f"{count} hundreds of commands"

    besiege(server, attack, name=f"commands by POST, {way}", growth_mib=24)


# The cursor is the client's.

def test_parallel_polls_get_the_same_and_nothing_is_lost_by_it(server, channel):
    start = position(server, channel)

    async def work():
        import asyncio
        async with async_http() as one, async_http() as two:
            url = f"{server.url}/v1/subscribe?{query(channel, after=start)}"
            polls = [asyncio.create_task(client.get(url)) for client in (one, two)]
            await asyncio.sleep(0.2)
            await asyncio.to_thread(publish, server, channel, "both")
            answers = [await poll for poll in polls]
            again = await one.get(url)
            return [*answers, again]

    answers = run(work())
    for answer in answers:
        # The older of two polls may be told to go (409); whoever is answered gets all of it.
        assert answer.status_code in (200, 409)
        if answer.status_code == 200:
            assert [message["data"] for message in answer.json()["messages"]] == ["both"]
    assert answers[-1].status_code == 200


def test_an_answer_that_never_arrived_comes_again(server, channel):
    start = position(server, channel)
    publish_many(server, [(channel, f"{number} " + "x" * 10_000) for number in range(50)])
    head = f"GET /v1/subscribe?{query(channel, after=start)} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    for _ in range(3):
        with connect(server.port, receive_buffer=4096) as raw:
            raw.sendall(head)
            assert raw.recv(1000).startswith(b"HTTP/1.1 200")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    with http() as client:
        body = client.get(f"{server.url}/v1/subscribe?{query(channel, after=start)}").json()
    assert [message["sequence"] for message in body["messages"]] == list(range(1, 51))


# Caches.

CONDITIONS = {"If-None-Match": "*", "If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT", "Range": "bytes=0-3",
              "X-Forwarded-Host": "evil.example", "X-Original-URL": "/v1/nothing", "X-HTTP-Method-Override": "DELETE",
              "Forwarded": "host=evil.example"}


@pytest.mark.parametrize("name", [None, *CONDITIONS])
def test_no_cache_may_keep_or_share_an_answer(server, channel, name):
    start = position(server, channel)
    publish(server, channel, "one")
    with http() as client:
        headers = {name: CONDITIONS[name]} if name else {}
        answer = client.get(f"{server.url}/v1/subscribe?{query(channel, after=start)}", headers=headers)
    assert answer.status_code == 200 and [message["data"] for message in answer.json()["messages"]] == ["one"]
    assert "no-store" in answer.headers["cache-control"]
    for field in ("etag", "last-modified", "expires", "age"):
        assert field not in answer.headers
    assert "evil" not in str(answer.headers)


def test_answers_that_depend_on_accept_say_so(server, channel):
    """The same URL is an event stream for one and JSON for another: where a cache ignores no-store, Vary keeps them apart."""
    with http() as client:
        answer = client.get(f"{server.url}/v1/subscribe?{query(channel)}")
    assert "accept" in answer.headers.get("vary", "").lower()


# Storms.

def test_polls_that_are_all_answered_at_once_and_come_again_are_served(server, besiege, channel):
    parked = 100

    def attack(server, deadline):
        start = position(server, channel)
        answered = 0
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(connect(server.port)) for _ in range(parked)]
            poll = f"GET /v1/subscribe?{query(channel, after=start)}&wait=20 HTTP/1.1\r\nHost: a\r\n\r\n".encode()
            while not deadline.over or not answered:
                for raw in sockets:
                    raw.sendall(poll)
                eventually(lambda: server.metrics()['tocsin_subscribers{transport="long_poll"}'] >= parked, "the polls are parked")
                start = publish(server, channel, answered)["position"]
                poll = f"GET /v1/subscribe?{query(channel, after=start)}&wait=20 HTTP/1.1\r\nHost: a\r\n\r\n".encode()
                for raw in sockets:
                    assert raw.recv(65536).startswith(b"HTTP/1.1 200")
                answered += parked
        return f"{answered} polls"

    besiege(server, attack, name="storm of parked polls", growth_mib=16)


def test_polls_that_do_not_wait_are_served_or_told_to_wait(server, besiege, channel):
    def attack(server, deadline):
        counts = {}
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(connect(server.port)) for _ in range(20)]
            request = f"GET /v1/subscribe?{query(channel, wait=0)} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
            while not deadline.over or not counts:
                for raw in sockets:
                    raw.sendall(request)
                for raw in sockets:
                    status = raw.recv(65536)[9:12]
                    counts[status] = counts.get(status, 0) + 1
        assert set(counts) <= {b"200", b"429", b"503"}, counts
        return f"{sum(counts.values())} polls"

    besiege(server, attack, name="storm of polls", growth_mib=16)


def test_requests_in_a_row_whose_answers_are_not_read_are_bounded(server, besiege, channel):
    """Pipelining: small requests, large answers."""
    publish_many(server, [(channel, "x" * 1000)] * 900)
    clients = 20
    request = f"GET /v1/channels/{channel}/history?after=0&limit=1000 HTTP/1.1\r\nHost: a\r\n\r\n".encode()

    def attack(server, deadline):
        with contextlib.ExitStack() as stack:
            for _ in range(clients):
                raw = stack.enter_context(connect(server.port, receive_buffer=4096))
                with contextlib.suppress(OSError):
                    raw.sendall(request * 300)
            deadline.wait()
        return f"{clients * 300} answers of 1 MiB asked for"

    # One answer for each connection, the requests that wait, and two answers being made.
    besiege(server, attack, name="pipelined and not read", growth_mib=clients * 1.5 + 24)


# Bodies.

def post(path, body, content_type="application/json", *fields):
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{lines}\r\n"
    return head.encode() + body


def bodies(channel):
    one, many, subscribe = f"/v1/channels/{channel}", "/v1/publish", "/v1/subscribe"
    score = "/v1/channels/scores.attacked?change=merge"
    deep = b"[" * 500_000
    return {
        "nested without end": (400, one, deep),
        "nested and closed": (400, one, deep + b"]" * 500_000),
        "nested objects": (400, one, b'{"a":' * 150_000 + b"1" + b"}" * 150_000),
        "a merge patch that is nested": (400, score, b'{"a":' * 150_000 + b"1" + b"}" * 150_000),
        "a batch that is nested": (400, many, deep + b"]" * 500_000),
        "a batch item that is nested": (400, many, b'[{"channel":"attacked.a","data":' + deep + b"]" * 500_000 + b"}]"),
        "a subscription that is nested": (400, subscribe, b'{"channels":' + deep),
        "a number of a million digits": ({201, 400}, one, b"1" * 1_000_000),
        "an exponent": ({201, 400}, one, b"1e999999999999"),
        "members of one name": ({201, 400}, one, b"{" + b'"a":1,' * 100_000 + b'"a":1}'),
        "sixty thousand members": (201, one, ("{" + ",".join(f'"{number}":1' for number in range(60_000)) + "}").encode()),
        "escapes": ({201, 400}, one, b'"' + b"\\u0000" * 150_000 + b'"'),
        "half a surrogate": ({201, 400}, one, b'"\\ud800"'),
        "not UTF-8": (400, one, b'"\xff"'),
        "not UTF-8 in UTF-16": (400, one, '{"a":1}'.encode("utf-16")),
        "nothing": (400, one, b""),
        "white space": (400, one, b" " * 1_000_000),
        "two values": (400, one, b"1 2"),
        "NaN": (400, one, b"NaN"),
        "one byte over a MiB": (413, one, b'"' + b"x" * (1 << 20) + b'"'),
        "1001 items": (400, many, b"[" + b'{"channel":"attacked.a","data":1},' * 1000 + b'{"channel":"attacked.a","data":1}]'),
        "a million items of nothing": (400, many, b"[" + b"0," * 1_000_000 + b"0]"),
        "101 channels": (400, subscribe, b'{"channels":[' + b'"a.b",' * 100 + b'"a.b"]}'),
        "a million channels": (400, subscribe, b'{"channels":[' + b'"a",' * 1_000_000 + b'"a"]}'),
    }


@pytest.mark.parametrize("name", bodies("x"))
def test_a_body_that_is_a_bomb_is_refused_or_taken_and_the_server_goes_on(server, channel, name):
    status, path, body = bodies(channel)[name]
    answer = first_answer(server.port, post(path, body))
    assert answer is not None, "closed without an answer"
    assert answer.status_code in (status if isinstance(status, set) else {status}), f"{answer.status_code}: {answer.text[:300]}"


def test_ndjson_of_empty_lines_is_refused_or_empty(server):
    answer = first_answer(server.port, post("/v1/publish", b"\n" * 5_000_000, "application/x-ndjson"))
    assert answer.status_code in (201, 400, 413), answer.text


def test_bombs_in_a_row_cost_the_others_little(server, besiege, channel):
    some = [post(path, body) for name, (status, path, body) in bodies(channel).items() if status == 400 and len(body) > 100_000]

    def attack(server, deadline):
        count = 0
        while not deadline.over or count < len(some):
            answer = first_answer(server.port, some[count % len(some)])
            assert answer is not None and answer.status_code == 400
            count += 1
        return f"{count} bombs"

    besiege(server, attack, name="JSON bombs", growth_mib=96)


def test_a_body_over_the_limit_is_refused_without_being_read(server, channel):
    announced = f"POST /v1/channels/{channel} HTTP/1.1\r\nHost: a\r\nContent-Length: {1 << 40}\r\n\r\n".encode()
    assert first_answer(server.port, announced).status_code == 413


def test_a_chunked_body_without_end_is_refused_when_it_is_too_long(server, besiege, channel):
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"

    def attack(server, deadline):
        count = 0
        while not deadline.over or not count:
            with connect(server.port) as raw:
                raw.sendall(f"POST /v1/channels/{channel} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
                sent = 0
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    while sent <= 24 << 20:
                        raw.sendall(chunk)
                        sent += len(chunk)
                        raw.setblocking(False)
                        with contextlib.suppress(BlockingIOError):
                            if raw.recv(1, socket.MSG_PEEK):
                                break
                        raw.settimeout(10)
                raw.settimeout(10)
                head = raw.recv(65536)
                assert head.startswith(b"HTTP/1.1 413"), f"{head[:80]} after {sent >> 20} MiB"
            count += 1
        return f"{count} bodies of more than 16 MiB"

    # 16 MiB, twice while the array grows, and once on each loop.
    besiege(server, attack, name="chunked bodies without end", growth_mib=80)


def test_bodies_that_are_parked_just_below_the_limit_are_bounded_together(server, besiege, channel):
    """Each connection is within its limits; what all of them may park has to be bounded too."""
    clients, size = 16, 15 << 20

    def attack(server, deadline):
        with contextlib.ExitStack() as stack:
            for _ in range(clients):
                raw = stack.enter_context(connect(server.port))
                with contextlib.suppress(OSError):
                    raw.sendall(f"POST /v1/channels/{channel} HTTP/1.1\r\nHost: a\r\nContent-Length: {16 << 20}\r\n\r\n".encode())
                    raw.sendall(b" " * size)
            deadline.wait()
        return f"{clients} bodies of 15 MiB parked"

    besiege(server, attack, name="parked bodies", growth_mib=128)


def test_keys_without_end_are_refused_in_a_dashboard(server):
    with http() as client:
        statuses = set()
        for start in range(0, 11_000, 1000):
            items = [{"channel": "dashboards.attacked", "key": f"k{number}", "data": 1} for number in range(start, start + 1000)]
            answer = client.post(f"{server.url}/v1/publish", json=items)
            statuses |= {result.get("error", {}).get("status", 201) for result in answer.json()["results"]}
    assert statuses == {201, 429}
