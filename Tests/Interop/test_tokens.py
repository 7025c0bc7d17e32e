"""Tokens: who has none is nobody, one that ends is refreshed in place or ends its stream, on every transport."""

import base64
import contextlib
import hashlib
import hmac
import json
import subprocess
import time

import pytest
import websockets.exceptions
import websockets.sync.client

from support import assert_problem, binary, http
from test_sessions import Events, listed, say
from test_websockets import receive

SECRET = b"0123456789abcdef0123456789abcdef"


def token(subject="anna", seconds=3600, secret=SECRET, **claims):
    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    payload = {"sub": subject, "exp": int(time.time()) + seconds, "publish": [">"], **claims}
    text = part(json.dumps({"alg": "HS256", "typ": "JWT"}).encode()) + b"." + part(json.dumps(payload).encode())
    return (text + b"." + part(hmac.new(secret, text, hashlib.sha256).digest())).decode()


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "secret"
    path.write_bytes(SECRET + b"\n")
    return path


@pytest.fixture
def guarded(start_server, key):
    return start_server(arguments=["--token-key", str(key)])


def bearer(*arguments, **options):
    return {"Authorization": f"Bearer {token(*arguments, **options)}"}


@contextlib.contextmanager
def open_websocket(server, items="", **options):
    with websockets.sync.client.connect(
        f"ws://127.0.0.1:{server.port}/v1/subscribe?{items}", proxy=None, close_timeout=5, **options
    ) as connection:
        yield connection


def post(server, headers, data=1, channel="plain.a"):
    with http() as client:
        return client.post(f"{server.url}/v1/channels/{channel}", json=data, headers=headers)


def test_everything_needs_a_token(guarded):
    with http() as client:
        for method, path in [("GET", "/v1/subscribe?channel=a"), ("POST", "/v1/channels/a"), ("POST", "/v1/publish"), ("GET", "/v1/inbox"),
                             ("POST", "/v1/acks"), ("GET", "/v1/channels/a"), ("POST", f"/v1/sessions/{'0' * 40}"), ("GET", "/v1/nothing"),
                             ("POST", "/v1/tickets"), ("POST", "/v1/admin/revocations"), ("GET", "/v1/channels/a/history"),
                             ("GET", "/v1/channels/a/snapshot")]:
            answer = client.request(method, guarded.url + path, content=b"{}" if method == "POST" else None)
            assert_problem(answer, 401, "token-missing")
            assert answer.headers["www-authenticate"] == "Bearer"
        for path in ("/healthz", "/readyz", "/metrics", "/tocsin.js"):
            assert client.get(guarded.url + path).status_code == 200
    assert post(guarded, bearer()).status_code == 201
    assert_problem(post(guarded, bearer(secret=b"x" * 32)), 401, "token-invalid")
    assert_problem(post(guarded, bearer(seconds=-60)), 401, "token-expired")
    assert_problem(post(guarded, {"Authorization": "Basic YTpi"}), 401, "token-missing")
    with pytest.raises(websockets.exceptions.InvalidStatus) as refused, open_websocket(guarded):
        pass
    assert refused.value.response.status_code == 401


def test_a_websocket_may_name_its_token_among_the_subprotocols(guarded):
    with open_websocket(guarded, "channel=plain.a", subprotocols=["tocsin.v1", f"tocsin.bearer.{token()}"]) as connection:
        assert connection.subprotocol == "tocsin.v1"
        assert receive(connection)["type"] == "hello"


def test_a_token_is_of_its_user_only(guarded):
    with http() as client:
        headers = bearer("anna")
        assert client.get(f"{guarded.url}/v1/inbox?user=anna&channel=alerts.*", headers=headers).status_code == 200
        assert_problem(client.get(f"{guarded.url}/v1/inbox?user=otto&channel=alerts.*", headers=headers), 403, "not-this-user")
        acknowledgement = {"user": "otto", "channel": "alerts.a", "through": 1}
        assert_problem(client.post(f"{guarded.url}/v1/acks", json=acknowledgement, headers=headers), 403, "not-this-user")
        assert_problem(client.get(f"{guarded.url}/v1/subscribe?channel=a&user=otto", headers=headers), 403, "not-this-user")


