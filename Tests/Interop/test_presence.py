"""Who is on a channel: counts and pages, joins and leaves on every transport, with several processes, within limits."""

import contextlib
import itertools
import json
import os
import re
import resource
import select
import signal
import socket
import threading
import time

import pytest

from support import assert_problem, eventually, event_stream, http as client_of, publish, query
from test_api_keys import keys, run, with_key  # noqa: F401
from test_cbor import client as cbor_client
from test_processes import connections, figures, start, workers  # noqa: F401
from test_sessions import Events, listed, say
from test_tokens import bearer, key, token  # noqa: F401
from test_websockets import command, receive, websocket

GRACE = 2
POLL = 2
FLAGS = ["--presence", "chat=users", "--presence", "scores=count", "--presence-grace", str(GRACE), "--presence-poll", str(POLL)]


@pytest.fixture
def tracking(start_server):
    return start_server(arguments=FLAGS)


@pytest.fixture
def room(channel):
    """A channel of a feed that says who is there."""
    return channel.replace("scores", "chat")


def ask(server, channel, headers=None, **items):
    with client_of() as client:
        return client.get(f"{server.url}/v1/channels/{channel}/presence", params=items, headers=headers or {})


def page(server, channel, **items):
    answer = ask(server, channel, **items)
    assert answer.status_code == 200, answer.text
    return answer.json()


def counts(server, channel):
    found = page(server, channel)
    return found["connections"], found["users"]


def users(server, channel):
    return [member["user"] for member in page(server, channel)["members"]]


class Poller:
    """Polls again and again, in a thread of its own; each time on a connection of its own, so that it comes to any loop and process."""

    def __init__(self, server, channel, presence=False, wait=1, version="1.1", keeps=False, **items):
        self.server, self.version, self.keeps = server, version, keeps
        self.items = {"channel": channel, "wait": wait, **items, **({"presence": "true"} if presence else {})}
        self.found, self.answers, self.isOver = [], 0, False
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self.thread.start()
        eventually(lambda: self.answers, "a first answer")
        return self

    def _run(self):
        session, position, client = "new", None, client_of(self.version)
        while not self.isOver:
            items = {**self.items, "session": session, **({"after": position} if position else {})}
            answer = client.get(f"{self.server.url}/v1/subscribe", params=items)
            if answer.status_code != 200:
                self.found.append((time.monotonic(), {"type": "problem", "status": answer.status_code}))
                return
            body = answer.json()
            session, position = body["session"], body["position"]
            self.found += [(time.monotonic(), message) for message in body["messages"]]
            self.answers += 1
            if not self.keeps:
                client.close()
                client = client_of(self.version)
        client.close()

    def of(self, kind):
        return [message for _, message in list(self.found) if message["type"] == kind]

    def wait(self, kind, count=1, seconds=10):
        eventually(lambda: len(self.of(kind)) >= count, f"{count} of {kind}", seconds=seconds)
        return self.of(kind)[count - 1]

    def __exit__(self, *_):
        self.isOver = True
        self.thread.join(10)


class Socket:
    """A WebSocket whose messages are read in a thread of their own."""

    def __init__(self, server, items, **options):
        self.found, self.context = [], websocket(server, items, **options)

    def __enter__(self):
        self.connection = self.context.__enter__()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()
        self.hello = self.wait("hello")
        return self

    def _read(self):
        with contextlib.suppress(Exception):
            while True:
                self.found.append((time.monotonic(), json.loads(self.connection.recv())))

    of = Poller.of
    wait = Poller.wait

    def __exit__(self, *_):
        self.context.__exit__(None, None, None)
        self.thread.join(5)


WAYS = {
    "websocket": lambda server, channel, **items: Socket(server, query(channel, **items)),
    "websocket-tls": lambda server, channel, **items: Socket(server, query(channel, **items), tls=True),
    "sse": lambda server, channel, **items: Events(server, "1.1", query(channel, **items)),
    "sse-http2": lambda server, channel, **items: Events(server, "2", query(channel, **items)),
    "sse-padded": lambda server, channel, **items: Events(server, "1.1", query(channel, pad="100", **items)),
    "sse-raw": lambda server, channel, **items: Events(server, "1.1", query(channel, format="raw", **items)),
    "long-poll": lambda server, channel, **items: Poller(server, channel, **items),
    "long-poll-kept": lambda server, channel, **items: Poller(server, channel, keeps=True, **items),
    "long-poll-http2": lambda server, channel, **items: Poller(server, channel, version="2", keeps=True, **items),
}
each_way = pytest.mark.parametrize("way", WAYS)


