"""Several subscriptions in one request, commands of every transport, probes: what the clients' fallback stands on."""

import contextlib
import json
import threading
import time
import urllib.parse

import httpx_sse
import pytest

from support import assert_problem, eventually, http, publish
from test_websockets import command, receive, websocket

VERSIONS = ["1.1", "2"]
each_version = pytest.mark.parametrize("version", VERSIONS)


def listed(*subscriptions, **items):
    pairs = [("subscriptions", json.dumps(list(subscriptions)))] + list(items.items())
    return urllib.parse.urlencode(pairs)


class Events:
    """The events of a stream, read in a thread of their own."""

    def __init__(self, server, version, text, method="GET", **options):
        self.server, self.found, self.client = server, [], http(version, timeout=20)
        url = f"{server.url}/v1/subscribe" + (f"?{text}" if text else "")
        self.stream = httpx_sse.connect_sse(self.client, method, url, **options)
        self.thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self):
        self.source = self.stream.__enter__()
        assert self.source.response.status_code == 200
        self.thread.start()
        self.hello = self.wait("hello")
        return self

    def _read(self):
        with contextlib.suppress(Exception):
            for event in self.source.iter_sse():
                if event.data:
                    self.found.append((time.monotonic(), event.json()))

    def of(self, kind):
        return [message for _, message in list(self.found) if message["type"] == kind]

    def wait(self, kind, count=1, seconds=8):
        eventually(lambda: len(self.of(kind)) >= count, f"{count} of {kind}", seconds=seconds)
        return self.of(kind)[count - 1]

    def __exit__(self, *_):
        with contextlib.suppress(Exception):
            self.source.response.close()
        self.client.close()
        self.thread.join(5)


def say(server, session, commands, version="1.1"):
    with http(version) as client:
        return client.post(f"{server.url}/v1/sessions/{session}", json=commands)


@each_version
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_each_subscription_of_a_stream_has_a_place_of_its_own(server, channel, version, method):
    first = publish(server, f"{channel}.a", 1)
    publish(server, f"{channel}.b", 1)
    publish(server, f"{channel}.a", 2)
    wanted = [{"channels": [f"{channel}.a"], "after": first["position"]}, {"channels": [f"{channel}.b"], "after": "earliest"}]
    if method == "GET":
        stream = Events(server, version, listed(*wanted))
    else:
        stream = Events(server, version, "", "POST", json={"subscriptions": wanted})
    with stream as events:
        assert [place["position"] for place in events.hello["subscriptions"]][0] == first["position"]
        assert events.hello["position"] == first["position"]
        events.wait("notification", 2)
        publish(server, f"{channel}.b", 2)
        events.wait("notification", 3)
        time.sleep(0.2)
        assert sorted((message["channel"][-1], message["data"]) for message in events.of("notification")) == [
            ("a", 2), ("b", 1), ("b", 2)
        ]


def test_each_subscription_of_a_websocket_has_a_place_of_its_own(server, channel):
    first = publish(server, f"{channel}.a", 1)
    publish(server, f"{channel}.a", 2)
    publish(server, f"{channel}.b", 1)
    wanted = [{"channels": [f"{channel}.a"], "after": first["position"]}, {"channels": [f"{channel}.b"], "after": "earliest"}]
    with websocket(server, listed(*wanted)) as connection:
        hello = receive(connection)
        assert len(hello["subscriptions"]) == 2
        found = [receive(connection) for _ in range(2)]
        assert sorted((message["channel"][-1], message["data"]) for message in found) == [("a", 2), ("b", 1)]
        reply = command(connection, id=1, type="subscribe", channel=f"{channel}.*")
        assert reply["error"]["code"] == "overlapping_subscription"


