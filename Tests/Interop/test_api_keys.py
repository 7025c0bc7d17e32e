"""API keys of publishers, `explain`, `token check`, keys that are read again, and what is taken back from open connections."""

import json
import os
import subprocess
import time

import pytest
import websockets.exceptions

from support import assert_problem, binary, eventually, http
from test_sessions import Events, listed
from test_tokens import SECRET, bearer, key, open_websocket, token  # noqa: F401
from test_websockets import receive

VERSIONS = ["1.1", "2"]
each_version = pytest.mark.parametrize("version", VERSIONS)


def run(*arguments, status=0, **options):
    ended = subprocess.run([binary(), *map(str, arguments)], capture_output=True, text=True, timeout=30, **options)
    assert ended.returncode == status, (arguments, ended.returncode, ended.stdout, ended.stderr)
    return ended.stdout.strip() if status == 0 else ended.stdout + ended.stderr


@pytest.fixture
def keys(tmp_path):
    """A file of API keys, and the keys by name."""
    path = tmp_path / "api-keys"
    made = {"backend": run("key", "make", "--name", "backend", "--publish", "scores.>", "--subscribe", "scores.a", "--file", path),
            "admin": run("key", "make", "--name", "admin", "--admin", "--file", path)}
    return path, made


@pytest.fixture
def guarded(start_server, key, keys):  # noqa: F811
    return start_server(arguments=["--token-key", str(key), "--api-keys", str(keys[0]), "--access", "secret=granted"])


def with_key(text):
    return {"Authorization": f"Bearer {text}"}


def test_a_key_is_hashed_where_it_is_kept(keys):
    path, made = keys
    text = path.read_text()
    assert os.stat(path).st_mode & 0o777 == 0o600
    for name, value in made.items():
        assert value.startswith("tsk_") and value not in text and value[4:] not in text
        assert f"{name}:" in text
    printed = run("key", "make", "--name", "other", "--publish", "a.*").splitlines()
    assert len(printed) == 2 and printed[1].startswith("other:") and printed[1].endswith(":publish=a.*")
    assert "twice" in run("key", "make", "--name", "backend", "--file", path, status=1)
    assert "no grant" in run("key", "make", "--name", "x", "--publish", "a..b", status=1)
    assert path.read_text() == text


@each_version
def test_a_key_may_do_what_it_was_given(guarded, keys, version):
    backend = with_key(keys[1]["backend"])
    with http(version) as client:
        url = f"{guarded.url}/v1/channels"
        assert client.post(f"{url}/scores.a", json=1, headers=backend).status_code == 201
        assert client.get(f"{url}/scores.a/history", headers=backend).status_code == 200
        # In full: a key is the operator's.
        problem = assert_problem(client.post(f"{url}/alerts.a", json=1, headers=backend), 403, "not-granted")
        assert "--publish-access *=granted" in problem["detail"] and "scores.>" in problem["detail"]
        problem = assert_problem(client.get(f"{url}/scores.b", headers=backend), 403, "not-granted")
        assert "backend" in problem["detail"] and problem["configuration_key"] == "access (--access)"
        for bad in (keys[1]["backend"][:-1], keys[1]["backend"] + "A", "tsk_", keys[0].read_text().split(":")[1]):
            assert_problem(client.post(f"{url}/scores.a", json=1, headers=with_key(bad)), 401, "token-invalid")
        assert_problem(client.get(f"{guarded.url}/v1/inbox?user=anna&channel=scores.a", headers=backend), 403, "not-this-user")
    with Events(guarded, version, listed({"channels": ["scores.a"], "after": "latest"}), headers=backend) as events:
        with http(version) as client:
            client.post(f"{guarded.url}/v1/channels/scores.a", json=2, headers=backend)
        assert events.wait("notification")["data"] == 2
        # A user who is called like the key is not the key.
        with http(version) as client:
            answer = client.post(f"{guarded.url}/v1/sessions/{events.hello['session']}", json={"type": "ping"}, headers=bearer("backend"))
        assert answer.status_code == 404


def test_a_key_is_not_taken_where_a_browser_would_show_it(guarded, keys):
    with pytest.raises(websockets.exceptions.InvalidStatus) as refused, open_websocket(
            guarded, "channel=scores.a", subprotocols=["tocsin.v1", f"tocsin.bearer.{keys[1]['backend']}"]):
        pass
    assert refused.value.response.status_code == 401


def test_a_server_of_keys_alone(start_server, keys):
    server = start_server(arguments=["--api-keys", str(keys[0])])
    with http() as client:
        assert client.post(f"{server.url}/v1/channels/scores.a", json=1, headers=with_key(keys[1]["backend"])).status_code == 201
        assert_problem(client.post(f"{server.url}/v1/channels/scores.a", json=1, headers=bearer()), 401, "token-invalid")
        assert_problem(client.post(f"{server.url}/v1/channels/scores.a", json=1), 401, "token-missing")


