"""Long-polls that are behind: past what retention dropped, with a rate, at the end of their time, while the log is asked."""

import time

import pytest

from support import http, publish, query
from test_websockets import command, receive, websocket


def ask(server, channels, wait=2, **items):
    with http(timeout=20) as client:
        answer = client.get(f"{server.url}/v1/subscribe?{query(channels, wait=wait, **items)}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def put(server, channel, count, keys=3):
    """Publishes so many messages; the last of them says "last"."""
    for number in range(count):
        items = {"key": f"k{number % keys}"} if channel.startswith("dashboards") else {}
        publish(server, channel, "last" if number == count - 1 else number, **items)


@pytest.fixture
def small(start_server, tmp_path, request):
    """A server that keeps 50 messages of a channel, in memory or on disk."""
    store = ":memory:" if request.param == "memory" else str(tmp_path / "log.sqlite")
    return start_server(arguments=["--keep-messages", "50", "--store", store])


@pytest.mark.parametrize("small", ["memory", "disk"], indirect=True)
@pytest.mark.parametrize("channels, items", [
    (["log.x"], {"rate": "20/s"}), (["alerts.x"], {"rate": "20/s"}), (["scores.x"], {"rate": "20/s"}),
    (["dashboards.x"], {"rate": "20/s"}), (["alerts.x"], {"digest": "true"}), (["alerts.x", "dashboards.y"], {}),
    (["dashboards.x", "log.x"], {}), ([">"], {}),
], ids=lambda value: ",".join(value) or "-")
def test_polls_get_past_what_retention_has_dropped(small, channels, items):
    names = [name for name in ("log.x", "alerts.x", "scores.x", "dashboards.x", "dashboards.y") if name in channels or ">" in channels]
    position = None
    for name in names:
        position = publish(small, name, "first", **({"key": "k0"} if name.startswith("dashboards") else {}))["position"]
    for name in names:
        put(small, name, 120)
    last = set()
    for _ in range(30):
        answer = ask(small, channels, after=position, **items)
        if answer["messages"]:
            assert answer["position"] != position, f"it stays where it is: {answer['messages']}"
        position = answer["position"]
        for message in answer["messages"]:
            newest = message["newest"] if message["type"] == "digest" else [message]
            last |= {message["channel"] for element in newest if element.get("data") == "last"}
        if last == set(names):
            return
    raise AssertionError(f"only {last} of {names} came to their end")


@pytest.mark.parametrize("rate, wait", [("6/m", 2), ("30/m", 1), ("1/s", 3)])
def test_a_poll_with_a_rate_is_answered_also_where_its_turn_comes_after_its_time(server, channel, rate, wait):
    position = publish(server, channel, 0)["position"]
    publish(server, channel, 1)
    start = time.monotonic()
    answer = ask(server, [channel], wait=wait, after=position, rate=rate)
    assert [message["data"] for message in answer["messages"]] == [1]
    assert time.monotonic() - start < wait + 2
    # In turns, not sooner.
    assert time.monotonic() - start > min(wait, {"6/m": 10, "30/m": 2, "1/s": 1}[rate]) - 0.5


def test_a_subscriber_with_a_rate_has_its_first_turn_after_the_time_of_the_rate(server, channel):
    position = publish(server, channel, 0)["position"]
    # A rate that no other subscriber has: its turns begin with it.
    with websocket(server, query([channel], after=position, rate="31/m")) as connection:
        assert receive(connection)["type"] == "hello"
        start = time.monotonic()
        publish(server, channel, 1)
        message = receive(connection)
        assert message["data"] == 1
        assert 1.5 < time.monotonic() - start < 3


def test_an_empty_answer_says_that_there_is_nothing_more(start_server, tmp_path):
    server = start_server(arguments=["--store", str(tmp_path / "log.sqlite")])
    with http(timeout=30) as client:
        for _ in range(20):
            items = [{"channel": f"log.{number % 500}", "data": "x" * 200} for number in range(1000)]
            assert client.post(f"{server.url}/v1/publish", json=items).status_code == 201
    # Not from memory.
    server.kill()
    server = start_server(arguments=["--store", str(tmp_path / "log.sqlite")])
    found, position = 0, "earliest"
    while True:
        answer = ask(server, ["log.*"], wait=0, after=position)
        if not answer["messages"]:
            break
        found += len(answer["messages"])
        position = answer["position"]
    assert found == 20_000


def test_everything_may_be_subscribed_to_by_command_by_a_user(server):
    with websocket(server, "user=anna") as connection:
        assert receive(connection)["type"] == "hello"
        assert "error" not in command(connection, id=1, type="subscribe", channel=">", after="latest")