@each_version
def test_each_subscription_of_a_poll_has_a_place_of_its_own(server, channel, version):
    publish(server, f"{channel}.a", 1)
    places = [{"channels": [f"{channel}.a"], "after": "earliest"}, {"channels": [f"{channel}.b"], "after": "earliest"}]
    found = []
    with http(version) as client:
        session = "new"
        for number in range(4):
            if number == 2:
                # It is parked: what comes ends it, and moves only the one that it is of.
                timer = threading.Timer(0.3, publish, (server, f"{channel}.b", 7))
                timer.start()
            wait = 5 if number == 2 else 0
            answer = client.post(
                f"{server.url}/v1/subscribe", json={"subscriptions": places, "session": session, "wait": wait}
            ).json()
            assert len(answer["subscriptions"]) == 2 and len(answer["session"]) == 40 and len(answer["network"]) == 8
            assert session in ("new", answer["session"])
            session = answer["session"]
            found += [(message["channel"][-1], message["data"]) for message in answer["messages"]]
            for place, now in zip(places, answer["subscriptions"]):
                place["after"] = now["position"]
    assert found == [("a", 1), ("b", 7)]


def test_a_gap_of_all_channels_names_those_of_its_subscription(server, channel):
    publish(server, f"{channel}.a", 1)
    foreign = "0123456789ab.5"
    wanted = [{"channels": [f"{channel}.b", f"{channel}.c"], "after": foreign}, {"channels": [f"{channel}.a"], "after": foreign}]
    with Events(server, "1.1", listed(*wanted)) as events:
        events.wait("gap", 2)
        gaps = {tuple(gap["channels"]): gap for gap in events.of("gap")}
        assert set(gaps) == {(f"{channel}.b", f"{channel}.c"), (f"{channel}.a",)}
        assert all(gap["reason"] == "epoch" for gap in gaps.values())


def test_a_long_poll_can_end_its_connection(server, channel):
    with http() as client:
        body = {"channels": [channel], "wait": 0}
        assert "connection" not in client.post(f"{server.url}/v1/subscribe", json=body).headers
        assert client.post(f"{server.url}/v1/subscribe", json={**body, "close": True}).headers["connection"] == "close"


@each_version
def test_an_event_stream_takes_the_commands_of_a_websocket(server, channel, version):
    with Events(server, version, listed()) as events:
        session = events.hello["session"]
        answer = say(server, session, {"id": 1, "type": "subscribe", "channel": f"{channel}.a", "after": "earliest"}, version)
        assert answer.status_code == 200
        assert answer.json()["type"] == "reply" and answer.json()["id"] == 1 and answer.json()["position"]
        published = say(server, session, {"id": "x", "type": "publish", "channel": f"{channel}.a", "data": {"n": 1}}).json()
        assert published["sequence"] == 1 and published["id"] == "x"
        assert events.wait("notification")["data"] == {"n": 1}
        replies = say(server, session, [
            {"id": 2, "type": "subscribe", "channel": f"{channel}.>"}, {"id": 3, "type": "rate", "channel": f"{channel}.a", "rate": "1/s"},
            {"id": 4, "type": "unsubscribe", "channel": f"{channel}.a"}, {"id": 5, "type": "ping"}, {"id": 6, "type": "x"}, 7,
        ]).json()
        assert [reply.get("id") for reply in replies] == [2, 3, 4, 5, 6, None]
        assert replies[0]["error"]["code"] == "overlapping_subscription"
        assert [reply.get("error", {}).get("code") for reply in replies[1:]] == [None, None, None, "unknown_command", "bad_command"]
        publish(server, f"{channel}.a", {"n": 2})
        time.sleep(0.3)
        assert len(events.of("notification")) == 1
    eventually(lambda: say(server, session, {"type": "ping"}).status_code == 404, "the session has ended with its stream")
    assert_problem(say(server, session, {"type": "ping"}), 404, "unknown-session")


def test_a_websocket_takes_commands_from_beside_it(server, channel):
    with websocket(server, "") as connection:
        session = receive(connection)["session"]
        reply = say(server, session, {"id": 1, "type": "subscribe", "channel": channel}).json()
        assert reply["id"] == 1 and reply["position"]
        publish(server, channel, 5)
        assert receive(connection)["data"] == 5


