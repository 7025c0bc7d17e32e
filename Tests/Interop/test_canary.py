"""The delivery canary: readiness goes by messages that really come back."""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import httpx
import pytest
import websockets.sync.client

from support import assert_problem, binary, eventually, http, publish, query
from test_operations import TRANSPORTS, figures

RED_SECONDS = 3.0
# The threads of the loops come first, then those of the log: of these the first one writes.
WRITER = "NIO-ELT-2-#1"
PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
WALL = 0x40000000


def threads(pid, name):
    """The threads of a process that have this name."""
    tasks = Path(f"/proc/{pid}/task")
    return sorted(int(task.name) for task in tasks.iterdir() if (task / "comm").read_text().strip() == name)


@contextlib.contextmanager
def standing_still(thread):
    """Stops one thread of a process; the others run on."""
    libc = ctypes.CDLL(None, use_errno=True)

    def ptrace(request):
        if libc.ptrace(ctypes.c_long(request), ctypes.c_long(thread), ctypes.c_void_p(0), ctypes.c_void_p(0)) != 0:
            raise OSError(ctypes.get_errno(), f"ptrace {request:#x} of {thread}")

    ptrace(PTRACE_SEIZE)
    ptrace(PTRACE_INTERRUPT)
    os.waitpid(thread, WALL)
    try:
        yield
    finally:
        ptrace(PTRACE_DETACH)


def readiness(server, client=None):
    """What /readyz says, over a connection of its own or that of a client; nothing if the loop that has it stands still."""
    with contextlib.suppress(httpx.TransportError), contextlib.ExitStack() as stack:
        client = client or stack.enter_context(http(timeout=0.5))
        return client.get(f"{server.url}/readyz")
    return None


def is_red(server, words="", client=None):
    answer = readiness(server, client)
    if answer is None or answer.status_code != 503:
        return None
    body = assert_problem(answer, 503, "delivery-stopped")
    return body["detail"] if words in body["detail"] else None


def is_green(server):
    answer = readiness(server)
    return answer is not None and answer.status_code == 200


def all_back(server):
    found = figures(server)
    return all(found[f'tocsin_canary_latency_seconds{{transport="{transport}"}}'] > 0 for transport in TRANSPORTS) and found


def test_the_canary_comes_back_over_each_transport(start_server):
    server = start_server(canary=True)
    assert is_green(server), "a server that has just begun is ready"
    found = eventually(lambda: all_back(server), "it has come back", seconds=RED_SECONDS)
    for transport in TRANSPORTS:
        assert found[f'tocsin_canary_failed{{transport="{transport}"}}'] == 0
        assert found[f'tocsin_canary_age_seconds{{transport="{transport}"}}'] < RED_SECONDS
    for _ in range(40):
        assert is_green(server)
        time.sleep(0.1)


@pytest.mark.parametrize("store", ["memory", "file"])
def test_readiness_goes_red_when_the_store_stops_and_green_when_it_goes_on(start_server, tmp_path, store):
    server = start_server(canary=True, arguments=() if store == "memory" else ("--store", str(tmp_path / "log.sqlite")))
    eventually(lambda: all_back(server), "the canary has come back")
    (writer,) = threads(server.process.pid, WRITER)
    with standing_still(writer):
        eventually(
            lambda: (detail := is_red(server)) and all(transport in detail for transport in TRANSPORTS), "all are red", seconds=RED_SECONDS)
        found = figures(server)
        assert all(found[f'tocsin_canary_failed{{transport="{transport}"}}'] == 1 for transport in TRANSPORTS)
        time.sleep(3)
        assert is_red(server)
    eventually(lambda: is_green(server), "it is green again")
    publish(server, "alerts.after", 1)


def test_readiness_goes_red_when_a_loop_hangs(start_server):
    server = start_server(canary=True)
    eventually(lambda: all_back(server), "the canary has come back")
    for number in (0, 1):
        with contextlib.ExitStack() as stack:
            # They are spread over the loops. Whoever is new may be given to the loop that hangs.
            clients = [stack.enter_context(http(timeout=0.5)) for _ in range(6)]
            for client in clients:
                assert client.get(f"{server.url}/healthz").status_code == 200
            (loop,) = threads(server.process.pid, f"NIO-ELT-1-#{number + 1}")
            with standing_still(loop):
                served = [client for client in clients if readiness(server, client) is not None]
                assert served, "the other loop answers"
                eventually(lambda: is_red(server, f"event loop {number} ", served[0]), f"red for loop {number}", seconds=RED_SECONDS)
            eventually(lambda: is_green(server), "it is green again")


def test_the_canary_comes_back_when_its_connections_are_cut(start_server):
    server = start_server(canary=True)
    eventually(lambda: all_back(server), "the canary has come back")
    pid = server.process.pid
    answer = subprocess.run(
        ["ss", "-tnpH", "state", "established", f"( sport = :{server.port} )"], capture_output=True, text=True, timeout=10, check=True)
    own = [line.split()[3] for line in answer.stdout.splitlines() if f"pid={pid}," in line]
    assert len(own) >= 3, answer.stdout
    killed = 0
    for peer in own:
        port = peer.rsplit(":", 1)[1]
        killed += f":{port} " in subprocess.run(["ss", "-KH", "sport", "=", f":{port}"], capture_output=True, text=True, timeout=10).stdout
    assert killed == len(own)
    time.sleep(1)
    for _ in range(20):
        assert is_green(server)
        time.sleep(0.1)