def test_a_user_with_three_tabs_is_one_user_and_nobody_in_particular_is_a_connection(tracking, room):
    with contextlib.ExitStack() as stack:
        for way in ("websocket", "sse-http2", "long-poll"):
            stack.enter_context(WAYS[way](tracking, room, user="anna"))
        for way, user in [("websocket-tls", "bob"), ("sse", None), ("long-poll-http2", None)]:
            stack.enter_context(WAYS[way](tracking, room, **({"user": user} if user else {})))
        # Patterns watch; they are on no channel.
        stack.enter_context(Socket(tracking, query([f"{room}.*", "chat.>"], user="eve")))
        eventually(lambda: counts(tracking, room) == (6, 2), "six of them")
        found = page(tracking, room)
        assert [(member["user"], member["connections"]) for member in found["members"]] == [("anna", 3), ("bob", 1)]
        assert all(re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", member["since"]) for member in found["members"])
        assert "next" not in found and found["channel"] == room
        since = found["members"][0]["since"]
        time.sleep(1)
        assert page(tracking, room)["members"][0]["since"] == since
    eventually(lambda: counts(tracking, room) == (0, 0), "nobody is left", seconds=1 + POLL + GRACE + 8)


def test_counts_by_default_and_nothing_where_nothing_is_kept(tracking, channel):
    plain = channel.replace("scores", "plain")
    with Socket(tracking, query([channel, plain], user="anna")):
        eventually(lambda: page(tracking, channel) == {"channel": channel, "connections": 1, "users": 1}, "a count")
        problem = assert_problem(ask(tracking, plain), 404, "no-presence")
        assert problem["rule"] == "presence" and problem["configuration_key"] == "presence (--presence)"
    with client_of() as client:
        for wanted in (plain, [channel, plain]):
            answer = client.get(f"{tracking.url}/v1/subscribe?{query(wanted, presence='true', session='new')}")
            assert_problem(answer, 404, "no-presence")
        assert_problem(client.get(f"{tracking.url}/v1/subscribe?channel={channel}&presence=true"), 400, "bad-parameter")
        assert_problem(client.get(f"{tracking.url}/v1/subscribe?channel={channel}&presence=yes"), 400, "bad-parameter")
        assert_problem(client.post(f"{tracking.url}/v1/channels/{channel}/presence", json=1), 405, "method-not-allowed")
        for limit in ("0", "1001", "x"):
            assert_problem(ask(tracking, channel, limit=limit), 400, "bad-parameter")
        wanted = listed({"channels": [channel]}, {"channels": [plain]}, presence="true", session="new")
        problem = assert_problem(client.get(f"{tracking.url}/v1/subscribe?{wanted}"), 404, "no-presence")
        assert problem["pointer"] == "#/subscriptions/1"


@each_way
def test_who_watches_is_told_the_counts_and_then_who_comes_and_leaves(tracking, room, way):
    with WAYS[way](tracking, room, user="anna", presence="true") as watcher:
        first = watcher.wait("presence")
        assert first == {"type": "presence", "channel": room, "connections": 1, "users": 1}
        with Socket(tracking, query(room, user="bob")):
            joined = watcher.wait("presence", 2)
            assert joined == {"type": "presence", "channel": room, "connections": 2, "users": 2, "joined": ["bob"], "left": []}
        left = watcher.wait("presence", 3)
        assert left == {"type": "presence", "channel": room, "connections": 1, "users": 1, "joined": [], "left": ["bob"]}
        # Messages still come, and these are none of the log's.
        publish(tracking, room, {"type": "payload"})
        watcher.wait("payload" if way == "sse-raw" else "notification")
        assert not any("position" in message or "sequence" in message for message in watcher.of("presence"))
        time.sleep(1.5)
        assert len(watcher.of("presence")) == 3


def test_presence_messages_and_answers_in_cbor(tracking, room):
    with cbor_client(tracking, query(room, user="anna", presence="true")) as one:
        assert one.receive() == {"type": "presence", "channel": room, "connections": 1, "users": 1}
        reply = one.command(id=1, type="presence", channel=room)
        assert (reply["connections"], reply["users"], reply["members"][0]["user"]) == (1, 1, "anna")
        with Socket(tracking, query(room, user="bob")):
            assert one.receive()["joined"] == ["bob"]


def test_an_event_stream_has_no_id_with_it(tracking, room):
    raw = event_stream(tracking.port, f"/v1/subscribe?{query(room, presence='true', after='latest')}")
    raw.settimeout(10)
    text = b""
    while b"event: presence" not in text or not text.endswith(b"\n\n\r\n"):
        text += raw.recv(4096)
    block = text.decode().split("event: presence")[1].split("\n\n")[0]
    assert "data: {" in block and "id:" not in block
    assert "id:" not in text.decode().split("event: presence")[0].rsplit("\r\n", 1)[-1]
    raw.close()


def test_commands_on_every_transport(tracking, room):
    with Socket(tracking, query(f"{room}.a", user="anna")) as one, Events(tracking, "2", query(f"{room}.b", user="bob")) as two:
        answer = say(tracking, two.hello["session"], [
            {"id": 1, "type": "subscribe", "channel": f"{room}.a", "presence": True}, {"id": 2, "type": "presence", "channel": f"{room}.b"},
            {"id": 3, "type": "presence", "channel": "plain.a"}]).json()
        assert [reply.get("error", {}).get("code") for reply in answer] == [None, None, "no_presence"]
        assert answer[2]["error"]["configuration_key"] == "presence (--presence)"
        eventually(lambda: users(tracking, f"{room}.a") == ["anna", "bob"], "both are there")
        assert two.wait("presence")["users"] == 2
        one.connection.send(json.dumps({"id": 4, "type": "presence", "channel": f"{room}.a", "limit": 1}))
        reply = one.wait("reply")
        assert [member["user"] for member in reply["members"]] == ["anna"] and reply["next"] == "anna"
        say(tracking, two.hello["session"], {"id": 5, "type": "unsubscribe", "channel": f"{room}.a"}).raise_for_status()
        eventually(lambda: users(tracking, f"{room}.a") == ["anna"], "one has left")
    with client_of() as client:
        polled = client.get(f"{tracking.url}/v1/subscribe?{query(room, session='new', wait=0)}").json()
    asked = {"id": 1, "type": "presence", "channel": room}
    eventually(lambda: say(tracking, polled["session"], asked).json()["connections"] == 1, "a client that polls is there")


PLAIN = ["websocket", "sse", "long-poll"]


def test_going_from_one_transport_to_another_is_neither_a_leave_nor_a_join(tracking, room):
    combinations = [(first, second, overlaps) for first, second in itertools.product(PLAIN, PLAIN) for overlaps in (False, True)]
    with contextlib.ExitStack() as stack:
        cases = []
        for number, (first, second, overlaps) in enumerate(combinations):
            name = f"{room}.c{number}"
            watcher = stack.enter_context(Socket(tracking, query(name, presence="true")))
            old = WAYS[first](tracking, name, user="anna")
            old.__enter__()
            cases.append((f"{first} to {second}{', overlapping' if overlaps else ''}", name, watcher, old, second, overlaps))
        for label, name, watcher, *_ in cases:
            eventually(lambda: watcher.of("presence") and watcher.of("presence")[-1]["users"] == 1, label)
        since = {name: page(tracking, name)["members"][0]["since"] for _, name, *_ in cases}
        said = {name: len(watcher.of("presence")) for _, name, watcher, *_ in cases}
        for label, name, watcher, old, second, overlaps in cases:
            if not overlaps:
                old.__exit__(None, None, None)
            stack.enter_context(WAYS[second](tracking, name, user="anna"))
            if overlaps:
                old.__exit__(None, None, None)
        time.sleep(1 + POLL + GRACE + 2)
        for label, name, watcher, *_ in cases:
            later = watcher.of("presence")[said[name]:]
            assert all(event["joined"] == [] and event["left"] == [] and event["users"] == 1 for event in later), (label, later)
            assert counts(tracking, name) == (2, 1), label
            assert page(tracking, name)["members"][0]["since"] == since[name], label


def test_the_absence_of_a_client_that_polls_is_a_deadline(tracking, room):
    with Socket(tracking, query(room, presence="true")) as watcher:
        watcher.wait("presence")
        with Poller(tracking, room, user="anna") as poller:
            eventually(lambda: watcher.of("presence")[-1]["users"] == 1, "anna is there")
            time.sleep(3)
            assert poller.answers >= 3
        gone = time.monotonic()
        # Neither the end of its connection nor of its poll is a leave.
        while time.monotonic() < gone + POLL + GRACE - 1:
            assert watcher.of("presence")[-1]["users"] == 1
            time.sleep(0.1)
        eventually(lambda: watcher.of("presence")[-1]["left"] == ["anna"], "anna has left", seconds=6)
        assert [event.get("joined") for event in watcher.of("presence")] == [None, ["anna"], []]


def test_pages_while_members_come_and_go(tracking, room):
    with contextlib.ExitStack() as stack:
        staying = [f"s{number:03}" for number in range(40)]
        for user in staying:
            stack.enter_context(contextlib.closing(event_stream(tracking.port, f"/v1/subscribe?{query(room, user=user)}")))
        eventually(lambda: counts(tracking, room)[1] == 40, "all are there")
        seen, after, number = [], None, 0
        while True:
            found = page(tracking, room, limit=7, **({"after": after} if after else {}))
            seen += [member["user"] for member in found["members"]]
            event_stream(tracking.port, f"/v1/subscribe?{query(room, user=f's{number:03}x')}").close()
            number += 5
            if "next" not in found:
                break
            after = found["next"]
        assert [user for user in seen if not user.endswith("x")] == staying and seen == sorted(set(seen))


def raise_descriptors(count):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))