def test_the_read_state_goes_over_every_session(server, channel):
    alerts = f"alerts.{channel.replace('.', '-')}"
    publish(server, alerts, 1)
    publish(server, alerts, 2)
    with Events(server, "1.1", listed({"channels": [alerts]}, user=channel)) as events:
        assert events.hello["unread"] == 2
        events.wait("notification", 2)
        reply = say(server, events.hello["session"], {"id": 1, "type": "ack", "channel": alerts, "through": 1}).json()
        assert reply == {"type": "reply", "id": 1, "unread": 1}
        assert events.wait("unread")["count"] == 1
        # A further subscription counts too.
        other = f"{alerts}-b"
        say(server, events.hello["session"], {"type": "subscribe", "channel": other, "after": "latest"})
        publish(server, other, 1)
        eventually(lambda: events.of("unread")[-1]["count"] == 2, "both subscriptions are counted together")
    with http() as client:
        body = {"subscriptions": [{"channels": [alerts], "after": "latest"}], "session": "new", "wait": 0, "user": channel}
        session = client.post(f"{server.url}/v1/subscribe", json=body).json()["session"]
        assert say(server, session, {"id": 1, "type": "ack", "channel": alerts, "through": 2}).json()["unread"] == 0


@each_version
def test_a_command_ends_the_parked_poll_of_its_session(server, channel, version):
    with http(version) as client, http(version) as parked:
        body = {"subscriptions": [{"channels": [channel], "after": "latest"}], "wait": 0}
        first = client.post(f"{server.url}/v1/subscribe", json={**body, "session": "new"}).json()
        answers = []
        body["subscriptions"][0]["after"] = first["position"]
        thread = threading.Thread(
            target=lambda: answers.append(
                parked.post(f"{server.url}/v1/subscribe", json={**body, "session": first["session"], "wait": 10}).json()
            )
        )
        thread.start()
        time.sleep(0.3)
        reply = say(server, first["session"], {"id": 1, "type": "subscribe", "channel": f"{channel}.x", "after": "earliest"}).json()
        assert reply["position"]
        thread.join(5)
        assert answers and answers[0]["messages"] == [], "the parked poll is answered at once"


@each_version
def test_probes_come_in_their_time(server, channel, version):
    with Events(server, version, listed(probe="true")) as events:
        events.wait("probe", 3)
        assert [probe["at"] for probe in events.of("probe")] == [0, 300, 1000]
        assert len(events.of("probe")[2]["pad"]) >= 2048
        times = [at for at, message in events.found if message["type"] == "probe"]
        assert times[2] - times[0] >= 0.9


def test_probes_come_behind_what_was_missed(server, channel):
    for number in range(50):
        publish(server, channel, number)
    with websocket(server, listed({"channels": [channel], "after": "earliest"}, probe="true")) as connection:
        kinds = [receive(connection)["type"] for _ in range(54)]
    assert kinds == ["hello"] + ["notification"] * 50 + ["probe"] * 3


def test_padding_follows_each_message(server, channel):
    with http(timeout=10) as client:
        url = f"{server.url}/v1/subscribe?{urllib.parse.urlencode({'channel': channel, 'pad': 4096})}"
        with client.stream("GET", url, headers={"Accept": "text/event-stream"}) as answer:
            data = answer.iter_bytes()
            text = next(data)
            while len(text) < 4096:
                text += next(data)
            publish(server, channel, 1)
            text = next(data)
            while text.count(b"\n\n") < 2:
                text += next(data)
    assert b'"data":1' in text
    assert len(text) > 4096 and text.rstrip(b"\n").endswith(b" " * 4096)


def test_verdicts_are_counted(server, channel):
    def count():
        with http() as client:
            text = client.get(f"{server.url}/metrics").text
        line = 'tocsin_path_verdicts_total{transport="sse-post",verdict="cut"} '
        return int(next(each for each in text.splitlines() if each.startswith(line))[len(line):])

    before = count()
    with websocket(server, "") as connection:
        receive(connection)
        assert "error" not in command(connection, id=1, type="path", transport="sse-post", verdict="cut", ms=300)
    assert count() == before + 1