def test_nobody_else_sees_the_canary(start_server):
    server = start_server(canary=True)
    eventually(lambda: all_back(server), "the canary has come back")
    with http() as client:
        url = f"{server.url}/v1/subscribe"
        assert_problem(client.get(f"{url}?channel=_canary.0"), 400, "bad-channel")
        assert_problem(client.get(f"{url}?channel=_canary.>"), 400, "bad-channel")
        assert_problem(client.get(f"{url}?canary=0123456789abcdef0123456789abcdef"), 400, "bad-parameter")
        assert_problem(client.post(f"{server.url}/v1/channels/_canary.0", content="1"), 403, "reserved-channel")
        answer = client.post(f"{server.url}/v1/publish", json=[{"channel": "_canary.0", "data": 1}])
        assert answer.status_code == 400 and answer.json()["results"][0]["error"]["type"] == "/problems/reserved-channel"
        for path in ("", "/history", "/snapshot"):
            assert_problem(client.get(f"{server.url}/v1/channels/_canary.0{path}"), 404, "not-found")
        for channels in (">", "*.*", "*.0"):
            answer = client.get(f"{url}?{query(channels, after='latest')}", headers={"Prefer": "wait=2"})
            assert answer.json()["messages"] == [], answer.text
    with websockets.sync.client.connect(f"ws://127.0.0.1:{server.port}/v1/subscribe?channel=*.0", proxy=None) as socket_:
        socket_.send(json.dumps({"id": 1, "type": "subscribe", "channel": "_canary.0"}))
        with contextlib.suppress(TimeoutError):
            deadline = time.monotonic() + 2
            while (left := deadline - time.monotonic()) > 0:
                message = json.loads(socket_.recv(left))
                assert message["type"] in ("hello", "reply"), message
                assert message["type"] == "hello" or message["error"]["code"] == "bad_channel"


def test_the_canary_counts_nowhere_and_nothing_grows(start_server, tmp_path):
    store = tmp_path / "log.sqlite"
    server = start_server(canary=True, arguments=("--store", str(store)))
    eventually(lambda: all_back(server), "the canary has come back")
    # The log has its few messages, and the file the pages for them.
    time.sleep(6)
    before = figures(server)
    time.sleep(8)
    after = figures(server)
    own = 'tocsin_connection_states{state="request",tls="false"}'
    assert after["tocsin_log_head"] >= before["tocsin_log_head"] + 6
    assert after["tocsin_connections"] == 1 and after[own] == 1
    assert sum(value for name, value in after.items() if name.startswith("tocsin_connection_states")) == 1
    for name, value in after.items():
        counted = ("subscribers{", "deliveries_total{", "published", "channels", "patterns", "log_tail", "feed_", "publish_to_write", "lag")
        if any(part in name for part in counted) and name != "tocsin_channels_max":
            assert value == 0, (name, value)
    assert after["tocsin_requests_total"] - before["tocsin_requests_total"] == 1
    assert after["tocsin_store_file_bytes"] == before["tocsin_store_file_bytes"]
    assert server.stop() == 0
    answer = subprocess.run([binary(), "log", "export", "--store", str(store)], capture_output=True, text=True, timeout=30, check=True)
    assert 0 < sum("_canary.0" in line for line in answer.stdout.splitlines()) <= 8, answer.stdout


def test_a_server_without_the_canary_goes_by_its_log(start_server):
    server = start_server()
    assert not [name for name in figures(server) if "canary" in name]
    time.sleep(2)
    assert figures(server)["tocsin_log_head"] == 0
    (writer,) = threads(server.process.pid, WRITER)
    with standing_still(writer):
        time.sleep(4)
        assert is_green(server)


def test_each_of_several_processes_has_its_canary(start_server):
    server = start_server(canary=True, arguments=("--processes", "3", "--loops", "1"))
    found = eventually(lambda: all_back(server), "it has come back everywhere")
    assert all(found[f'tocsin_process_up{{process="{number}"}}'] == 1 for number in range(3))
    for _ in range(30):
        assert is_green(server)
        time.sleep(0.1)
    # The kernel chooses the worker that a connection goes to: many of them ask all.
    server.process.send_signal(signal.SIGSTOP)
    try:
        eventually(lambda: is_red(server), "the first worker is red", seconds=RED_SECONDS)
        time.sleep(0.5)
        assert all(is_red(server) for _ in range(20)), "a worker takes a log that stands still for a good one"
    finally:
        server.process.send_signal(signal.SIGCONT)
    eventually(lambda: all(is_green(server) for _ in range(20)), "all are green again")


def test_tokens_do_not_concern_the_canary(start_server, tmp_path):
    (tmp_path / "secret").write_text("0123456789abcdef0123456789abcdef")
    # Nor does what is granted, nor a hook that does not answer.
    server = start_server(canary=True, arguments=(
        "--token-key", str(tmp_path / "secret"), "--access", "*=granted", "--hook", "http://127.0.0.1:9/"))
    eventually(lambda: all_back(server), "the canary has come back")
    assert is_green(server)


def test_while_it_drains_the_server_is_not_ready_and_ends_as_soon_as_before(start_server):
    server = start_server(canary=True, arguments=("--drain", "20"))
    eventually(lambda: all_back(server), "the canary has come back")
    server.terminate()
    eventually(lambda: not server.alive, "nobody is there who has to be waited for", seconds=10)
    assert server.stop() == 0