def test_three_thousand_on_one_channel_cost_one_small_message_each_a_second(start_server, room):
    raise_descriptors(8000)
    server = start_server(arguments=[*FLAGS, "--presence-grace", "1"], descriptors=20_000)
    count, seconds = 3000, 8
    poll = select.epoll()
    streams = {}

    def read(until):
        while time.monotonic() < until:
            for number, _ in poll.poll(0.05):
                with contextlib.suppress(BlockingIOError):
                    streams[number][1] += streams[number][0].recv(65536)

    try:
        for number in range(count):
            raw = socket.create_connection(("127.0.0.1", server.port), timeout=20)
            wanted = query(room, user=f"user{number}", presence="true", heartbeat=300, after="latest")
            raw.sendall(f"GET /v1/subscribe?{wanted} HTTP/1.1\r\n"
                        "Host: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
            raw.setblocking(False)
            streams[raw.fileno()] = [raw, b""]
            poll.register(raw, select.EPOLLIN)
            if number % 100 == 99:
                read(time.monotonic())
        deadline = time.monotonic() + 60
        while counts(server, room) != (count, count):
            assert time.monotonic() < deadline, counts(server, room)
            read(time.monotonic() + 0.5)
        read(time.monotonic() + 3)
        for stream in streams.values():
            stream[1] = b""
        before = figures(server)["tocsin_presence_events_total"]
        # Somebody comes or leaves all the time.
        others, began = [], time.monotonic()
        while time.monotonic() < began + seconds:
            others.append(event_stream(server.port, f"/v1/subscribe?{query(room, user=f'other{len(others)}')}"))
            if len(others) > 10:
                others[-10].close()
            read(time.monotonic() + 0.1)
        passed = time.monotonic() - began
        read(time.monotonic() + 2)
        sizes = [len(stream[1]) for stream in streams.values()]
        events = [stream[1].count(b'"type":"presence"') for stream in streams.values()]
        assert min(events) >= 3, "they are told"
        assert max(events) <= passed + 3, (max(events), passed)
        # Counts and no names: there are more than a hundred.
        assert not any(b"joined" in stream[1] for stream in streams.values())
        assert max(size / event for size, event in zip(sizes, events)) < 200
        assert figures(server)["tocsin_presence_events_total"] - before <= count * (passed + 3)
        for raw in others:
            raw.close()
        eventually(lambda: counts(server, room) == (count, count), "only they are left", seconds=15)
    finally:
        for raw, _ in streams.values():
            raw.close()


def test_with_several_processes_everybody_is_seen_from_each(start, room):
    server = start(processes=2, arguments=FLAGS)
    with contextlib.ExitStack() as stack:
        watchers = [stack.enter_context(Socket(server, query(room, presence="true"))) for _ in range(6)]
        streams = [stack.enter_context(Events(server, "1.1", query(room, user=f"u{number}"))) for number in range(8)]
        pollers = [stack.enter_context(Poller(server, room, presence="true", user=f"p{number}")) for number in range(3)]
        assert all(connections(server).values())
        names = sorted([f"u{number}" for number in range(8)] + [f"p{number}" for number in range(3)])
        for _ in range(12):
            # Each on a connection of its own, so both processes are asked.
            eventually(lambda: users(server, room) == names, "all are seen")
        for watcher in watchers + pollers:
            eventually(lambda: watcher.of("presence") and watcher.of("presence")[-1]["users"] == 11, "all are told")
        streams[0].source.response.close()
        streams[0].client.close()
        for watcher in watchers + pollers:
            eventually(lambda: any(event.get("left") == ["u0"] for event in watcher.of("presence")), "one has left", seconds=15)
        # Not a sum of what the processes say: each has the whole.
        eventually(lambda: figures(server).get('tocsin_presence_users{feed="chat"}') == 10, "the figures follow")
        assert figures(server)['tocsin_presence_channels{feed="chat"}'] == 1


def test_a_process_that_ends_takes_its_members_with_it(start, room):
    server = start(processes=2, arguments=FLAGS)
    with contextlib.ExitStack() as stack:
        streams = []
        for number in range(12):
            raw = event_stream(server.port, f"/v1/subscribe?{query(room, user=f'u{number:02}')}")
            stack.callback(raw.close)
            streams.append(raw)
        watchers = [stack.enter_context(Socket(server, query(room, presence="true"))) for _ in range(8)]
        eventually(lambda: counts(server, room) == (20, 12), "all are there")
        assert all(connections(server).values())
        os.kill(workers(server)[0], signal.SIGKILL)
        killed = time.monotonic()

        def ended(raw):
            raw.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    try:
                        if not raw.recv(65536):
                            return True
                    except ConnectionResetError:
                        return True
            return False

        time.sleep(0.5)
        lost = [number for number, raw in enumerate(streams) if ended(raw)]
        assert 0 < len(lost) < 12
        # One comes back in time, and has not left.
        back = stack.enter_context(Socket(server, query(room, user=f"u{lost[0]:02}")))
        left = [f"u{number:02}" for number in lost[1:]]
        there = sorted(f"u{number:02}" for number in range(12) if f"u{number:02}" not in left)
        if time.monotonic() - killed < GRACE - 0.5:
            assert counts(server, room)[1] == 12
        eventually(lambda: users(server, room) == there, "those who do not come back have left", seconds=GRACE + 10)
        told = [watcher for watcher in watchers if watcher.thread.is_alive()]
        for watcher in told:
            eventually(lambda: sorted(name for event in watcher.of("presence") for name in event.get("left", [])) == left, "who has left")
        assert back.hello
        # The one that takes its place begins with nobody.
        eventually(lambda: len(workers(server)) == 2, "another is started", seconds=20)
        eventually(lambda: all(value is not None for value in connections(server).values()) and len(connections(server)) == 2,
                   "both serve", seconds=20)
        others = [stack.enter_context(Socket(server, query(room, user=f"v{number}"))) for number in range(6)]
        names = sorted(there + [f"v{number}" for number in range(6)])
        for _ in range(8):
            eventually(lambda: users(server, room) == names, "with those who are new")
        assert len(others) == 6


def test_who_has_no_grant_learns_nothing(start_server, key, keys, channel):  # noqa: F811
    path, _ = keys
    viewer = run("key", "make", "--name", "viewer", "--presence", "chat.>", "--file", path)
    other = run("key", "make", "--name", "other", "--subscribe", "chat.>", "--file", path)
    server = start_server(arguments=["--token-key", str(key), "--api-keys", str(path), "--access", "chat=granted", *FLAGS])
    here, gone = (channel.replace("scores", "chat") + end for end in (".here", ".gone"))
    may = dict(subscribe=["chat.>"], presence=["chat.>"])
    with Events(server, "1.1", query(here, presence="true"), headers=bearer(**may)) as watcher:
        assert watcher.wait("presence")["users"] == 1
        assert_problem(ask(server, here), 401, "token-missing")
        for headers in (bearer(subscribe=["chat.>"]), bearer(presence=["chat.other"]), with_key(other)):
            answers = [ask(server, name, headers=headers) for name in (here, gone)]
            for answer in answers:
                problem = assert_problem(answer, 403, "not-granted")
                assert problem["rule"] == "presence grant"
            assert answers[0].text.replace("here", "gone") == answers[1].text
            assert_problem(ask(server, here, headers=headers, limit="x"), 403, "not-granted")
        assert [member["user"] for member in ask(server, here, headers=bearer(**may)).json()["members"]] == ["anna"]
        assert ask(server, here, headers=with_key(viewer)).json()["connections"] == 1
        # To be told of changes needs the grant as well as to ask.
        with client_of() as client:
            answer = client.get(f"{server.url}/v1/subscribe?{query(here, presence='true', session='new')}",
                                headers=bearer(subscribe=["chat.>"]))
            assert assert_problem(answer, 403, "not-granted")["rule"] == "presence grant"
        session = watcher.hello["session"]
        with client_of() as client:
            reply = client.post(f"{server.url}/v1/sessions/{session}", json={"id": 1, "type": "presence", "channel": here},
                                headers=bearer(subscribe=["chat.>"])).json()
            assert reply["error"]["code"] == "not_granted" and reply["error"]["rule"] == "presence grant"
            # A new token without it ends the stream.
            fresh = token(subscribe=["chat.>"])
            reply = client.post(f"{server.url}/v1/sessions/{session}", json={"id": 2, "type": "refresh", "token": fresh},
                                headers=bearer(**may)).json()
            assert reply["expires_in_ms"] > 0
        assert watcher.wait("going-away")["channels"] == [here]


def test_explain_says_who_may_see_who_is_there(key):  # noqa: F811
    flags = ["--token-key", str(key), "--access", "chat=granted"]
    assert run("explain", "presence", "--channel", "chat.a", "--token", token(presence=["chat.*"]), *flags).endswith("yes: presence chat.a")
    assert "no: presence chat.a" in run("explain", "presence", "--channel", "chat.a", "--token", token(), *flags, status=1)
    assert "presence" in run("serve", "--presence", "chat=everything", status=64)
    assert "no feed" in run("serve", "--presence", "a.b=count", status=64)


def test_limits_of_channels_users_and_names(start_server, room):
    server = start_server(arguments=[*FLAGS, "--loops", "1", "--presence-channels-max", "2", "--presence-users-max", "3",
                                     "--presence-members", "2"])
    with contextlib.ExitStack() as stack:
        watcher = stack.enter_context(Socket(server, query(f"{room}.a", user="u0", presence="true")))
        stack.enter_context(Socket(server, query(f"{room}.b")))
        eventually(lambda: counts(server, f"{room}.b") == (1, 0), "two channels")
        with Socket(server, query(f"{room}.c")):
            problem = assert_problem(ask(server, f"{room}.c"), 503, "presence-full")
            assert problem["configuration_key"] == "presence_channels_max (--presence-channels-max)"
            assert figures(server)["tocsin_presence_refused_total"] == 1
        stack.enter_context(Socket(server, query(f"{room}.a", user="u1")))
        assert watcher.wait("presence", 2)["joined"] == ["u1"]
        stack.enter_context(Socket(server, query(f"{room}.a", user="u2")))
        third = watcher.wait("presence", 3)
        assert third == {"type": "presence", "channel": f"{room}.a", "connections": 3, "users": 3}
        stack.enter_context(Socket(server, query(f"{room}.a", user="u3")))
        fourth = watcher.wait("presence", 4)
        assert fourth == {"type": "presence", "channel": f"{room}.a", "connections": 4, "users": 3, "users_at_least": True}
        found = page(server, f"{room}.a")
        assert found["users_at_least"] is True and [member["user"] for member in found["members"]] == ["u0", "u1", "u2"]


def test_the_client_on_the_command_line_prints_presence(tracking, room):
    import subprocess

    from support import binary
    line = [binary(), "subscribe", room, "--url", tracking.url, "--user", "anna", "--presence"]
    for transport in ("websocket", "sse", "long-poll"):
        ended = subprocess.Popen([*line, "--transport", transport], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            message = json.loads(ended.stdout.readline())
            assert (message["type"], message["channel"]) == ("presence", room)
        finally:
            ended.kill()
            ended.wait(10)


def test_figures(tracking, room, channel):
    with Socket(tracking, query([f"{room}.a", f"{room}.b", channel], user="anna", presence="true")) as watcher:
        watcher.wait("presence", 3)
        with Socket(tracking, query(f"{room}.a", user="bob")):
            eventually(lambda: figures(tracking).get('tocsin_presence_connections{feed="chat"}') == 3, "they are counted")
            found = figures(tracking)
            assert found['tocsin_presence_channels{feed="chat"}'] == 2 and found['tocsin_presence_users{feed="chat"}'] == 3
            assert found['tocsin_presence_channels{feed="scores"}'] == 1 and found['tocsin_presence_connections{feed="scores"}'] == 1
            watcher.wait("presence", 4)
            assert figures(tracking)["tocsin_presence_events_total"] == 4 and found["tocsin_presence_refused_total"] == 0


def test_without_presence_there_are_no_figures_of_it(server):
    assert not any("presence" in name for name in figures(server))
