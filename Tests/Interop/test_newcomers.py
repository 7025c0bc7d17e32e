"""Newcomers to many states: they come a page at a time, whatever there is, and what happens meanwhile comes behind them."""

import contextlib
import json

import pytest

from support import Server, connect, event_stream, eventually, http, publish

BOARDS = 14
KEYS = 8
#: Of one value: a state is nearly a mebibyte.
VALUE = "x" * 120_000


@pytest.fixture
def server():
    server = Server()
    yield server
    server.stop()


def fill(server, feed):
    """States of 14 MB together."""
    if feed == "dashboards":
        for board in range(BOARDS):
            for key in range(KEYS):
                publish(server, f"dashboards.{board:02}", VALUE, key=f"k{key}")
    else:
        for board in range(BOARDS):
            publish(server, f"scores.{board:02}", {f"k{key}": VALUE for key in range(KEYS)})


def events(raw, until):
    """The objects of an event stream, up to and with one that ends it."""
    data, found = b"", []
    raw.settimeout(20)
    while True:
        piece = raw.recv(1 << 20)
        assert piece, "the stream goes on"
        data += piece
        if b"\n" not in piece:
            continue
        *lines, data = data.split(b"\n")
        for line in lines:
            if line.startswith(b"data: "):
                found.append(json.loads(line[6:]))
                if until(found[-1]):
                    return found


@pytest.mark.parametrize("feed", ["dashboards", "scores"])
def test_newcomers_that_do_not_read_cost_what_a_page_costs_each_and_get_the_states_of_their_moment(server, feed):
    fill(server, feed)
    with http() as client, contextlib.ExitStack() as stack:
        before = server.resident()
        streams = [stack.enter_context(event_stream(server.port, f"/v1/subscribe?channel={feed}.*", 4096)) for _ in range(60)]

        def connected():
            return f'transport="sse"}} {len(streams)}' in client.get(f"{server.url}/metrics").text
        eventually(connected, "all are there")
        # Meanwhile the last channel changes, which none of them has been handed yet.
        if feed == "dashboards":
            publish(server, f"dashboards.{BOARDS - 1:02}", "new", key="k0")
        else:
            publish(server, f"scores.{BOARDS - 1:02}", {"k0": "new"}, change="merge")
        growth = server.resident() - before
        print(f"60 newcomers to 14 MB of states: {growth / 2**20:.1f} MiB more")
        assert growth < 300 << 20
        for raw in streams[:6]:
            found = events(raw, lambda message: message["type"] == "notification")
            assert [message["type"] for message in found] == ["hello"] + ["snapshot"] * BOARDS + ["notification"]
            assert [message["channel"] for message in found[1:-1]] == [f"{feed}.{board:02}" for board in range(BOARDS)]
            assert all(message["data"]["k0"] == VALUE and len(message["data"]) == KEYS for message in found[1:-1])
            assert ["position" in message for message in found[1:-1]] == [False] * (BOARDS - 1) + [True]
            last = found[-1]
            assert last["data"] == ("new" if feed == "dashboards" else {"k0": "new"})
            assert last["sequence"] == found[-2]["sequence"] + 1 and "skipped" not in last


@pytest.mark.parametrize("cut", [1, 5])
def test_who_is_cut_off_among_the_states_begins_with_them_again_and_then_goes_on(server, cut):
    fill(server, "dashboards")
    path = "/v1/subscribe?channel=dashboards.*"
    with event_stream(server.port, path) as raw:
        seen = iter(range(cut, -1, -1))
        found = events(raw, lambda message: next(seen) == 0)
    assert len(found) == cut + 1 and "position" not in found[-1]
    publish(server, "dashboards.00", "new", key="k0")
    with event_stream(server.port, f"{path}&after={found[0]['position']}") as raw:
        found = events(raw, lambda message: message.get("channel") == f"dashboards.{BOARDS - 1:02}")
    assert [message["type"] for message in found] == ["hello"] + ["snapshot"] * BOARDS
    assert found[1]["data"]["k0"] == "new"
    position = found[-1]["position"]
    publish(server, "dashboards.03", "newer", key="k0")
    with event_stream(server.port, f"{path}&after={position}") as raw:
        found = events(raw, lambda message: message["type"] == "notification")
    assert [message["type"] for message in found] == ["hello", "notification"] and found[1]["data"] == "newer"


def test_a_poll_gets_all_states_in_one_answer(server):
    fill(server, "scores")
    with http(timeout=30) as client:
        answer = client.get(f"{server.url}/v1/subscribe", params={"channel": "scores.*", "wait": 0}).json()
        if not answer["messages"]:
            answer = client.get(
                f"{server.url}/v1/subscribe", params={"channel": "scores.*", "wait": 0, "after": answer["position"]}).json()
        assert [message["channel"] for message in answer["messages"]] == [f"scores.{board:02}" for board in range(BOARDS)]
        again = client.get(f"{server.url}/v1/subscribe", params={"channel": "scores.*", "wait": 0, "after": answer["position"]}).json()
        assert again["messages"] == [] and again["position"] == answer["position"]


def test_a_newcomer_who_reads_slowly_is_told_every_later_value(server):
    fill(server, "dashboards")
    with connect(server.port, 4096) as raw:
        raw.sendall(b"GET /v1/subscribe?channel=dashboards.* HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        raw.recv(100)
        for number in range(200):
            publish(server, f"dashboards.{number % BOARDS:02}", number, key=f"k{number % KEYS}")
        publish(server, "dashboards.end", "end", key="end")
        found = events(raw, lambda message: message.get("channel") == "dashboards.end")
    values = {}
    for message in found:
        if message["type"] == "snapshot":
            values |= {(message["channel"], key): value for key, value in message["data"].items()}
        elif message["type"] == "notification":
            values[message["channel"], message["key"]] = message["data"]
    expected = {(f"dashboards.{board:02}", f"k{key}"): VALUE for board in range(BOARDS) for key in range(KEYS)}
    for number in range(200):
        expected[f"dashboards.{number % BOARDS:02}", f"k{number % KEYS}"] = number
    expected["dashboards.end", "end"] = "end"
    assert values == expected