@pytest.mark.parametrize("line", ["a:b", "a:" + "0" * 63 + ":admin", "a:" + "0" * 64 + ":everything", "a b:" + "0" * 64 + ":admin"])
def test_a_bad_file_of_keys_is_told(tmp_path, line):
    path = tmp_path / "keys"
    path.write_text("# keys\n\n" + line + "\n")
    said = run("serve", "--port", 0, "--store", ":memory:", "--api-keys", path, status=1)
    assert "line 3" in said and "0" * 63 not in said


def test_flags_that_make_no_sense_are_told(key):  # noqa: F811
    for flags, words in [(["--access", "a=granted"], "need --token-key"), (["--token-key", key, "--access", "a=open"], "public, auth"),
                         (["--token-key", key, "--access", "a.b=public"], "no feed"), (["--token-key", key, "--publish-access", "a=public"],
                                                                                       "nobody publishes without"),
                         (["--token-key", key, "--token-cookie", "a b"], "cookie"), (["--token-audience", "a"], "need --token-key")]:
        assert words in run("serve", "--port", 0, "--store", ":memory:", *flags, status=64)


def test_explain_says_what_the_server_does(guarded, key, keys):  # noqa: F811
    flags = ["--token-key", key, "--api-keys", keys[0], "--access", "secret=granted"]
    with http() as client:
        for who in [token(publish=["scores.*"]), token(subscribe=["scores.*", "secret.a"], publish=[]), keys[1]["backend"], None]:
            headers = with_key(who) if who else {}
            for channel in ["scores.a", "scores.b.c", "secret.a", "alerts.a"]:
                answers = {"subscribe": client.get(f"{guarded.url}/v1/subscribe?channel={channel}&wait=0", headers=headers),
                           "publish": client.post(f"{guarded.url}/v1/channels/{channel}", json=1, headers=headers)}
                for action, answer in answers.items():
                    wanted = ["explain", action, "--channel", channel, *flags] + (["--token", who] if who else [])
                    if answer.status_code in (200, 201):
                        assert f"yes: {action} {channel}" in run(*wanted)
                    else:
                        said = run(*wanted, status=1)
                        problem = answer.json()
                        assert f"no: {action} {channel}" in said
                        assert problem["rule"] in said and problem["configuration_key"] in said
    assert "yes" in run("explain", "publish", "--channel", "a")
    forged = token(secret=b"x" * 32)
    assert "not accepted: its signature" in run("explain", "subscribe", "--channel", "a", "--token", forged, *flags, status=1)


def test_check_says_what_a_token_is(key):  # noqa: F811
    made = run("token", "make", "--key", key, "--subject", "anna", "--subscribe", "users.{sub}.>", "--id", "t1", "--audience", "here")
    said = run("token", "check", "--token-key", key, "--token-audience", "here", made)
    assert "user: anna" in said and "users.anna.>" in said and "id: t1" in said and "publish: no such claim" in said
    assert "audience" in run("token", "check", "--token-key", key, "--token-audience", "there", made, status=1)
    assert "expired" in run("token", "check", "--token-key", key, token(seconds=-60), status=1)
    assert "user: anna" in run("token", "check", "--token-key", key, "-", input=token() + "\n")


def test_keys_are_read_again(start_server, key, keys, tmp_path):  # noqa: F811
    server = start_server(arguments=["--token-key", str(key), "--api-keys", str(keys[0])])
    backend = with_key(keys[1]["backend"])

    def count(words):
        return sum(1 for entry in list(server.log) if words in json.dumps(entry))

    with Events(server, "1.1", listed({"channels": ["scores.a"]}), headers=backend) as events, http() as client:
        rest = [line for line in keys[0].read_text().splitlines() if not line.startswith("backend:")]
        keys[0].write_text("\n".join(rest) + "\n")
        server.hang_up()
        eventually(lambda: count("keys read again") == 1, "the keys are read")
        events.wait("token-expired")
        events.thread.join(5)
        assert not events.thread.is_alive()
        assert_problem(client.post(f"{server.url}/v1/channels/scores.a", json=1, headers=backend), 401, "token-invalid")
        # A file that is not good changes nothing.
        keys[0].write_text("nonsense\n")
        server.hang_up()
        eventually(lambda: count("the new keys are not good") == 1, "it says so")
        admin = with_key(keys[1]["admin"])
        assert client.post(f"{server.url}/v1/admin/revocations", json={"token_id": "x"}, headers=admin).status_code == 200
        # A new secret: tokens of the old one are good no longer.
        keys[0].write_text("\n".join(rest) + "\n")
        assert client.post(f"{server.url}/v1/channels/a", json=1, headers=bearer()).status_code == 201
        key.write_bytes(b"another secret of at least 32 bytes")
        try:
            server.hang_up()
            eventually(lambda: count("keys read again") == 2, "the keys are read")
            assert_problem(client.post(f"{server.url}/v1/channels/a", json=1, headers=bearer()), 401, "token-invalid")
        finally:
            key.write_bytes(SECRET + b"\n")


# What is taken back.

def revoke(server, keys, status=200, name="admin", **what):
    with http() as client:
        answer = client.post(f"{server.url}/v1/admin/revocations", json=what, headers=with_key(keys[1][name]))
    assert answer.status_code == status, answer.text
    return answer.json()


