"""What one may do: grants of tokens on every way in, and that who has none learns nothing."""

import json
import time

import pytest
import websockets.exceptions

from support import Server, assert_problem, eventually, http
from test_sessions import Events, listed
from test_tokens import SECRET, bearer, key, open_websocket, post, say_with, token  # noqa: F401
from test_websockets import receive

VERSIONS = ["1.1", "2"]
each_version = pytest.mark.parametrize("version", VERSIONS)
# Feeds of each kind of access, and of each kind of feed.
ACCESS = ["--access", "news=public", "--access", "secret=granted", "--access", "staff=authenticated",
          "--publish-access", "chat=authenticated"]


@pytest.fixture
def guarded(start_server, key):  # noqa: F811
    return start_server(arguments=["--token-key", str(key), *ACCESS])


@pytest.fixture(scope="module")
def standing(key):  # noqa: F811
    """One for all rows of a table."""
    server = Server(arguments=["--token-key", str(key), *ACCESS])
    yield server
    assert server.stop() == 0


def granted(*subscribe, **options):
    return bearer(subscribe=list(subscribe), **options)


def commands_of(connection, **fields):
    connection.send(json.dumps({"id": 1, **fields}))
    return receive(connection, "reply")


ASKS = {
    "info": ("GET", "/v1/channels/{}", None),
    "history": ("GET", "/v1/channels/{}/history", None),
    "history with a bad limit": ("GET", "/v1/channels/{}/history?limit=0", None),
    "snapshot": ("GET", "/v1/channels/{}/snapshot", None),
    "inbox": ("GET", "/v1/inbox?user=anna&channel={}", None),
    "ack": ("POST", "/v1/acks", {"user": "anna", "channel": "{}", "through": 1}),
    "poll": ("GET", "/v1/subscribe?channel={}&wait=0", None),
    "poll from the beginning": ("GET", "/v1/subscribe?channel={}&wait=0&after=earliest&user=anna", None),
    "poll by POST": ("POST", "/v1/subscribe", {"channels": ["{}"], "wait": 0}),
}


def ask(client, server, name, channel, headers):
    method, path, body = ASKS[name]
    body = json.dumps(body).replace("{}", channel) if body else None
    return client.request(method, server.url + path.replace("{}", channel), content=body, headers=headers)


@each_version
@pytest.mark.parametrize("name", ASKS)
@pytest.mark.parametrize("feed", ["secret", "alerts", "scores", "dashboards"])
def test_who_has_no_grant_learns_nothing(standing, name, feed, version):
    assert post(standing, bearer(), channel=f"{feed}.here", data={"a": 1}).status_code == 201
    with http(version) as client:
        headers = granted("alerts.other", "scores.other.>")
        here, missing = (ask(client, standing, name, f"{feed}.{which}", headers) for which in ("here", "gone"))
        problem = assert_problem(here, 403, "not-granted")
        assert problem["rule"] == "subscribe grant" and problem["configuration_key"] == "access (--access)"
        assert here.text.replace("here", "gone") == missing.text
        assert missing.status_code == 403
        unlike = {"date", "content-length"}
        assert {k: v for k, v in here.headers.items() if k not in unlike} == {k: v for k, v in missing.headers.items() if k not in unlike}
        # The same user with the grant.
        answer = ask(client, standing, name, f"{feed}.here", granted(f"{feed}.*"))
        assert answer.status_code not in (401, 403), answer.text


@each_version
def test_a_pattern_grant_never_widens(guarded, version):
    with http(version) as client:
        for wanted, allowed in [("scores.a", True), ("scores.*", True), ("scores.>", False), ("scores.a.b", False), ("scores", False),
                                ("*.a", False), (">", False), ("*", False), ("scores.*.*", False)]:
            answer = client.get(f"{guarded.url}/v1/subscribe?wait=0", params={"channel": wanted, "wait": 0}, headers=granted("scores.*"))
            assert answer.status_code == (200 if allowed else 403), wanted
        users = granted("users.{sub}.>", subject="anna")
        for wanted, status in [("users.anna.inbox", 200), ("users.anna.>", 200), ("users.otto.inbox", 403), ("users.*.inbox", 403)]:
            assert client.get(f"{guarded.url}/v1/subscribe", params={"channel": wanted, "wait": 0}, headers=users).status_code == status
        for subject in ("*", ">", "a.b", "anna otto"):
            answer = client.get(f"{guarded.url}/v1/subscribe", params={"channel": "users.anna.inbox", "wait": 0},
                                headers=granted("users.{sub}.inbox", subject=subject))
            assert_problem(answer, 403, "not-granted")


