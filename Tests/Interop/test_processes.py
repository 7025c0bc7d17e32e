"""Several processes share a port and are fed by one log: `tocsin serve --processes`."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import ssl
import time
from pathlib import Path

import pytest

from support import WAYS, Promise, assert_problem, async_http, eventually, following, http, publish, query, run, trusting_context
from test_sessions import Events
from test_websockets import receive, websocket

PROCESSES = 3


@pytest.fixture
def start(start_server):
    """Starts a server of several processes."""
    def started(processes=PROCESSES, arguments=(), **options):
        return start_server(arguments=["--processes", str(processes), "--loops", "1", "--drain", "1", *arguments], **options)
    return started


def workers(server):
    """The processes that serve: children of the main process."""
    found = []
    for task in Path(f"/proc/{server.process.pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += [int(word) for word in (task / "children").read_text().split()]
    return sorted(found)


def is_running(pid):
    """Whether there is such a process, and it has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def figures(server):
    """`/metrics`, by name and labels."""
    with http() as client:
        text = client.get(f"{server.url}/metrics").text
    return {key: float(value) for key, value in re.findall(r"^([a-z]\S*) (\S+)$", text, re.MULTILINE)}


def connections(server):
    """Connections of each process that answers."""
    name = "tocsin_process_connections{process="
    return {int(key.removeprefix(name).strip('"}')): value for key, value in figures(server).items() if key.startswith(name)}


class Reader:
    """A client that goes on where it was when its connection ends, and checks what it gets."""

    def __init__(self, way, server, channel, name="reader"):
        self.way, self.server, self.channel, self.name = way, server, channel, name
        self.promise = Promise()
        self.position = "earliest"
        self.reconnects = 0

    async def read(self, last, per_connection=None):
        """Until the message of this number has come; with a new connection after so many messages."""
        while self.promise.previous.get(self.channel, 0) < last:
            port = self.server.tls_port if WAYS[self.way][2] else self.server.port
            count = 0
            with contextlib.suppress(OSError, ConnectionError, EOFError, *NETWORK_FAULTS):
                async with following(self.way, port, self.channel, self.position) as messages:
                    async for message in messages:
                        self.promise.see(message)
                        assert message["type"] != "gap", message
                        self.position = message["position"]
                        count += 1
                        if self.promise.previous[self.channel] >= last or count == per_connection:
                            break
            if self.promise.previous.get(self.channel, 0) < last:
                if count != per_connection:
                    self.reconnects += 1
                await asyncio.sleep(0.05)
        assert self.promise.previous[self.channel] == last and self.promise.skipped == 0 and self.promise.count == last


def network_faults():
    import h11
    import httpx
    import websockets.exceptions
    return httpx.TransportError, websockets.exceptions.WebSocketException, h11.RemoteProtocolError


NETWORK_FAULTS = network_faults()


async def publish_paced(server, channel, numbers, seconds=0.0):
    """Publishes numbers, each when the one before it was answered; repeats under the same key what was not answered."""
    for number in numbers:
        while True:
            with contextlib.suppress(*NETWORK_FAULTS):
                async with async_http() as client:
                    answer = await client.post(
                        f"{server.url}/v1/channels/{channel}", content=str(number), headers={"Idempotency-Key": f"{channel}-{number}"})
                if answer.status_code in (200, 201):
                    assert answer.json()["sequence"] == number
                    break
            await asyncio.sleep(0.05)
        await asyncio.sleep(seconds)


def test_what_is_published_through_one_process_reaches_the_subscribers_of_all_once_and_in_order(start, channel):
    server = start()
    assert len(workers(server)) == PROCESSES
    channel = channel.replace("scores", "plain")
    publish(server, channel, 1)
    readers = [Reader(way, server, channel) for way in WAYS for _ in range(5)]

    async def all_read():
        tasks = [asyncio.ensure_future(reader.read(60)) for reader in readers]
        while True:
            spread = await asyncio.to_thread(connections, server)
            subscribers = await asyncio.to_thread(figures, server)
            if sum(value for key, value in subscribers.items() if key.startswith("tocsin_subscribers")) >= len(readers):
                break
            await asyncio.sleep(0.05)
        assert set(spread) == set(range(PROCESSES)) and all(spread.values()), spread
        await publish_paced(server, channel, range(2, 61))
        await asyncio.gather(*tasks)

    run(all_read(), 60)
    assert sum(reader.reconnects for reader in readers) == 0
    found = figures(server)
    assert found["tocsin_published_total"] == 60 and found["tocsin_log_head"] == 60
    assert found["tocsin_process_restarts_total"] == 0


