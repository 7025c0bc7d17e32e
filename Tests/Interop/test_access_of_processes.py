"""What is taken back, tickets, keys and figures with several processes: the same whichever of them is asked."""

import contextlib
import http.client
import json
import os
import signal
import time

import pytest

from support import eventually, http as client_of
from test_api_keys import keys, revoke, with_key  # noqa: F401
from test_processes import connections, start, workers  # noqa: F401
from test_sessions import Events, listed
from test_tokens import bearer, key, token  # noqa: F401

PROCESSES = 3


@pytest.fixture
def guarded(start, key, keys):  # noqa: F811
    return start(arguments=["--token-key", str(key), "--api-keys", str(keys[0])])


class Line:
    """One connection, which goes to one of the processes and stays there."""

    def __init__(self, server):
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=15)

    def get(self, path, headers=None):
        self.connection.request("GET", path, headers=headers or {})
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def post(self, path, body=None, headers=None):
        self.connection.request("POST", path, body=body, headers=headers or {})
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def close(self):
        self.connection.close()


@contextlib.contextmanager
def lines(server):
    """Enough of them that each process has some."""
    held = []
    try:
        for _ in range(160):
            line = Line(server)
            assert line.get("/healthz")[0] == 200
            held.append(line)
            if len(held) >= 12:
                if all(connections(server).values()):
                    break
                # One that was just started may not listen yet.
                time.sleep(0.1)
        assert all(value >= 1 for value in connections(server).values()), (connections(server), server.output[-20:])
        yield held
    finally:
        for line in held:
            line.close()


def test_a_ticket_is_good_at_every_process_and_once_in_all(guarded):
    with lines(guarded) as held:
        for giver in held[:6]:
            for taker in held:
                status, body = giver.post("/v1/tickets", headers=bearer())
                assert status == 201
                path = f"/v1/subscribe?channel=plain.a&wait=0&ticket={json.loads(body)['ticket']}"
                assert taker.get(path)[0] == 200
                assert {other.get(path)[0] for other in held[:4] + [taker]} == {401}
        for text in ("ff" + "0" * 30, "02" + "0" * 30, "05" + "0" * 30):
            assert held[0].get(f"/v1/subscribe?channel=plain.a&wait=0&ticket={text}")[0] == 401


def test_what_is_taken_back_ends_at_every_process(guarded, keys):  # noqa: F811
    claims = {"iat": int(time.time()) - 10}
    wanted = listed({"channels": ["plain.a"], "after": "latest"})
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(Events(guarded, "1.1", wanted, headers=bearer(**claims))) for _ in range(18)]
        others = [stack.enter_context(Events(guarded, "1.1", wanted, headers=bearer("otto", **claims))) for _ in range(6)]
        assert all(connections(guarded).values())
        held = stack.enter_context(lines(guarded))
        revoke(guarded, keys, user="anna")
        for stream in streams:
            stream.wait("token-expired", seconds=5)
        for line in held:
            assert line.get("/v1/subscribe?channel=plain.a&wait=0", bearer(**claims))[0] == 401
            assert line.get("/v1/subscribe?channel=plain.a&wait=0", bearer("otto", **claims))[0] == 200
        with client_of() as client:
            client.post(f"{guarded.url}/v1/channels/plain.a", json=1, headers=bearer("otto")).raise_for_status()
        for stream in others:
            stream.wait("notification")


def test_a_process_that_is_started_anew_knows_what_was_taken_back(guarded, keys):  # noqa: F811
    claims = {"jti": "t9"}
    revoke(guarded, keys, token_id="t9")
    old = workers(guarded)
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(workers(guarded)) == PROCESSES and not set(old) & set(workers(guarded)), "others are started", seconds=20)

    def serves():
        with contextlib.suppress(Exception):
            return all(value is not None for value in connections(guarded).values()) and len(connections(guarded)) == PROCESSES
        return False

    eventually(serves, "all of them serve", seconds=20)
    with lines(guarded) as held:
        for line in held:
            assert line.get("/v1/subscribe?channel=plain.a&wait=0", bearer(**claims))[0] == 401
            assert line.get("/v1/subscribe?channel=plain.a&wait=0", bearer(jti="t8"))[0] == 200