REVOCATIONS = {
    "token": lambda: {"token_id": "t1"},
    "user": lambda: {"user": "anna"},
    "everybody": lambda: {"before": int(time.time()) + 3},
}


@pytest.mark.parametrize("what", REVOCATIONS)
def test_what_is_taken_back_ends_on_every_transport(guarded, keys, what):
    claims = {"jti": "t1", "iat": int(time.time()) - 10}
    wanted = listed({"channels": ["scores.a"], "after": "latest"})
    others = dict(subject="otto", iat=int(time.time()) + 5)
    with Events(guarded, "1.1", wanted, headers=bearer(**claims)) as one, Events(guarded, "2", wanted, headers=bearer(**claims)) as two, \
            Events(guarded, "2", wanted, headers=bearer(**others)) as other, \
            open_websocket(guarded, "channel=scores.a", additional_headers=bearer(**claims)) as connection:
        receive(connection, "hello")
        answers = []
        polls = [Poll(guarded, version, claims, answers) for version in VERSIONS]
        time.sleep(0.5)
        fields = REVOCATIONS[what]()
        said = revoke(guarded, keys, **fields)
        assert said["until_ms"] > said["before_ms"] and {name: said[name] for name in ("user", "token_id") if name in said} == {
            name: value for name, value in fields.items() if name != "before"}
        for events in (one, two):
            events.wait("token-expired", seconds=5)
            events.thread.join(5)
            assert not events.thread.is_alive()
        with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
            receive(connection)
        assert closed.value.rcvd.code == 1008 and closed.value.rcvd.reason == "token-expired"
        for poll in polls:
            poll.join(5)
        assert [answer.status_code for answer in answers] == [200, 200] and all(not answer.json()["messages"] for answer in answers)
        with http() as client:
            assert_problem(client.get(f"{guarded.url}/v1/subscribe?{wanted}", headers=bearer(**claims)), 401, "token-invalid")
            # Others are not touched.
            client.post(f"{guarded.url}/v1/channels/scores.a", json=1, headers=bearer(**others)).raise_for_status()
        other.wait("notification")


def Poll(server, version, claims, answers):
    import threading

    def poll():
        with http(version, timeout=20) as client:
            body = {"channels": ["scores.a"], "after": "latest", "wait": 15}
            answers.append(client.post(f"{server.url}/v1/subscribe", json=body, headers=bearer(**claims)))

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    return thread


def test_who_may_take_back_and_what(guarded, keys):
    assert revoke(guarded, keys, status=403, name="backend", user="anna")["rule"] == "admin grant"
    with http() as client:
        answer = client.post(f"{guarded.url}/v1/admin/revocations", json={"user": "anna"}, headers=bearer("admin", admin=True))
        assert_problem(answer, 403, "not-granted")
    for what in [{}, {"user": ""}, {"user": 7}, {"user": "a", "token_id": "b"}, {"who": "a"}, {"before": "now"}, {"before": -1},
                 {"user": "anna", "until": int(time.time()) + 366 * 86_400}]:
        revoke(guarded, keys, status=400, **what)
    until = int(time.time()) + 364 * 86_400
    assert revoke(guarded, keys, user="anna", until=until)["until_ms"] == until * 1000


def test_tokens_made_later_are_good(guarded, keys):
    now = int(time.time())
    with http() as client:
        def status(**claims):
            return client.get(f"{guarded.url}/v1/subscribe?channel=scores.a&wait=0", headers=bearer(**claims)).status_code

        text = client.post(f"{guarded.url}/v1/tickets", headers=bearer(iat=now - 5)).json()["ticket"]
        revoke(guarded, keys, user="anna", before=now)
        assert [status(iat=now - 5), status(), status(iat=now), status(subject="otto", iat=now - 5)] == [401, 401, 200, 200]
        # Nor does a ticket outlive what it stands for, or a refresh bring it back.
        assert client.get(f"{guarded.url}/v1/subscribe?channel=scores.a&wait=0&ticket={text}").status_code == 401
        with Events(guarded, "1.1", listed({"channels": ["scores.a"]}), headers=bearer(iat=now)) as events:
            command = {"id": 1, "type": "refresh", "token": token(iat=now - 5)}
            reply = client.post(f"{guarded.url}/v1/sessions/{events.hello['session']}", json=command, headers=bearer(iat=now)).json()
            assert reply["error"]["code"] == "bad_token"


def test_who_may_have_everybody_go(guarded, keys):
    url = f"{guarded.url}/v1/admin/drain"
    admin, backend = with_key(keys[1]["admin"]), with_key(keys[1]["backend"])
    with http() as client:
        for headers in (backend, bearer()):
            assert_problem(client.post(f"{url}?over=1s", headers=headers), 403, "not-granted")
        assert_problem(client.post(f"{url}?over=1s", headers={"X-Forwarded-For": "192.0.2.1"}), 403, "not-an-administrator")
        # A key says who asks, wherever that comes from.
        assert client.post(f"{url}?over=1s", headers={**admin, "X-Forwarded-For": "192.0.2.1"}).status_code == 202
        assert client.delete(url, headers=admin).json() == {"draining": False}
        # From this host it needs none.
        assert client.delete(url).json() == {"draining": False}