@pytest.mark.parametrize("kind", ["scores", "dashboards", "alerts", "plain"])
def test_a_client_goes_on_at_another_process_where_it_was(start, channel, kind):
    server = start()
    channel = channel.replace("scores", kind)
    publish(server, channel, {"n": 1})
    ways = ["websocket", "sse", "sse-http2", "long-poll"]
    readers = [Reader(way, server, channel) for way in ways]

    async def all_read():
        work = asyncio.gather(*(reader.read(100, per_connection=7) for reader in readers))
        await publish_paced(server, channel, range(2, 101), seconds=0.01)
        await work

    if kind == "plain":
        return run(all_read(), 60)
    # Feeds with a kind may leave messages out on the way, and say so: a state at the end is that of the last message.
    run(publish_paced(server, channel, range(2, 41)), 60)
    for _ in range(3 * PROCESSES):
        with http() as client:
            state = client.get(f"{server.url}/v1/channels/{channel}/snapshot")
            info = client.get(f"{server.url}/v1/channels/{channel}").json()
        assert info["sequence"] == 40
        if kind == "alerts":
            assert_problem(state, 404, "not-found")
        else:
            assert state.json()["sequence"] == 40
            assert state.json()["data"] == (40 if kind == "scores" else {"": 40})


def test_changes_of_a_state_are_the_same_in_every_process(start, channel):
    server = start()
    publish(server, channel, {"a": 0})
    for number in range(1, 30):
        publish(server, channel, {f"k{number % 5}": number, "a": None if number % 3 else number}, change="merge")
    with http() as client:
        states = {client.get(f"{server.url}/v1/channels/{channel}/snapshot", headers={"Connection": "close"}).text for _ in range(20)}
    assert len(states) == 1, states
    assert json.loads(states.pop())["sequence"] == 30


def test_who_was_told_that_a_message_is_stored_finds_it_through_every_process(start, channel):
    server = start()
    for number in range(1, 61):
        assert publish(server, channel, number)["sequence"] == number
        with http() as client:
            assert client.get(f"{server.url}/v1/channels/{channel}").json()["sequence"] == number


def test_commands_for_a_session_work_from_every_process(start, channel):
    server = start()
    other = channel + ".x"
    with Events(server, "1.1", query(channel, after="latest")) as events, \
            websocket(server, query(channel, after="latest")) as socket_:
        sessions = [events.hello["session"], receive(socket_, "hello")["session"]]
        for session in sessions:
            for number in range(4 * PROCESSES):
                with http() as client:
                    answer = client.post(f"{server.url}/v1/sessions/{session}", json=[{"id": number, "type": "ping"}])
                    assert answer.status_code == 200 and answer.json() == [{"type": "reply", "id": number}], answer.text
            with http() as client:
                answer = client.post(
                    f"{server.url}/v1/sessions/{session}", json={"id": 1, "type": "subscribe", "channel": other, "after": "latest"})
                assert "position" in answer.json(), answer.text
        publish(server, other, 7)
        assert events.wait("notification")["channel"] == other
        assert receive(socket_, "notification")["channel"] == other
        with http() as client:
            unknown = sessions[0][:30] + "00" + sessions[0][32:]
            for _ in range(2 * PROCESSES):
                assert_problem(client.post(f"{server.url}/v1/sessions/{unknown}", json={"type": "ping"}), 404, "unknown-session")
            none = sessions[0][:32] + "ff000001"
            assert_problem(client.post(f"{server.url}/v1/sessions/{none}", json={"type": "ping"}), 404, "unknown-session")


def test_polls_of_a_session_may_come_to_any_process_and_are_ended_from_any(start, channel):
    server = start()

    async def polls():
        async with async_http() as client:
            answer = (await client.get(f"{server.url}/v1/subscribe?{query(channel, after='latest', session='new', wait=0)}")).json()
        session, position = answer["session"], answer["position"]
        for number in range(3 * PROCESSES):
            async with async_http() as client, async_http() as other:
                poll = asyncio.ensure_future(
                    client.get(f"{server.url}/v1/subscribe?{query(channel, after=position, session=session, wait=20)}"))
                await asyncio.sleep(0.2)
                assert not poll.done()
                said = await other.post(
                    f"{server.url}/v1/sessions/{session}", json={"id": number, "type": "subscribe", "channel": f"{channel}.x"})
                assert said.status_code == 200 and "position" in said.json(), said.text
                answer = (await asyncio.wait_for(poll, 3)).json()
                assert answer["messages"] == [] and answer["session"] == session
                position = answer["position"]

    run(polls())