@each_version
@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
def test_a_refusal_names_the_subscription(guarded, version, accept):
    wanted = [{"channels": ["scores.a"]}, {"channels": ["scores.b", "secret.a"]}]
    headers = {**granted("scores.*"), "Accept": accept}
    with http(version) as client:
        answers = [client.get(f"{guarded.url}/v1/subscribe?{listed(*wanted)}", headers=headers),
                   client.post(f"{guarded.url}/v1/subscribe", json={"subscriptions": wanted}, headers=headers)]
    for answer in answers:
        assert assert_problem(answer, 403, "not-granted")["pointer"] == "#/subscriptions/1"


def test_a_websocket_is_refused_and_so_are_its_commands(guarded):
    with pytest.raises(websockets.exceptions.InvalidStatus) as refused, open_websocket(
            guarded, "channel=secret.a", additional_headers=granted("scores.*")):
        pass
    assert refused.value.response.status_code == 403
    with open_websocket(guarded, "channel=scores.a", additional_headers=granted("scores.*", publish=["scores.a"])) as connection:
        receive(connection, "hello")
        for fields in [{"type": "subscribe", "channel": "secret.a"}, {"type": "subscribe", "channel": "scores.>"},
                       {"type": "subscribe", "channels": ["scores.b", "secret.a"]}, {"type": "publish", "channel": "scores.b", "data": 1},
                       {"type": "ack", "channel": "alerts.a", "through": 1}]:
            error = commands_of(connection, **fields)["error"]
            assert error["code"] == "not_granted" and error["rule"] and error["configuration_key"], fields
        assert "position" in commands_of(connection, type="subscribe", channel="scores.b")
        assert commands_of(connection, type="publish", channel="scores.a", data=1)["sequence"] == 1


@each_version
def test_commands_of_other_transports_are_refused(guarded, version):
    narrow = dict(subscribe=["scores.*"], publish=["scores.a"])
    with Events(guarded, version, listed({"channels": ["scores.a"]}), headers=bearer(**narrow)) as events, http(version) as client:
        session = events.hello["session"]
        body = {"subscriptions": [{"channels": ["scores.a"], "after": "latest"}], "session": "new", "wait": 0}
        polls = client.post(f"{guarded.url}/v1/subscribe", json=body, headers=bearer(**narrow)).json()["session"]
        wanted = [{"id": 1, "type": "subscribe", "channel": "secret.a"}, {"id": 2, "type": "publish", "channel": "secret.a", "data": 1},
                  {"id": 3, "type": "publish", "channel": "scores.a", "data": 1},
                  {"id": 4, "type": "ack", "channel": "alerts.a", "through": 1}]
        for place in (session, polls):
            codes = [reply.get("error", {}).get("code") for reply in say_with(guarded, place, wanted, **narrow).json()]
            assert codes == ["not_granted", "not_granted", None, "not_granted"]
        # A wider token of the same user does not widen the stream, nor a narrower one what it may do itself.
        reply = say_with(guarded, session, {"id": 5, "type": "subscribe", "channel": "secret.a"}, subscribe=[">"]).json()
        assert reply["error"]["code"] == "not_granted"
        reply = say_with(guarded, session, {"id": 6, "type": "publish", "channel": "scores.a", "data": 1}, publish=[]).json()
        assert reply["error"]["code"] == "not_granted"
        post(guarded, bearer(), channel="secret.a")
        time.sleep(0.5)
        assert {message["channel"] for message in events.of("notification")} == {"scores.a"}


