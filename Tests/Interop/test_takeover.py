"""A server takes over from the one that runs: `tocsin serve --takeover`."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from support import ROOT, WAYS, assert_problem, async_http, binary, connect, eventually, http as client_of, publish, query, run
from test_presence import Socket, users
from test_processes import Reader
from test_sessions import Events


@pytest.fixture
def store(tmp_path):
    return tmp_path / "log.sqlite"


@pytest.fixture
def start(start_server, store):
    """Starts a server with the log; `takeover` takes the one over that runs, on the same ports."""
    def started(*arguments, takeover=False, drain=3, port=0, **options):
        line = ["--store", str(store), "--drain", str(drain), "--port", str(port), *arguments]
        return start_server(arguments=[*line, *(["--takeover"] if takeover else [])], **options)
    return started


def said(server, message):
    return next((entry for entry in list(server.log) if entry.get("message") == message), None)


def told(server, message, seconds=10):
    return eventually(lambda: said(server, message), f"the log says {message!r}", seconds=seconds)


class Kept:
    """A connection that is kept to the server that was reached when it was opened."""

    def __init__(self, server):
        self.raw = connect(server.port)

    def ask(self, method, path, body=None, **fields):
        connection = http.client.HTTPConnection("localhost")
        connection.sock = self.raw
        connection.request(method, path, body=body, headers=fields)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or "null")

    def close(self):
        self.raw.close()


class Probing(threading.Thread):
    """Opens one connection after the other, asks on each, and keeps what goes wrong."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.count, self.faults, self.is_running = port, 0, [], True

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.is_running = False
        self.join(15)

    def run(self):
        while self.is_running:
            try:
                with connect(self.port) as raw:
                    raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    if not raw.recv(100).startswith(b"HTTP/1.1 200"):
                        self.faults.append("no answer")
            except OSError as error:
                self.faults.append(repr(error))
            self.count += 1
            time.sleep(0.002)


class Publishing(threading.Thread):
    """Publishes numbers, one connection each, each when the one before it was answered."""

    def __init__(self, server, channel, most=None):
        super().__init__(daemon=True)
        self.server, self.channel, self.most = server, channel, most
        self.sequences, self.refusals, self.longest, self.is_running = [], [], 0.0, True

    def __enter__(self):
        self.start()
        eventually(lambda: len(self.sequences) > 5, "some are published")
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.is_running = False
        self.join(30)

    def run(self):
        number = 0
        with client_of(headers={"Connection": "close"}) as client:
            while self.is_running and number != self.most:
                number += 1
                began = time.monotonic()
                while True:
                    try:
                        answer = client.post(
                            f"{self.server.url}/v1/channels/{self.channel}", content=str(number),
                            headers={"Idempotency-Key": f"{self.channel}-{number}"})
                    except Exception as error:
                        self.refusals.append(repr(error))
                    else:
                        if answer.status_code in (200, 201):
                            self.sequences.append(answer.json()["sequence"])
                            break
                        self.refusals.append(f"{answer.status_code} {answer.text}")
                    time.sleep(0.02)
                self.longest = max(self.longest, time.monotonic() - began)
                time.sleep(0.01)


class Coming(Reader):
    """A reader that takes a poll's word to come later for the end of a connection."""

    async def read(self, last, per_connection=None):
        while self.promise.previous.get(self.channel, 0) < last:
            try:
                await super().read(last, per_connection)
            except AssertionError as error:
                if "going-away" not in str(error):
                    raise
                await asyncio.sleep(0.1)


def channel_of(channel):
    return channel.replace("scores", "plain")


def test_a_server_is_taken_over_without_a_lost_or_repeated_message_or_a_refused_connection(start, channel):
    channel = channel_of(channel)
    old = start(drain=4)
    publish(old, channel, 0)
    readers = [Coming(way, old, channel) for way in WAYS for _ in range(3)]

    async def everything():
        with Publishing(old, channel, most=300) as publishing, Probing(old.port) as probing:
            tasks = [asyncio.ensure_future(reader.read(301)) for reader in readers]
            await asyncio.sleep(1)
            new = await asyncio.to_thread(lambda: start(takeover=True, drain=4))
            assert (new.port, new.tls_port) == (old.port, old.tls_port)
            at = len(publishing.sequences)
            assert await asyncio.to_thread(old.process.wait, 20) == 0
            _, pending = await asyncio.wait(tasks, timeout=25)
            assert not pending, f"{len(pending)} readers wait; the new server: {new.process.poll()}\n{''.join(new.output[-60:])}"
        return new, publishing, probing, at

    new, publishing, probing, at = run(everything(), 55)
    assert probing.faults == [] and probing.count > 100
    assert publishing.refusals == [] and publishing.sequences == list(range(2, 302)) and 5 < at < 280
    for reader in readers:
        assert reader.promise.gaps == [] and reader.promise.count == 301
    held = told(old, "the log has changed hands")
    assert int(held["held_ms"]) < 5000
    assert told(new, "taking over")["pid"] == str(old.process.pid)
    told(new, "the server that was taken over has ended")
    told(old, "stopped")
    new.answers()