def say_with(server, session, commands, **options):
    with http() as client:
        return client.post(f"{server.url}/v1/sessions/{session}", json=commands, headers=bearer(**options))


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_an_event_stream_goes_on_with_a_new_token(guarded, version):
    with Events(guarded, version, listed({"channels": ["plain.a"], "after": "latest"}), headers=bearer(seconds=2)) as events:
        assert events.wait("token-expiring")["in_ms"] <= 2000
        session = events.hello["session"]
        assert say_with(guarded, session, {"type": "ping"}, subject="otto").status_code == 404
        reply = say_with(guarded, session, {"id": 1, "type": "refresh", "token": token("otto")}).json()
        assert reply["error"]["code"] == "bad_token"
        reply = say_with(guarded, session, {"id": 2, "type": "refresh", "token": token(seconds=300)}).json()
        assert 290_000 < reply["expires_in_ms"] <= 300_000
        time.sleep(8)
        post(guarded, bearer(), data="after")
        assert events.wait("notification")["data"] == "after"
        assert not events.of("token-expired")


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_an_event_stream_ends_with_its_token(guarded, version):
    with Events(guarded, version, listed({"channels": ["plain.a"], "after": "latest"}), headers=bearer(seconds=1)) as events:
        events.wait("token-expired", seconds=12)
        events.thread.join(3)
        assert not events.thread.is_alive(), "the stream has ended"
    assert say_with(guarded, events.hello["session"], {"type": "ping"}).status_code == 404


def test_a_websocket_goes_on_with_a_new_token_and_ends_without(guarded):
    with open_websocket(guarded, "channel=plain.a", additional_headers=bearer(seconds=1)) as connection:
        receive(connection, "token-expiring")
        connection.send(json.dumps({"id": 1, "type": "refresh", "token": "x.y.z"}))
        assert receive(connection, "reply")["error"]["code"] == "bad_token"
        connection.send(json.dumps({"id": 2, "type": "refresh", "token": token(seconds=8)}))
        assert receive(connection, "reply")["expires_in_ms"] <= 8000
        time.sleep(6.5)
        post(guarded, bearer(), data="after")
        assert receive(connection, "notification")["data"] == "after"
        with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
            while True:
                receive(connection, timeout=15)
        assert closed.value.rcvd.code == 1008 and closed.value.rcvd.reason == "token-expired"


def test_a_poll_ends_with_its_token(guarded):
    with http() as client:
        body = {"subscriptions": [{"channels": ["plain.a"], "after": "latest"}], "session": "new", "wait": 20}
        started = time.monotonic()
        answer = client.post(f"{guarded.url}/v1/subscribe", json=body, headers=bearer(seconds=1)).json()
        assert time.monotonic() - started < 12
        assert answer["token_expires_in_ms"] == 0
        old = bearer(seconds=-10)
        assert_problem(client.post(f"{guarded.url}/v1/subscribe", json=body, headers=old), 401, "token-expired")
        body["wait"] = 0
        body["session"] = answer["session"]
        assert "token_expires_in_ms" not in client.post(f"{guarded.url}/v1/subscribe", json=body, headers=bearer()).json()
        assert say(guarded, answer["session"], {"type": "ping"}).status_code == 401
        assert say_with(guarded, answer["session"], {"type": "ping"}).status_code == 200
        assert say_with(guarded, answer["session"], {"type": "ping"}, subject="otto").status_code == 404


def test_tokens_are_made_by_hand(guarded, key):
    made = subprocess.run(
        [binary(), "token", "make", "--key", str(key), "--subject", "anna", "--publish", ">"], check=True, capture_output=True, text=True,
        timeout=30
    ).stdout.strip()
    assert post(guarded, {"Authorization": f"Bearer {made}"}).status_code == 201


def test_a_bad_key_file_is_told(tmp_path):
    path = tmp_path / "short"
    path.write_bytes(b"short")
    ended = subprocess.run(
        [binary(), "serve", "--port", "0", "--store", ":memory:", "--token-key", str(path)], capture_output=True, text=True, timeout=30
    )
    assert ended.returncode != 0 and "at least 32 bytes" in ended.stderr + ended.stdout