@each_version
def test_publishing_needs_a_grant(guarded, version):
    with http(version) as client:
        for claims, channel, status in [({"publish": None}, "plain.a", 401), ({"publish": []}, "plain.a", 403),
                                        ({"publish": ["plain.*"]}, "plain.a", 201), ({"publish": ["plain.*"]}, "plain.a.b", 403),
                                        ({"publish": []}, "chat.a", 201), ({"publish": []}, "news.a", 403)]:
            answer = client.post(f"{guarded.url}/v1/channels/{channel}", json=1, headers=bearer(**claims))
            assert answer.status_code == status, (claims, channel)
        batch = [{"channel": "plain.a", "data": 1}, {"channel": "secret.a", "data": 1}, {"channel": "plain.b", "data": 1}]
        answer = client.post(f"{guarded.url}/v1/publish", json=batch, headers=bearer(publish=["plain.*"]))
        assert answer.status_code == 201
        results = answer.json()["results"]
        assert [result.get("error", {}).get("type") for result in results] == [None, "/problems/not-granted", None]
        assert results[1]["error"]["rule"] == "publish grant"
        assert "sequence" not in results[1]
        answer = client.post(f"{guarded.url}/v1/publish", json=batch[1:2], headers=bearer(publish=["plain.*"]))
        assert answer.status_code == 400


def test_an_idempotency_key_answers_nobody_for_what_is_not_his(guarded):
    batch = [{"channel": channel, "data": 1} for channel in ("plain.a", "plain.b")]

    def put(name, *patterns):
        with http() as client:
            return client.post(f"{guarded.url}/v1/publish", json=batch, headers={**bearer(publish=list(patterns)), "Idempotency-Key": name})

    for name, first, then in [("wide first", ["plain.*"], ["plain.b"]), ("narrow first", ["plain.b"], ["plain.*"]),
                              ("one and the other", ["plain.a"], ["plain.b"])]:
        answer = put(name, *first)
        assert answer.status_code == 201
        answer = put(name, *then)
        assert_problem(answer, 409, "idempotency-key-reused")
        assert "sequence" not in answer.text
        answer = put(name, *first)
        assert answer.status_code == 200
    with http() as client:
        assert client.get(f"{guarded.url}/v1/channels/plain.a", headers=bearer()).json()["sequence"] == 2
        assert client.get(f"{guarded.url}/v1/channels/plain.b", headers=bearer()).json()["sequence"] == 2


@each_version
def test_public_feeds_need_no_token_and_nothing_else_is_public(guarded, version):
    assert post(guarded, bearer(), channel="news.a", data="n").status_code == 201
    with http(version) as client:
        answer = client.get(f"{guarded.url}/v1/subscribe?channel=news.*&after=earliest&wait=0")
        assert [message["data"] for message in answer.json()["messages"]] == ["n"]
        assert client.get(f"{guarded.url}/v1/channels/news.a").json()["sequence"] == 1
        for method, path in [("GET", "/v1/subscribe?channel=news.a&channel=scores.a&wait=0"), ("GET", "/v1/subscribe?channel=*.a&wait=0"),
                             ("GET", "/v1/channels/staff.a"), ("POST", "/v1/channels/news.a"), ("POST", "/v1/publish"),
                             ("GET", "/v1/subscribe?channel=news.a&user=anna&wait=0"), ("GET", "/v1/inbox?channel=news.a&user=anna"),
                             ("POST", "/v1/tickets"), ("POST", "/v1/admin/revocations")]:
            assert_problem(client.request(method, guarded.url + path, content="[]" if method == "POST" else None), 401, "token-missing")
        # A token that is not good is not the same as none.
        assert_problem(client.get(f"{guarded.url}/v1/channels/news.a", headers=bearer(seconds=-60)), 401, "token-expired")
        assert client.get(f"{guarded.url}/v1/subscribe?channel=staff.a&wait=0", headers=granted()).status_code == 200
    with Events(guarded, version, listed({"channels": ["news.a"], "after": "earliest"})) as events:
        assert events.wait("notification")["data"] == "n"
        with http(version) as client:
            wanted = [{"id": 1, "type": "subscribe", "channel": "staff.a"}, {"id": 2, "type": "publish", "channel": "news.a", "data": 1}]
            replies = client.post(f"{guarded.url}/v1/sessions/{events.hello['session']}", json=wanted).json()
        assert [reply["error"]["code"] for reply in replies] == ["no_token", "no_token"]
    with open_websocket(guarded, "channel=news.a") as connection:
        receive(connection, "hello")
        assert commands_of(connection, type="subscribe", channel="staff.a")["error"]["code"] == "no_token"