def test_the_one_that_goes_says_so_and_the_one_that_comes_is_ready(start):
    old = start(drain=6, canary=True)
    with client_of() as client:
        eventually(lambda: client.get(f"{old.url}/readyz").status_code == 200, "it is ready")
    kept = [Kept(old) for _ in range(3)]
    time.sleep(0.3)
    new = start(takeover=True, drain=6, canary=True)
    told(old, "another server has taken over: draining")
    # It begins to drain when those have been served who came at the last moment.
    time.sleep(1)
    status, problem = kept[0].ask("GET", "/readyz")
    assert status == 503 and problem["type"] == "/problems/going-away"
    with client_of() as client:
        for _ in range(20):
            assert client.get(f"{new.url}/readyz").status_code == 200
        metrics = client.get(f"{new.url}/metrics").text
        assert "tocsin_draining 0" in metrics
    # What comes to the one that goes is published all the same, and an acknowledgement is one everywhere.
    status, first = kept[1].ask("POST", "/v1/channels/alerts.a", "1", **{"Idempotency-Key": "k"})
    assert status == 201
    with client_of() as client:
        again = client.post(f"{new.url}/v1/channels/alerts.a", content="1", headers={"Idempotency-Key": "k"})
        assert again.status_code == 200 and again.json() == first
        inbox = f"{new.url}/v1/inbox?user=anna&channel=alerts.*"
        assert client.get(inbox).json()["unread"] == 1
        status, _ = kept[2].ask("POST", "/v1/acks", json.dumps({"user": "anna", "channel": "alerts.a", "through": 1}),
                                **{"Content-Type": "application/json"})
        assert status == 200
        assert client.get(inbox).json()["unread"] == 0
    for one in kept:
        one.close()
    assert old.process.wait(15) == 0
    new.answers()


def test_sessions_of_the_one_that_goes_are_found_through_the_one_that_comes(start, channel):
    old = start(drain=8)
    position = publish(old, channel, 0)["position"]
    holder = Kept(old)

    async def polls():
        async with async_http() as client:
            answer = (await client.get(f"{old.url}/v1/subscribe?{query(channel, after='latest', session='new', wait=0)}")).json()
        session = answer["session"]
        new = await asyncio.to_thread(lambda: start(takeover=True, drain=8))
        await asyncio.sleep(1)
        assert old.alive
        async with async_http() as client, async_http() as other:
            url = f"{new.url}/v1/subscribe?{query(channel, after=position, session=session, wait=20)}"
            poll = asyncio.ensure_future(client.get(url))
            await asyncio.sleep(0.4)
            assert not poll.done()
            # Its home is at the old one, where it is parked at the new one.
            said = await other.post(f"{new.url}/v1/sessions/{session}", json={"id": 1, "type": "subscribe", "channel": f"{channel}.x"})
            assert said.status_code == 200 and "position" in said.json(), said.text
            answer = (await asyncio.wait_for(poll, 3)).json()
            assert answer["messages"] == [] and answer["session"] == session
            await asyncio.to_thread(holder.close)
            await asyncio.to_thread(old.process.wait, 15)
            told(new, "the server that was taken over has ended")
            # Now it has no home, and the next poll gets another.
            gone = await other.post(f"{new.url}/v1/sessions/{session}", json={"id": 2, "type": "ping"})
            assert_problem(gone, 404, "unknown-session")
            url = f"{new.url}/v1/subscribe?{query(channel, after='latest', session=session, wait=0)}"
            answer = (await client.get(url)).json()
            assert answer["session"] != session
            said = await other.post(f"{new.url}/v1/sessions/{answer['session']}", json={"id": 3, "type": "ping"})
            assert said.status_code == 200 and said.json() == {"type": "reply", "id": 3}, said.text

    run(polls(), 50)


