"""Webhooks about channels: occupied by the first subscriber, vacated by the last, in this order, whatever happens in between."""

import contextlib
import os
import signal
import time

import pytest

from support import eventually
from test_processes import workers
from test_sessions import Events
from test_webhooks import each_count_of_processes, receiver, secret, start, webhook_figure  # noqa: F401
from test_websockets import receive, websocket

EVENTS = "channel.occupied:scores.>,channel.vacated:scores.>"


@pytest.fixture
def watch(start):  # noqa: F811
    def started(*arguments, events=EVENTS, grace=1, **options):
        return start("--presence-grace", str(grace), *arguments, events=events, **options)
    return started


def told(receiver, channel):  # noqa: F811
    """What a receiver that knows events by their id has been told."""
    assert [attempt["fault"] for attempt in receiver.attempts if attempt["fault"]] == []
    events = {attempt["id"]: attempt["event"] for attempt in list(receiver.attempts) if attempt["status"] == 204}
    return [event["type"].removeprefix("channel.") for event in events.values() if event["data"]["channel"] == channel]


def subscribed(server, channel, way="websocket"):
    """A subscriber on a transport."""
    if way == "websocket":
        @contextlib.contextmanager
        def opened():
            with websocket(server, f"channel={channel}") as connection:
                receive(connection, "hello")
                yield
        return opened()
    return Events(server, "1.1", f"channel={channel}&after=latest")


@each_count_of_processes
@pytest.mark.parametrize("way", ["websocket", "sse"])
def test_a_channel_is_occupied_by_the_first_and_vacated_by_the_last(watch, receiver, processes, way):  # noqa: F811
    server = watch(processes=processes)
    with subscribed(server, "scores.a", way):
        eventually(lambda: told(receiver, "scores.a") == ["occupied"], "it is occupied")
        with subscribed(server, "scores.a"), subscribed(server, "scores.a"):
            pass
        time.sleep(1.5)
        assert told(receiver, "scores.a") == ["occupied"]
    eventually(lambda: told(receiver, "scores.a") == ["occupied", "vacated"], "it is vacated")
    for event in receiver.taken:
        assert set(event) == {"type", "timestamp", "data"} and event["data"] == {"channel": "scores.a"}
    eventually(lambda: webhook_figure(server, "sent_total", event="channel.vacated") == 1, "it is counted")


def test_other_channels_and_patterns_are_not_told_of(watch, receiver):  # noqa: F811
    server = watch()
    with subscribed(server, "news.a"), subscribed(server, "scores.>"), subscribed(server, "scores.b"):
        eventually(lambda: told(receiver, "scores.b") == ["occupied"], "it is occupied")
        time.sleep(1)
    assert {event["data"]["channel"] for event in receiver.taken} == {"scores.b"}


def test_who_comes_back_within_the_grace_has_not_left(watch, receiver):  # noqa: F811
    server = watch(grace=3)
    for _ in range(3):
        with subscribed(server, "scores.a"):
            time.sleep(0.3)
    with subscribed(server, "scores.a"):
        time.sleep(4)
        assert told(receiver, "scores.a") == ["occupied"]


def test_while_the_receiver_is_away_what_undoes_itself_is_not_kept(watch, receiver):  # noqa: F811
    receiver.status = 500
    server = watch("--webhook-retries", "300ms," * 29 + "300ms", grace=0)
    for _ in range(4):
        with subscribed(server, "scores.a"):
            time.sleep(0.6)
        time.sleep(0.8)
    assert webhook_figure(server, "waiting", event="channel.occupied") == 1
    assert webhook_figure(server, "waiting", event="channel.vacated") == 1
    receiver.status = 204
    eventually(lambda: told(receiver, "scores.a") == ["occupied", "vacated"], "both are told, in their order")


@each_count_of_processes
def test_after_a_kill_what_nobody_comes_back_to_is_vacated(watch, receiver, tmp_path, processes):  # noqa: F811
    store = ["--store", str(tmp_path / "log.sqlite"), "--webhook-settle", "4s"]
    server = watch(*store, processes=processes)
    with subscribed(server, "scores.a"), subscribed(server, "scores.b"):
        for channel in ("scores.a", "scores.b"):
            eventually(lambda: told(receiver, channel) == ["occupied"], "they are occupied")
        server.kill()
    server = watch(*store, processes=processes)
    with subscribed(server, "scores.a"):
        eventually(lambda: told(receiver, "scores.b") == ["occupied", "vacated"], "nobody has come back")
        time.sleep(2)
        assert told(receiver, "scores.a") == ["occupied"]
    eventually(lambda: told(receiver, "scores.a") == ["occupied", "vacated"], "the other one is vacated, too")


def test_a_worker_that_is_killed_takes_its_subscribers_along(watch, receiver):  # noqa: F811
    server = watch(processes=2)
    with contextlib.suppress(Exception), contextlib.ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(subscribed(server, "scores.a"))
        eventually(lambda: told(receiver, "scores.a") == ["occupied"], "it is occupied")
        for pid in workers(server):
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: told(receiver, "scores.a") == ["occupied", "vacated"], "it is vacated", seconds=20)


def test_both_events_of_many_channels(watch, receiver):  # noqa: F811
    server = watch("--webhook-concurrency", "20", grace=0)
    for _ in range(2):
        with contextlib.ExitStack() as stack:
            for number in range(30):
                stack.enter_context(subscribed(server, f"scores.n{number}"))
            eventually(lambda: all(told(receiver, f"scores.n{number}")[-1:] == ["occupied"] for number in range(30)), "occupied")
        eventually(lambda: all(told(receiver, f"scores.n{number}")[-1:] == ["vacated"] for number in range(30)), "vacated")
    for number in range(30):
        assert told(receiver, f"scores.n{number}") == ["occupied", "vacated"] * 2