@pytest.mark.parametrize("body,problem", [
    ({"subscriptions": [{"channels": ["a.*"]}, {"channels": ["a.b"]}]}, "overlapping-subscriptions"),
    ({"subscriptions": [{"channels": ["a"]}] * 101}, "overlapping-subscriptions"),
    ({"subscriptions": [{"channels": [f"a{n}"]} for n in range(101)]}, "too-many-channels"),
    ({"subscriptions": [{"channels": ["a"], "x": 1}]}, "bad-parameter"),
    ({"subscriptions": [{"channels": ["a"], "after": "x"}]}, "bad-position"),
    ({"subscriptions": [], "channels": ["a"]}, "bad-parameter"),
    ({"channels": ["a"], "session": "x"}, "bad-parameter"),
])
def test_a_bad_list_is_refused(server, body, problem):
    with http() as client:
        assert_problem(client.post(f"{server.url}/v1/subscribe", json=body), 400, problem)


def test_the_refusal_of_a_list_names_the_subscription(server):
    with http() as client:
        for index in range(3):
            items = [{"channels": [f"a{number}"], "after": "x" if number == index else "latest"} for number in range(3)]
            answer = client.post(f"{server.url}/v1/subscribe", json={"subscriptions": items})
            assert answer.status_code == 400 and answer.json()["pointer"] == f"#/subscriptions/{index}"
            answer = client.get(f"{server.url}/v1/subscribe", params={"subscriptions": json.dumps(items)})
            assert answer.status_code == 400 and answer.json()["pointer"] == f"#/subscriptions/{index}"
        assert "pointer" not in client.post(f"{server.url}/v1/subscribe", json={"channels": ["a"], "after": "x"}).json()


def test_the_answers_of_a_session_come_through_a_slow_line(server, channel):
    """The first one at most 16 KiB and one message, the others at most 128 KiB and one message; and nothing is left out."""
    with http() as client:
        for number in range(100):
            assert client.post(f"{server.url}/v1/channels/{channel}", json={"n": number, "pad": "x" * 6000}).status_code == 201
        seen, session, after, sizes = [], "new", "earliest", []
        while len(seen) < 100:
            answer = client.post(f"{server.url}/v1/subscribe", json={
                "subscriptions": [{"channels": [channel], "after": after}], "wait": 0, "session": session})
            body = answer.json()
            seen += [message["data"]["n"] for message in body["messages"]]
            session, after = body["session"], body["subscriptions"][0]["position"]
            sizes.append(len(answer.content))
        assert seen == list(range(100))
        assert 16 << 10 <= sizes[0] < (16 << 10) + 7000
        assert all(size < (128 << 10) + 7000 for size in sizes) and sizes[1] >= 128 << 10
        plain = client.get(f"{server.url}/v1/subscribe", params={"channel": channel, "after": "earliest", "wait": 0})
        assert len(plain.json()["messages"]) == 100


def test_bad_commands_are_refused(server, channel):
    with websocket(server, "") as connection:
        session = receive(connection)["session"]
        with http() as client:
            url = f"{server.url}/v1/sessions/{session}"
            assert_problem(client.post(url, content=b"{"), 400, "bad-json")
            assert_problem(client.post(url, content=b"1"), 400, "bad-json")
            assert_problem(client.post(url, json=[{"type": "ping"}] * 101), 400, "too-many-commands")
            assert client.post(url, json=[]).json() == []
            assert client.get(url).status_code == 405
            for other in ("x", "0" * 40, session[:-1] + ("0" if session[-1] != "0" else "1"), session[:16] + "0" * 24, session.upper()):
                if other != session:
                    assert_problem(client.post(f"{server.url}/v1/sessions/{other}", json={"type": "ping"}), 404, "unknown-session")


def test_the_browser_client_is_served_to_everybody(server):
    with http() as client:
        answer = client.get(f"{server.url}/tocsin.js", headers={"Origin": "https://elsewhere.example"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "export" in answer.text