@each_version
def test_a_stream_ends_with_a_token_that_grants_less(guarded, version):
    wanted = listed({"channels": ["scores.a"], "after": "latest"}, {"channels": ["scores.b"], "after": "latest"})
    with Events(guarded, version, wanted, headers=granted("scores.*")) as events:
        session = events.hello["session"]
        reply = say_with(guarded, session, {"id": 1, "type": "refresh", "token": token(subscribe=["scores.>"])}).json()
        assert "expires_in_ms" in reply
        reply = say_with(guarded, session, {"id": 2, "type": "refresh", "token": token(subscribe=["scores.a"])}).json()
        assert "expires_in_ms" in reply
        goodbye = events.wait("going-away")
        assert goodbye["reason"] == "not-granted" and goodbye["channels"] == ["scores.b"] and goodbye["retry_after_ms"] <= 1000
        events.thread.join(5)
        assert not events.thread.is_alive(), "the stream has ended"
        post(guarded, bearer(), channel="scores.b")
        assert not events.of("notification")
        assert say_with(guarded, session, {"type": "ping"}).status_code == 404
    answer = http().get(f"{guarded.url}/v1/subscribe?{wanted}", headers=granted("scores.a"))
    assert assert_problem(answer, 403, "not-granted")["pointer"] == "#/subscriptions/1"


@pytest.mark.parametrize("together", [False, True], ids=["one-by-one", "in-one-write"])
def test_a_websocket_ends_with_a_token_that_grants_less(guarded, together):
    with open_websocket(guarded, "channel=scores.a", additional_headers=granted("scores.*")) as connection:
        receive(connection, "hello")
        refresh = json.dumps({"id": 2, "type": "refresh", "token": token(subscribe=["scores.a"])})
        subscribe = json.dumps({"id": 1, "type": "subscribe", "channel": "scores.b"})
        if together:
            # The subscription is asked for with the old token, and the new one has come when it begins.
            frames = b"".join(frame(text) for text in (refresh, subscribe))
            connection.socket.sendall(frames)
        else:
            connection.send(subscribe)
            receive(connection, "reply")
            connection.send(refresh)
        goodbye = receive(connection, "going-away")
        assert goodbye["reason"] == "not-granted" and goodbye["channels"] == ["scores.b"]
        with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
            receive(connection)
        assert closed.value.rcvd.code == 1008 and closed.value.rcvd.reason == "not-granted"


def frame(text):
    """A masked text frame; the mask is 0."""
    payload = text.encode()
    assert 125 < len(payload) < 65536 or len(payload) <= 125
    length = bytes([0x80 | len(payload)]) if len(payload) <= 125 else bytes([0xFE]) + len(payload).to_bytes(2, "big")
    return b"\x81" + length + bytes(4) + payload


def test_a_poll_has_what_its_own_token_grants(guarded):
    body = {"subscriptions": [{"channels": ["scores.a"], "after": "latest"}], "session": "new", "wait": 0}
    with http() as client:
        answer = client.post(f"{guarded.url}/v1/subscribe", json=body, headers=granted("scores.*")).json()
        body["session"] = answer["session"]
        assert_problem(client.post(f"{guarded.url}/v1/subscribe", json=body, headers=granted("scores.b")), 403, "not-granted")


def test_the_log_says_a_refusal_once(guarded):
    with http() as client:
        for number in range(50):
            assert client.get(f"{guarded.url}/v1/channels/secret.a{number}", headers=granted("scores.*")).status_code == 403
    said = eventually(lambda: [entry for entry in guarded.log if entry.get("message") == "refused"], "the log says it")
    assert len(said) == 1
    assert "--access secret=granted" in json.dumps(said[0]) and "scores.*" in json.dumps(said[0])
    assert SECRET.decode() not in "".join(guarded.output)