def test_a_worker_that_is_killed_under_load_is_started_anew_and_nothing_is_lost_or_repeated(start, channel):
    server = start()
    channel = channel.replace("scores", "plain")
    publish(server, channel, 1)
    ways = ["websocket", "sse", "sse-http2", "long-poll"]
    readers = [Reader(way, server, channel, f"{way} {number}") for way in ways for number in range(6)]
    before = workers(server)

    async def all_read():
        tasks = [asyncio.ensure_future(reader.read(200)) for reader in readers]
        work = asyncio.ensure_future(publish_paced(server, channel, range(2, 201), seconds=0.01))
        await asyncio.sleep(1)
        held = await asyncio.to_thread(connections, server)
        os.kill(before[1], signal.SIGKILL)
        await work
        await asyncio.gather(*tasks)
        return held

    held = run(all_read(), 60)
    # The workers are started in the order of their places.
    lost = sum(reader.reconnects for reader in readers)
    assert 0 < lost <= held[1] + 1, (lost, held)
    eventually(lambda: len(workers(server)) == PROCESSES, "three workers run again")
    assert before[1] not in workers(server) and set(before) - {before[1]} <= set(workers(server))
    eventually(lambda: figures(server).get('tocsin_process_up{process="1"}') == 1, "the new one answers")
    assert figures(server)["tocsin_process_restarts_total"] == 1


def test_a_worker_that_hangs_is_ended_and_started_anew(start):
    server = start(processes=2)
    hung = workers(server)[0]
    os.kill(hung, signal.SIGSTOP)
    eventually(lambda: len(workers(server)) == 2 and hung not in workers(server), "another one runs in its place", seconds=40)
    eventually(lambda: set(connections(server)) == {0, 1}, "both answer", seconds=20)


def test_when_the_main_process_is_killed_all_go_and_a_restart_has_everything(start, channel, tmp_path):
    store = ["--store", str(tmp_path / "log.sqlite")]
    server = start(arguments=store)
    for number in range(1, 51):
        publish(server, channel, number)
    with Events(server, "1.1", query(channel, after="latest")) as events:
        pids = workers(server)
        server.process.kill()
        eventually(lambda: not any(is_running(pid) for pid in pids), "no worker is left", seconds=10)
        events.wait("going-away")
    again = start(arguments=store)
    with http() as client:
        history = client.get(f"{again.url}/v1/channels/{channel}/history", params={"limit": 1000}).json()
    assert [message["sequence"] for message in history["messages"]] == list(range(1, 51))


def test_sigterm_lets_the_clients_of_all_processes_go(start, channel):
    server = start()
    pids = workers(server)
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(Events(server, "1.1", query(channel, after="latest"))) for _ in range(12)]
        assert all(connections(server).values())
        server.terminate()
        assert server.process.wait(15) == 0
        for stream in streams:
            stream.wait("going-away")
    assert not any(is_running(pid) for pid in pids)


def test_a_log_in_memory_leaves_nothing_behind(start, channel):
    def folders():
        return {path for path in Path("/dev/shm").glob("tocsin-*")}

    before = folders()
    server = start()
    publish(server, channel, 1)
    made = folders() - before
    assert len(made) == 1
    assert server.stop() == 0
    assert not made & folders()
    server = start()
    made = folders() - before
    pids = workers(server)
    server.process.kill()
    eventually(lambda: not any(is_running(pid) for pid in pids), "no worker is left", seconds=10)
    assert not made & folders()


def test_more_connections_are_held_than_one_process_may_have(start, channel):
    limit = 160
    server = start(descriptors=limit)
    held = []
    try:
        head = f"GET /v1/subscribe?{query(channel, after='latest')} HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n".encode()
        for _ in range(limit + 40):
            raw = socket.create_connection(("127.0.0.1", server.port), timeout=5)
            raw.sendall(head)
            assert raw.recv(12) == b"HTTP/1.1 200"
            held.append(raw)
        assert figures(server)['tocsin_subscribers{transport="sse"}'] == limit + 40
        publish(server, channel, "here")
        for raw in held:
            data = b""
            while b'"here"' not in data:
                data += raw.recv(65536)
    finally:
        for raw in held:
            raw.close()


def test_a_session_of_tls_is_resumed_at_any_process(start):
    server = start()
    context = trusting_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def connect(session):
        with socket.create_connection(("127.0.0.1", server.tls_port), timeout=5) as raw, \
                context.wrap_socket(raw, server_hostname="localhost", session=session) as secure:
            secure.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert secure.recv(12) == b"HTTP/1.1 200"
            return secure.session, secure.session_reused

    session, reused = connect(None)
    assert not reused
    assert all(connect(session)[1] for _ in range(4 * PROCESSES))


def test_a_second_server_does_not_take_a_part_of_the_port(start, start_server, tmp_path):
    server = start()
    with pytest.raises(AssertionError, match="Address already in use"):
        start_server(arguments=["--processes", "2", "--port", str(server.port)])
    server.answers()


def test_sighup_is_passed_on_to_all(start, certificate):
    server = start()
    server.hang_up()
    eventually(lambda: len({entry.get("process") for entry in list(server.log)
                            if entry.get("message") == "certificates read again"}) == PROCESSES, "all read them again")
    server.answers()
