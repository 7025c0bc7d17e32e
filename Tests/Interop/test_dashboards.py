"""Dashboards: the newest value of each key, at the rate that a subscriber asks for; stale values."""

import contextlib
import itertools
import json
import threading
import time
import uuid

import pytest

from support import Promise, Server, assert_problem, epochless, eventually, http, publish, publish_many
from test_alerts import each_way, following, poll, take
from test_scores import KINDS, snapshot
from test_websockets import command, receive, websocket

KEYS = ["cpu", "memory", "disk", "net"]


@pytest.fixture
def board():
    """A channel of dashboards that no other test uses."""
    return f"dashboards.{uuid.uuid4().hex[:12]}"


def put(server, values):
    """Publishes a list of (channel, key, value) in one batch."""
    with http() as client:
        answer = client.post(f"{server.url}/v1/publish", json=[
            {"channel": channel, "data": value, **({"key": key} if key else {})} for channel, key, value in values])
    assert answer.status_code == 201, answer.text
    return answer.json()["results"]


@contextlib.contextmanager
def burst(server, boards, count, pause=0.004):
    """Publishes values for all keys of the boards meanwhile; answers what the last of each will be."""
    values = [(boards[number % len(boards)], KEYS[number // len(boards) % len(KEYS)]) for number in range(count)]
    taken = []

    def work():
        with http() as client:
            for number, (board, key) in enumerate(values):
                answer = client.post(f"{server.url}/v1/channels/{board}", params={"key": key}, content=str(number))
                taken.append(answer.status_code == 201)
                time.sleep(pause)
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield {value: number for number, value in enumerate(values)}
    finally:
        thread.join(30)
    assert all(taken) and len(taken) == count


class Board:
    """A client's picture of dashboards, and the check of the promise."""

    def __init__(self):
        self.values, self.promise, self.times = {}, Promise(), []

    def see(self, message):
        self.promise.see(message)
        if message["type"] == "notification":
            known = self.values.get((message["channel"], message["key"]), -1)
            assert message["data"] > known, "newer values only"
            self.values[message["channel"], message["key"]] = message["data"]
            self.times.append(time.monotonic())

    def turns(self, apart):
        """When each turn began."""
        starts = self.times[:1]
        for before, now in itertools.pairwise(self.times):
            if now - before > apart:
                starts.append(now)
        return starts


@pytest.mark.parametrize("way, several", [("websocket", 1), ("websocket", 3), ("sse", 3), ("long-poll", 3)])
def test_a_subscriber_with_a_rate_gets_the_newest_values_skipped_adds_up_and_the_last_arrives(server, board, way, several):
    boards = [f"{board}.{number}" for number in range(several)]
    start = poll(server, f"{board}.*", after="latest")["position"]
    seen = Board()
    with burst(server, boards, 144) as last, following(server, way, f"{board}.*", after=start, rate="5/s") as source:
        while seen.values != last:
            seen.see(take(source, 1, KINDS)[0])
    assert seen.values == last and len(last) == several * len(KEYS)
    assert seen.promise.previous == {name: 144 // several for name in boards}
    assert seen.promise.skipped + seen.promise.count == 144 and seen.promise.skipped > 0
    assert not seen.promise.gaps


@each_way
def test_turns_are_at_least_the_time_of_the_rate_apart(server, board, way):
    start = poll(server, board, after="latest")["position"]
    seen = Board()
    with burst(server, [board], 160) as last, following(server, way, board, after=start, rate="5/s") as source:
        while seen.values != last:
            seen.see(take(source, 1, KINDS)[0])
    turns = seen.turns(0.05)
    # What was ready at the beginning may come at once, and what comes may be late, but there are no more turns than there is time for.
    assert 1 < len(turns) <= (turns[-1] - turns[0]) * 5 + 2, [round(now - turns[0], 3) for now in turns]


@pytest.mark.parametrize("several, rate", [(3, None), (1, "20/s"), (3, "20/s")])
def test_who_changes_its_transport_in_the_midst_of_a_burst_misses_nothing_silently(server, board, rate, several):
    boards = [f"{board}.{number}" for number in range(several)]
    position = poll(server, f"{board}.*", after="latest")["position"]
    seen, ways = Board(), itertools.cycle(["websocket", "long-poll", "sse"])
    with burst(server, boards, 132, pause=0.003) as last:
        for count in itertools.cycle([1, 4, 2, 7, 3]):
            with following(server, next(ways), f"{board}.*", after=position, rate=rate) as source:
                for _ in range(count):
                    if seen.values == last:
                        break
                    message, = take(source, 1, KINDS)
                    seen.see(message)
                    position = message["position"]
            if seen.values == last:
                break
    assert not poll(server, f"{board}.*", after=position)["messages"]
    assert seen.promise.previous == {name: 132 // several for name in boards}


@each_way
def test_who_was_away_gets_the_newest_value_of_each_key_and_what_was_left_out_is_counted(server, board, way):
    position = put(server, [(board, "old", 0)])[0]["position"]
    put(server, [(board, KEYS[number % 4], number) for number in range(400)])
    seen = Board()
    seen.promise.previous = {board: 1}
    with following(server, way, board, after=position) as source:
        for message in take(source, 4, KINDS):
            seen.see(message)
        assert seen.values == {(board, key): 396 + number for number, key in enumerate(KEYS)}
        assert seen.promise.skipped == 396 and seen.promise.previous == {board: 401}
        publish(server, board, 400, key="cpu")
        message, = take(source, 1, KINDS)
        seen.see(message)
        assert "skipped" not in message and message["sequence"] == 402


@each_way
def test_a_newcomer_begins_with_all_keys_and_goes_on_from_there(server, board, way):
    put(server, [(board, "cpu", 1), (board, "cpu", 2), (board, "memory", {"free": 3}), (board, "gone", None)])
    with following(server, way, board) as source:
        begin, = take(source, 1, KINDS)
        assert begin["type"] == "snapshot" and begin["channel"] == board and begin["sequence"] == 4
        assert begin["data"] == {"cpu": 2, "memory": {"free": 3}, "gone": None} and "stale" not in begin
        publish(server, board, 3, key="cpu")
        message, = take(source, 1, KINDS)
        assert (message["sequence"], message["data"], message.get("skipped", 0)) == (5, 3, 0)
    assert snapshot(server, board)["data"]["cpu"] == 3
    with following(server, way, board, after="latest") as source:
        next(source)
        publish(server, board, 4, key="cpu")
        assert take(source, 1, KINDS)[0]["data"] == 4


def test_no_key_is_a_key_of_its_own(server, board):
    position = poll(server, board, after="latest")["position"]
    put(server, [(board, None, 1), (board, "cpu", 2), (board, None, 3)])
    assert [message["data"] for message in poll(server, board, after=position)["messages"]] == [2, 3]
    assert sorted(snapshot(server, board)["data"].values()) == [2, 3]


def test_the_values_survive_a_crash_and_a_reader_goes_on(tmp_path, board):
    arguments = ("--store", str(tmp_path / "log.sqlite"), "--keep-messages", "20")
    with contextlib.ExitStack() as stack:
        server = Server(arguments=arguments)
        stack.callback(server.kill)
        put(server, [(board, "rare", -1)])
        middle = put(server, [(board, KEYS[number % 4], number) for number in range(100)])[89]["position"]
        before = snapshot(server, board)
        assert before["data"] == {"rare": -1, "cpu": 96, "memory": 97, "disk": 98, "net": 99}
        server.kill()
        server = Server(arguments=arguments)
        stack.callback(server.stop)
        assert epochless(snapshot(server, board)) == epochless(before)
        seen = Board()
        seen.promise.previous = {board: 91}
        for message in poll(server, board, after=middle)["messages"]:
            seen.see(message)
        assert seen.values == {(board, key): 96 + number for number, key in enumerate(KEYS)}
        assert seen.promise.previous == {board: 101}
        assert publish(server, board, 100, key="cpu")["sequence"] == 102


# Rates.

def test_subscriptions_of_one_websocket_have_rates_of_their_own(server, board):
    slow, quick = f"{board}.slow", f"{board}.quick"
    with websocket(server) as connection:
        receive(connection, "hello")
        command(connection, id=1, type="subscribe", channel=slow, after="latest", rate="4/s")
        command(connection, id=2, type="subscribe", channel=quick, after="latest")
        seen = Board()
        with burst(server, [slow, quick], 200) as last:
            while seen.values != last:
                seen.see(receive(connection, timeout=5))
    assert seen.promise.previous == {slow: 100, quick: 100}
    assert seen.promise.count + seen.promise.skipped == 200
    assert seen.promise.count < 170 and seen.promise.count >= 100, "each of the quick one's, some of the slow one's"


def test_a_rate_is_changed_and_taken_back_on_a_living_subscription(server, board):
    with websocket(server) as connection:
        receive(connection, "hello")
        command(connection, id=1, type="subscribe", channel=board, after="latest", rate="1/m")
        publish(server, board, 0, key="cpu")
        with pytest.raises(TimeoutError):
            receive(connection, timeout=0.4)
        start = time.monotonic()
        connection.send(json.dumps({"id": 2, "type": "rate", "channel": board, "rate": "10/s"}))
        found = [receive(connection, timeout=5) for _ in range(2)]
        assert sorted(message["type"] for message in found) == ["notification", "reply"] and time.monotonic() - start < 3
        publish(server, board, 1, key="cpu")
        assert receive(connection, timeout=3)["data"] == 1
        command(connection, id=3, type="rate", channel=board, rate="1/m")
        put(server, [(board, "cpu", 2), (board, "cpu", 3)])
        time.sleep(0.3)  # the subscriber's loop may hear of it a moment after the publisher's
        connection.send(json.dumps({"id": 4, "type": "rate", "channel": board, "rate": None}))
        found = [receive(connection, timeout=5) for _ in range(2)]
        newest = next(message for message in found if message["type"] == "notification")
        assert newest["data"] == 3 and newest["skipped"] == 1
        for number in range(4, 24):
            publish(server, board, number, key="cpu")
            message = receive(connection, timeout=3)
            assert message["data"] == number and "skipped" not in message


def test_the_rate_of_the_url_is_changed_by_a_command_without_a_channel(server, board):
    with following(server, "websocket", board, after="latest", rate="1/h") as source:
        next(source)
        publish(server, board, 1, key="cpu")
    with websocket(server, f"channel={board}&after=latest&rate=1/h") as connection:
        receive(connection, "hello")
        publish(server, board, 2, key="cpu")
        connection.send(json.dumps({"id": 1, "type": "rate", "rate": None}))
        found = [receive(connection, timeout=5) for _ in range(2)]
        assert {message["type"] for message in found} == {"notification", "reply"}


WRONG_RATES = ["", "x", "0/s", "-1/s", "5", "5/", "/s", "5/d", "NaN/s", "inf/s", "5/s/s", "1e3/s", "51/s"]


@pytest.mark.parametrize("rate", WRONG_RATES)
def test_a_rate_that_makes_no_sense_is_refused(server, board, rate):
    with http() as client:
        answer = client.get(f"{server.url}/v1/subscribe", params={"channel": board, "rate": rate, "wait": 0})
        assert "rate" in assert_problem(answer, 400, "bad-parameter")["detail"]
    with websocket(server) as connection:
        receive(connection, "hello")
        assert command(connection, id=1, type="subscribe", channel=board, rate=rate)["error"]["code"] == "bad_rate"
        command(connection, id=2, type="subscribe", channel=board, after="latest")
        assert command(connection, id=3, type="rate", channel=board, rate=rate)["error"]["code"] == "bad_rate"
        publish(server, board, 1, key="cpu")
        assert receive(connection)["data"] == 1, "the subscription is as it was"


def test_a_rate_for_what_is_not_subscribed_is_refused(server, board):
    with websocket(server) as connection:
        receive(connection, "hello")
        assert command(connection, id=1, type="rate", channel=board, rate="1/s")["error"]["code"] == "not_subscribed"


def test_a_rate_for_the_subscription_of_the_url_is_refused_when_there_is_none(server):
    with websocket(server) as connection:
        receive(connection, "hello")
        assert command(connection, id=1, type="rate", rate="1/s").get("error", {}).get("code") == "not_subscribed"


@pytest.mark.parametrize("feed, way", [("alerts", "websocket"), ("alerts", "long-poll"), ("news", "sse")])
def test_a_rate_delays_alerts_and_plain_messages_but_drops_none(server, feed, way):
    channel = f"{feed}.{uuid.uuid4().hex[:12]}"
    position = poll(server, channel, after="latest")["position"]
    publish_many(server, [(channel, number) for number in range(60)])
    with following(server, way, channel, after=position, rate="10/s") as source:
        found = take(source, 60, KINDS)
        publish_many(server, [(channel, number) for number in range(60, 90)])
        found += take(source, 30, KINDS)
    assert [message["data"] for message in found] == list(range(90))
    assert all("skipped" not in message for message in found)


def test_a_value_of_too_many_keys_is_refused_and_known_keys_go_on(server, board):
    for start in range(0, 10_000, 1000):
        put(server, [(board, f"k{number}", number) for number in range(start, start + 1000)])
    with http() as client:
        answer = client.post(f"{server.url}/v1/channels/{board}?key=one-more", content="1")
        assert_problem(answer, 429, "too-many-keys")
        assert int(answer.headers["retry-after"]) >= 0
        assert client.post(f"{server.url}/v1/channels/{board}?key=k5", content="-5").status_code == 201
    values = snapshot(server, board)["data"]
    assert len(values) == 10_000 and values["k5"] == -5 and "one-more" not in values


# Stale values.

@pytest.fixture(scope="module")
def ageing():
    server = Server(arguments=("--max-age", "1"))
    yield server
    assert server.stop() == 0


@each_way
def test_a_value_without_a_successor_is_marked_stale_once_and_a_new_value_is_fresh(ageing, board, way):
    start = poll(ageing, board, after="latest")["position"]
    put(ageing, [(board, "cpu", 1), (board, "memory", 2)])
    seen = Promise()
    with following(ageing, way, board, after=start) as source:
        fresh = take(source, 2, KINDS)
        marked = take(source, 2, KINDS)
        for message in fresh + marked:
            seen.see(message)
        assert not any("stale" in message for message in fresh)
        times = {message["key"]: message["time"] for message in fresh}
        assert {message["key"]: message["stale"] for message in marked} == times
        assert {message["key"]: message["data"] for message in marked} == {"cpu": 1, "memory": 2}
        state = snapshot(ageing, board)
        assert sorted(state["stale"]) == ["cpu", "memory"] and state["data"] == {"cpu": 1, "memory": 2}
        assert sorted(poll(ageing, board)["messages"][0]["stale"]) == ["cpu", "memory"]
        publish(ageing, board, 3, key="cpu")
        message, = take(source, 1, KINDS)
        assert message["data"] == 3 and "stale" not in message
        assert snapshot(ageing, board)["stale"] == ["memory"]
        if way == "websocket":
            message, = take(source, 1, KINDS)
            assert message["key"] == "cpu" and message["stale"] and message["sequence"] == 6, "memory is not marked again"


def test_a_stale_value_is_stale_for_who_was_away_and_after_a_crash_too(tmp_path, board):
    arguments = ("--max-age", "1", "--store", str(tmp_path / "log.sqlite"))
    with contextlib.ExitStack() as stack:
        server = Server(arguments=arguments)
        stack.callback(server.kill)
        put(server, [(board, "cpu", 1)])
        position = poll(server, board, after="latest")["position"]
        put(server, [(board, "cpu", 2), (board, "memory", 3)])
        server.kill()
        server = Server(arguments=arguments)
        stack.callback(server.stop)
        eventually(lambda: sorted(snapshot(server, board).get("stale", [])) == ["cpu", "memory"], "they become stale", seconds=8)
        before = snapshot(server, board)
        found = poll(server, board, after=position)["messages"]
        assert all(message["stale"] for message in found)
        assert sorted((message["key"], message["data"]) for message in found) == [("cpu", 2), ("memory", 3)]
        promise = Promise({board: 1})
        for message in found:
            promise.see(message)
        assert promise.previous == {board: before["sequence"]}
        server.kill()
        server = Server(arguments=arguments)
        stack.callback(server.stop)
        assert epochless(snapshot(server, board)) == epochless(before)


def test_what_is_no_dashboard_does_not_become_stale(ageing):
    names = [f"{feed}.{uuid.uuid4().hex[:12]}" for feed in ("alerts", "scores", "news")]
    starts = [publish(ageing, name, {"a": 1})["position"] for name in names]
    board = f"dashboards.{uuid.uuid4().hex[:12]}"
    publish(ageing, board, 1, key="k")
    eventually(lambda: "stale" in snapshot(ageing, board), "the dashboard's does", seconds=5)
    for name, start in zip(names, starts):
        assert poll(ageing, name, after=start)["messages"] == []