def test_one_takeover_after_the_other_and_none_while_one_is_under_way(start, channel):
    channel = channel_of(channel)
    servers = [start(drain=4)]
    with Publishing(servers[0], channel) as publishing:
        for _ in range(3):
            holder = Kept(servers[-1])
            servers.append(start(takeover=True, drain=4))
            if len(servers) == 2:
                with pytest.raises(AssertionError, match="whose clients are still going"):
                    start(takeover=True, drain=4)
            holder.close()
            assert servers[-2].process.wait(15) == 0
            told(servers[-1], "the server that was taken over has ended")
    assert publishing.refusals == [] and publishing.sequences == list(range(1, len(publishing.sequences) + 1))
    with client_of() as client:
        history = client.get(f"{servers[-1].url}/v1/channels/{channel}/history", params={"limit": 1000}).json()["messages"]
    assert [message["sequence"] for message in history] == publishing.sequences[-len(history):]
    assert servers[-1].stop() == 0


def start_and_kill(store, port, seconds, drain=5):
    """A server that takes over and is killed after so long; answers what it said."""
    line = [binary(), "serve", "--host", "127.0.0.1", "--port", str(port), "--loops", "2", "--no-canary", "--store", str(store),
            "--drain", str(drain), "--takeover"]
    process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(seconds)
    process.kill()
    return process.communicate()[1]


def test_one_that_is_killed_while_it_takes_over_leaves_the_other_one_as_it_was(start, store, channel):
    channel = channel_of(channel)
    old = start(certificate=None)
    far = set()
    with Publishing(old, channel) as publishing, Probing(old.port) as probing:
        for step in range(14):
            output = start_and_kill(store, old.port, 0.02 + 0.03 * step)
            far.add("listening" in output)
            assert old.alive
            count = len(publishing.sequences)
            eventually(lambda: len(publishing.sequences) > count + 3, "publishing goes on", seconds=20)
    # A connection that the one that was killed had accepted is reset, and what it was asked may be unanswered; nothing else.
    assert publishing.sequences == list(range(1, len(publishing.sequences) + 1))
    assert all("503" not in refusal or "store-failed" in refusal for refusal in publishing.refusals), publishing.refusals
    assert len(probing.faults) < 40, probing.faults
    new = start(takeover=True, certificate=None)
    assert old.process.wait(20) == 0
    with client_of() as client:
        info = client.get(f"{new.url}/v1/channels/{channel}").json()
    assert info["sequence"] == publishing.sequences[-1]


def test_when_the_new_one_is_killed_during_the_drain_the_old_one_serves_again(start, store, channel):
    channel = channel_of(channel)
    old = start(drain=20)
    holder = Kept(old)
    number = publish(old, channel, "before")["sequence"]
    new = start(takeover=True, drain=20)
    told(old, "another server has taken over: draining")
    for text in ("one", "two"):
        number = publish(new, channel, text)["sequence"]
    new.kill()
    told(old, "the other server has ended: this one serves again")
    assert publish(old, channel, "after")["sequence"] == number + 1
    with Events(old, "1.1", query(channel, after="earliest")) as events:
        assert [events.wait("notification", count)["data"] for count in range(1, 5)] == ["before", "one", "two", "after"]
    with client_of() as client:
        assert client.get(f"{old.url}/readyz").status_code == 200
    # And once more, to the end.
    last = start(takeover=True, drain=1)
    holder.close()
    assert old.process.wait(15) == 0
    assert publish(last, channel, "last")["sequence"] == number + 2


def test_who_is_on_a_channel_is_known_to_the_one_that_has_the_log(start, channel):
    room = channel.replace("scores", "chat")
    presence = ["--presence", "chat=users", "--presence-grace", "1"]
    old = start(*presence, drain=30)
    with Socket(old, query(room, user="anna", presence="true")) as anna:
        eventually(lambda: users(old, room) == ["anna"], "she is there")
        new = start(*presence, takeover=True, drain=30)
        eventually(lambda: users(new, room) == ["anna"], "the new one knows who is at the old one")
        with Socket(new, query(room, user="bert", presence="true")) as bert:
            eventually(lambda: ["bert"] in [event.get("joined") for event in anna.of("presence")], "she is told who comes to the new one")
            eventually(lambda: bert.of("presence")[-1:] and bert.of("presence")[-1]["users"] == 2, "he is told that there are two")
            assert users(new, room) == ["anna", "bert"]
    told(old, "another server has taken over: draining")
    new.kill()
    told(old, "the other server has ended: this one serves again")
    with Socket(old, query(room, user="carl")):
        eventually(lambda: users(old, room) == ["carl"], "the old one knows it by itself again")


