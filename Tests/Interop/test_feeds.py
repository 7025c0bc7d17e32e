"""What is configured of feeds: what is kept of them, by age, count and bytes; their kinds, rates and ages of values."""

import contextlib
import json
import subprocess
import time

import pytest

from support import Server, assert_problem, binary, eventually, http, publish, query
from test_tokens import open_websocket
from test_websockets import receive


@contextlib.contextmanager
def serving(store, *arguments):
    server = Server(arguments=("--store", str(store), *arguments))
    try:
        yield server
    finally:
        assert server.stop() == 0, "".join(server.output[-20:])


@pytest.fixture(params=["disk", "memory"])
def store(request, tmp_path):
    return tmp_path / "log.sqlite" if request.param == "disk" else ":memory:"


def history(server, channel):
    with http() as client:
        return client.get(f"{server.url}/v1/channels/{channel}/history", params={"limit": 1000}).json()


def poll(server, channel, after, **items):
    with http() as client:
        return client.get(f"{server.url}/v1/subscribe?{query([channel], after=after, wait=0, **items)}").json()


def gaps(server, channel, after):
    """To where messages are gone, and why. A client counts from its own last one: what the gap says of that may be lower."""
    return [(m["to"], m["reason"]) for m in poll(server, channel, after)["messages"] if m["type"] == "gap"]


def test_each_feed_keeps_as_many_messages_as_is_said_of_it(store):
    with serving(store, "--keep", "news=messages:20", "--keep", "*=messages:50", "--keep", "alerts=messages:10") as server:
        for feed, kept in (("news", 20), ("alerts", 10), ("orders", 50)):
            first = publish(server, f"{feed}.a", 1)
            for n in range(2, 101):
                publish(server, f"{feed}.a", n)
            assert eventually(lambda: history(server, f"{feed}.a")["first_sequence"] == 101 - kept, f"{feed} keeps {kept}")
            assert gaps(server, f"{feed}.a", first["position"]) == [(100 - kept, "retention")]


def test_each_feed_keeps_as_many_bytes_as_is_said_of_it(store):
    with serving(store, "--keep", "news=bytes:64KiB,messages:100000", "--keep", "orders=bytes:1MiB") as server:
        positions = {}
        for feed in ("news", "orders"):
            positions[feed] = publish(server, f"{feed}.a", 0)["position"]
            for _ in range(200):
                publish(server, f"{feed}.a", "x" * 1000)

        def kept(feed):
            with http() as client:
                return client.get(f"{server.url}/v1/channels/{feed}.a").json()

        news = eventually(lambda: kept("news")["bytes"] <= 64 << 10 and kept("news"), "no more than 64 KiB are kept of news")
        assert 30 < news["count"] < 66, news
        eventually(lambda: gaps(server, "news.a", positions["news"]) == [(201 - news["count"], "retention")], "it is told")
        assert history(server, "news.a")["first_sequence"] == 202 - news["count"]
        assert kept("orders")["count"] == 201 and gaps(server, "orders.a", positions["orders"]) == []


def test_each_feed_keeps_messages_for_as_long_as_is_said_of_it(store):
    with serving(store, "--keep-hours", "1", "--keep", "news=age:1s") as server:
        first = {feed: publish(server, f"{feed}.a", 1)["position"] for feed in ("news", "orders")}
        for feed in first:
            publish(server, f"{feed}.a", 2)
        time.sleep(1)
        eventually(lambda: history(server, "news.a")["first_sequence"] == 3, "news go after a second")
        publish(server, "news.a", 3)
        assert gaps(server, "news.a", first["news"]) == [(2, "retention")]
        assert history(server, "orders.a")["first_sequence"] == 1 and gaps(server, "orders.a", first["orders"]) == []


def test_what_is_too_old_is_handed_to_nobody_also_if_nothing_comes_after_it(store):
    with serving(store, "--keep", "news=age:1s") as server:
        first = [publish(server, "news.a", n) for n in range(1, 6)][0]["position"]
        eventually(lambda: history(server, "news.a")["messages"] == [], "the store drops them")
        eventually(lambda: poll(server, "news.a", first)["messages"][0]["type"] == "gap", "and the loops do", seconds=3)
        assert gaps(server, "news.a", first) == [(5, "retention")] and len(poll(server, "news.a", first)["messages"]) == 1


def test_workers_keep_what_the_main_process_keeps(tmp_path):
    with serving(tmp_path / "log.sqlite", "--processes", "2", "--loops", "1", "--keep", "news=messages:5") as server:
        first = publish(server, "news.a", 1)
        for n in range(2, 21):
            publish(server, "news.a", n)
        for _ in range(6):
            eventually(lambda: gaps(server, "news.a", first["position"]) == [(15, "retention")], "each worker tells the gap")


def test_a_feed_of_any_name_has_the_kind_that_it_is_given(store):
    with serving(store, "--kind", "boards=dashboards", "--kind", "games=scores", "--kind", "scores=plain",
                 "--max-age", "boards=1") as server:
        for feed, kind in (("boards", "dashboards"), ("games", "scores"), ("scores", None), ("alerts", "alerts")):
            publish(server, f"{feed}.a", {"n": 1}, key="k")
            with http() as client:
                assert client.get(f"{server.url}/v1/channels/{feed}.a").json().get("kind") == kind
                answer = client.get(f"{server.url}/v1/channels/{feed}.a/snapshot")
            assert answer.status_code == (200 if kind in ("dashboards", "scores") else 404)
        publish(server, "dashboards.a", {"n": 1}, key="k")
        eventually(lambda: history(server, "boards.a")["messages"][-1].get("stale"), "the value goes stale")
        assert len(history(server, "dashboards.a")["messages"]) == 1