def test_what_was_taken_back_stays_so_after_a_restart(start_server, key, keys, tmp_path):  # noqa: F811
    arguments = ["--token-key", str(key), "--api-keys", str(keys[0]), "--store", str(tmp_path / "log.sqlite")]
    server = start_server(arguments=arguments)
    revoke(server, keys, token_id="t9")
    revoke(server, keys, user="anna", before=int(time.time()) - 100)
    assert server.stop() == 0
    # With several processes, and with one.
    for more in (["--processes", "2", "--loops", "1"], []):
        server = start_server(arguments=[*arguments, *more])
        with client_of() as client:
            def status(**claims):
                return client.get(f"{server.url}/v1/subscribe?channel=plain.a&wait=0", headers=bearer(**claims)).status_code

            iat = int(time.time())
            assert [status(jti="t9", iat=iat), status(iat=iat - 200), status(iat=iat), status(subject="otto")] == [401, 401, 200, 200]
            # Nobody sees where it is kept.
            for path in ("/v1/channels/_revocations", "/v1/channels/_revocations/history", "/v1/subscribe?channel=_revocations&wait=0"):
                assert client.get(server.url + path, headers=bearer("otto", subscribe=[">"])).status_code in (400, 403, 404)
            answer = client.get(f"{server.url}/v1/subscribe?channel=>&after=earliest&wait=0", headers=bearer("otto", subscribe=[">"]))
            assert answer.status_code == 200 and "t9" not in answer.text
            answer = client.post(f"{server.url}/v1/channels/_revocations", json={}, headers=bearer("otto", publish=[">"]))
            assert answer.status_code in (400, 403)
        assert server.stop() == 0


def test_commands_reach_a_session_of_another_process_with_who_says_them(guarded):
    wanted = listed({"channels": ["scores.a"], "after": "latest"})
    narrow = dict(subscribe=["scores.*"], publish=["scores.a"])
    with lines(guarded) as held, Events(guarded, "1.1", wanted, headers=bearer(**narrow)) as events:
        path = f"/v1/sessions/{events.hello['session']}"
        commands = json.dumps([{"id": 1, "type": "publish", "channel": "scores.a", "data": 1},
                               {"id": 2, "type": "publish", "channel": "scores.b", "data": 1},
                               {"id": 3, "type": "subscribe", "channel": "alerts.a"}])
        for line in held:
            status, body = line.post(path, commands, bearer(**narrow))
            assert status == 200
            assert [reply.get("error", {}).get("code") for reply in json.loads(body)] == [None, "not_granted", "not_granted"]
            assert line.post(path, commands, bearer("otto", **narrow))[0] == 404


def test_figures_of_refusals_are_added_up(guarded):
    with lines(guarded) as held:
        for line in held:
            assert line.get("/v1/channels/plain.a")[0] == 401
        text = client_of().get(f"{guarded.url}/metrics").text
        assert f'tocsin_refusals_total{{rule="token"}} {len(held)}' in text


def test_keys_are_read_again_by_all(guarded, keys):  # noqa: F811
    backend = with_key(keys[1]["backend"])
    with lines(guarded) as held:
        assert {line.post("/v1/channels/scores.a", "1", backend)[0] for line in held} == {201}
        rest = [line for line in keys[0].read_text().splitlines() if not line.startswith("backend:")]
        keys[0].write_text("\n".join(rest) + "\n")
        guarded.hang_up()
        eventually(lambda: len([entry for entry in list(guarded.log) if entry.get("message") == "keys read again"]) == PROCESSES,
                   "all read them")
        assert {line.post("/v1/channels/scores.a", "1", backend)[0] for line in held} == {401}