def test_when_the_old_one_is_killed_during_the_drain_the_new_one_goes_on(start, channel):
    channel = channel_of(channel)
    old = start(drain=20)
    holder = Kept(old)
    publish(old, channel, 1)
    new = start(takeover=True, drain=20)
    told(old, "another server has taken over: draining")
    assert old.alive
    status, _ = holder.ask("POST", f"/v1/channels/{channel}", "2")
    assert status == 201
    old.kill()
    told(new, "the server that was taken over has ended")
    assert publish(new, channel, 3)["sequence"] == 3
    assert new.stop() == 0


def test_a_new_one_that_is_told_to_end_during_the_drain_takes_the_old_one_along(start):
    old = start(drain=4)
    holder = Kept(old)
    new = start(takeover=True, drain=4)
    told(old, "another server has taken over: draining")
    assert new.stop() == 0
    told(old, "the server that takes over goes again")
    assert old.process.wait(15) == 0
    assert said(old, "the other server has ended: this one serves again") is None
    holder.close()


def test_a_new_one_that_cannot_listen_leaves_the_old_one_as_it_was(start, channel):
    old = start()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(AssertionError, match="Address already in use"):
            start(takeover=True, port=taken.getsockname()[1])
    assert publish(old, channel, 1)["sequence"] == 1
    eventually(lambda: said(old, "the log is this process's own again"), "the log is back")
    old.answers()


def test_without_a_server_to_take_over_it_starts_as_usual(start, store):
    server = start(takeover=True)
    assert told(server, "there is no server to take over: this one starts as usual")
    server.answers()
    assert Path(f"{store}.takeover").stat().st_mode & 0o777 == 0o600
    assert server.stop() == 0
    assert not Path(f"{store}.takeover").exists()
    # One that was killed has left its socket behind.
    killed = start()
    killed.kill()
    assert Path(f"{store}.takeover").exists()
    start(takeover=True).answers()


def test_a_second_server_without_the_flag_is_refused_as_before(start):
    server = start()
    with pytest.raises(AssertionError, match="is open in another process"):
        start()
    server.answers()


@pytest.mark.parametrize("arguments, why", [(["--processes", "2"], "one process"), (["--store", ":memory:"], "outlives its process")])
def test_where_nothing_can_be_handed_over_that_is_said(arguments, why):
    done = subprocess.run([binary(), "serve", "--takeover", "--port", "0", *arguments], capture_output=True, text=True, timeout=20)
    assert done.returncode != 0 and why in done.stderr, done.stderr


# What the two say to each other, in bytes.

def varint(number):
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7f | 0x80])
        number >>= 7
    return out + bytes([number])


def text(word):
    return varint(len(word)) + word.encode()


def message(kind, body=b""):
    return (1 + len(body)).to_bytes(4, "little") + bytes([kind]) + body


def hello(form, schema=1):
    return message(1, text("tocsin takeover") + varint(form) + varint(schema) + text("0.0.1") + varint(1000))


def test_servers_of_two_versions_that_do_not_fit_say_so_and_the_old_one_goes_on(start, store, channel):
    old = start()
    for bytes_ in (hello(99), hello(1, schema=99)):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(5)
            raw.connect(f"{store}.takeover")
            raw.sendall(bytes_)
            answer = raw.recv(4096)
            assert answer[4] == 2 and b"(version " in answer
            assert raw.recv(100) == b""
    told(old, "a takeover was refused")
    assert publish(old, channel, 1)["sequence"] == 1
    assert old.stop() == 0
    # The other way round: one that runs and is of another version.
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{store}.takeover")
        listener.listen()
        heard = []

        def answer_one():
            with contextlib.suppress(OSError):
                raw, _ = listener.accept()
                heard.append(raw.recv(4096))
                raw.sendall(hello(99))
                heard.append(raw.recv(4096))
                raw.close()

        thread = threading.Thread(target=answer_one, daemon=True)
        thread.start()
        with pytest.raises(AssertionError, match="cannot be taken over"):
            start(takeover=True)
        thread.join(5)
    assert heard[0][4] == 1 and heard[1][4] == 2


def test_a_takeover_under_load_is_noticed_by_nobody_but_for_the_slots():
    """The short form of `make takeover`."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "Tests" / "Takeover" / "takeover.py"), "--binary", binary(), "--clients", "300", "--over", "6",
         "--connects", "150"],
        capture_output=True, text=True, timeout=55, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    figures = json.loads(done.stdout)
    assert figures["returns"]["all"]["count"] >= 300 and figures["counts"]["lost"] == figures["counts"]["repeated"] == 0