def test_a_feed_caps_the_rate_of_its_subscribers():
    with serving(":memory:", "--rate-max", "*=50/s", "--rate-max", "slow=1/s") as server:
        for feed, least, most in (("slow", 0.4, 3), ("quick", 0, 0.4)):
            began = publish(server, f"{feed}.a", 1)["position"]
            publish(server, f"{feed}.a", 2)
            with http() as client:
                for _ in range(2):
                    start = time.monotonic()
                    answer = client.get(f"{server.url}/v1/subscribe?{query([f'{feed}.a'], after=began, wait=5, rate='20/s')}").json()
                    took = time.monotonic() - start
                    began = answer["position"]
                    publish(server, f"{feed}.a", 3)
            assert least <= took <= most, (feed, took)


@pytest.mark.parametrize("arguments, words", [
    (["--keep", "alerts"], ["--keep alerts", "FEED=LIMITS"]),
    (["--keep", "alerts="], ["--keep alerts=", "FEED=LIMITS"]),
    (["--keep", "a b=age:1s"], ["is no feed"]),
    (["--keep", "_acks=age:1s"], ["is no feed"]),
    (["--keep", "a.b=age:1s"], ["is no feed"]),
    (["--keep", "alerts=age:30"], ["--keep alerts=age:30", "1s to 3650d"]),
    (["--keep", "alerts=age:0s"], ["1s to 3650d"]),
    (["--keep", "alerts=age:3651d"], ["1s to 3650d"]),
    (["--keep", "alerts=age:99999999999999999999d"], ["1s to 3650d"]),
    (["--keep", "alerts=messages:0"], ["1 to 1000000000"]),
    (["--keep", "alerts=messages:5k"], ["1 to 1000000000"]),
    (["--keep", "alerts=bytes:1"], ["1024 to 1024GiB"]),
    (["--keep", "alerts=bytes:1MB"], ["KiB, MiB or GiB"]),
    (["--keep", "alerts=bytes:9223372036854775807GiB"], ["1024 to 1024GiB"]),
    (["--keep", "alerts=age:1d,age:2d"], ["age is there twice"]),
    (["--keep", "alerts=count:1"], ["count:1", "messages:50000"]),
    (["--keep-messages", "0"], ["--keep-messages is 1 to 1000000000"]),
    (["--keep-messages", "10000000000000000"], ["--keep-messages is 1 to 1000000000"]),
    (["--keep-hours", "10000000000000000"], ["--keep-hours is 1 to 87600"]),
    (["--kind", "*=alerts"], ["name the feed"]),
    (["--kind", "news=alert"], ["alerts, scores, dashboards, plain"]),
    (["--rate-max", "dashboards=100/s"], ["1/h to 50/s"]),
    (["--max-age", "x"], ["SECONDS or FEED=SECONDS"]),
    (["--max-age", "0"], ["--max-age is 1 to"]),
    (["--max-age", "news=5"], ["not of the kind dashboards"]),
])
def test_what_cannot_be_is_said_with_what_can(arguments, words):
    line = [binary(), "serve", "--port", "0", "--store", ":memory:", *arguments]
    answer = subprocess.run(line, capture_output=True, text=True, timeout=20)
    assert answer.returncode == 64, answer.stderr
    for word in words:
        assert word in answer.stderr, answer.stderr


def test_the_help_has_the_defaults():
    answer = subprocess.run([binary(), "serve", "--help"], capture_output=True, text=True, timeout=20)
    for word in ("--keep", "--kind", "--rate-max", "messages:10000,bytes:64MiB", "age:30d for alerts", "age:7d for scores"):
        assert word in " ".join(answer.stdout.split()), word


def test_channels_and_users_who_acknowledge_have_room_of_their_own(store):
    with serving(store, "--channels-max", "3") as server, http() as client:
        def ack(user):
            return client.post(f"{server.url}/v1/acks", json={"user": user, "channel": "alerts.all", "through": 1})

        publish(server, "alerts.all", "fire")
        for user in ("ann", "bob"):
            assert ack(user).status_code == 200
        for name in ("orders.a", "orders.b"):
            publish(server, name, 1)
        refused = client.post(f"{server.url}/v1/channels/orders.c", content="1")
        problem = assert_problem(refused, 429, "too-many-channels")
        assert problem["configuration_key"] == "channels_max (--channels-max)" and "retry-after" in refused.headers
        publish(server, "orders.a", 2)
        assert ack("cid").status_code == 200
        problem = assert_problem(ack("dan"), 429, "too-many-users")
        assert problem["configuration_key"] == "channels_max (--channels-max)"
        assert ack("ann").status_code == 200
        with open_websocket(server, "channel=alerts.all&user=dan") as connection:
            receive(connection, "hello")
            connection.send(json.dumps({"id": 1, "type": "ack", "channel": "alerts.all", "through": 1}))
            error = receive(connection, "reply")["error"]
            assert error["code"] == "ack_refused" and error["configuration_key"] == "channels_max (--channels-max)"
        assert_problem(client.post(f"{server.url}/v1/acks", json={"user": "ann", "channel": "alerts.none", "through": 1}), 404, "not-found")
        text = client.get(f"{server.url}/metrics").text
        for line in ("tocsin_channels 3", "tocsin_acknowledging_users 3", "tocsin_channels_max 3"):
            assert f"\n{line}\n" in text
    if store == ":memory:":
        return
    with serving(store, "--channels-max", "4") as server, http() as client:
        publish(server, "orders.c", 1)
        assert_problem(client.post(f"{server.url}/v1/channels/orders.d", content="1"), 429, "too-many-channels")
        assert client.post(f"{server.url}/v1/acks", json={"user": "dan", "channel": "alerts.all", "through": 1}).status_code == 200
