"""The hook: the product's own endpoint decides connects, subscribes and publishes, after grants have."""

import json
import threading
import time

import pytest
import websockets.exceptions

from support import Endpoint, assert_problem, eventually, http
from test_api_keys import keys, revoke  # noqa: F401
from test_permissions import commands_of
from test_sessions import Events, listed
from test_tokens import bearer, key, open_websocket  # noqa: F401
from test_websockets import receive

VERSIONS = ["1.1", "2"]
each_version = pytest.mark.parametrize("version", VERSIONS)


class Product(Endpoint):
    """Refuses what a test has put on its list; can be slow, or answer something else."""

    def __init__(self, port=0):
        self.refused, self.delay, self.fault, self.held = set(), 0, None, None
        super().__init__(self._decide, port=port)

    def _decide(self, method, path, fields, body):
        time.sleep(self.delay)
        if self.held:
            self.held.wait(10)
        if self.fault is not None:
            return self.fault
        question = json.loads(body)
        channels = question.get("channels")
        if channels is None:
            allow = question["action"] not in self.refused
        else:
            allow = [channel for channel in channels if (question["action"], channel) not in self.refused]
        return 200, {"Content-Type": "application/json"}, json.dumps({"allow": allow}).encode()

    @property
    def questions(self):
        return [json.loads(body) for _, _, _, body in self.asked]

    def about(self, action):
        return [question for question in self.questions if question["action"] == action]


@pytest.fixture
def product():
    with Product() as product:
        yield product


@pytest.fixture
def hooked(start_server, product, key):  # noqa: F811
    def start(*arguments):
        return start_server(arguments=["--token-key", str(key), "--hook", f"{product.url}/decide", *arguments])
    return start


def poll(server, channel="plain.a", version="1.1", headers=None, **items):
    with http(version) as client:
        params = {"channel": channel, "wait": 0, **items}
        return client.get(f"{server.url}/v1/subscribe", params=params, headers=bearer() if headers is None else headers)


def put(server, channel="plain.a", data=1, headers=None):
    with http() as client:
        return client.post(f"{server.url}/v1/channels/{channel}", json=data, headers=headers or bearer())


def test_what_is_asked(hooked, product, tmp_path):
    (tmp_path / "secret").write_text("s3cret\n")
    server = hooked("--hook-secret", str(tmp_path / "secret"))
    assert put(server).status_code == 201
    assert poll(server, headers=bearer("otto", jti="t7")).status_code == 200
    assert product.about("publish") == [{"action": "publish", "user": "anna", "channels": ["plain.a"]}]
    assert product.about("connect") == [{"action": "connect", "user": "otto", "token_id": "t7", "transport": "long_poll"}]
    assert product.about("subscribe") == [{"action": "subscribe", "user": "otto", "token_id": "t7", "channels": ["plain.a"]}]
    for method, path, fields, _ in product.asked:
        assert method == "POST" and path == "/decide" and fields["Content-Type"] == "application/json"
        assert fields["Authorization"] == "Bearer s3cret"


@each_version
@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
def test_a_connect_and_a_subscribe_are_refused(hooked, product, version, accept):
    server = hooked()
    headers = {**bearer(), "Accept": accept}
    product.refused = {("subscribe", "plain.b")}
    for channels, status in [(["plain.a"], 200), (["plain.b"], 403), (["plain.c", "plain.b"], 403)]:
        with http(version) as client:
            text = f"{server.url}/v1/subscribe?wait=0&" + "&".join(f"channel={channel}" for channel in channels)
            with client.stream("GET", text, headers=headers) as answer:
                assert answer.status_code == status
                if status == 403:
                    answer.read()
                    problem = assert_problem(answer, 403, "not-granted")
                    assert problem["rule"] == "hook" and problem["configuration_key"] == "hook (--hook)"
    product.refused = {"connect"}
    with http(version) as client:
        answer = client.get(f"{server.url}/v1/subscribe?wait=0&channel=plain.a", headers={**bearer("otto"), "Accept": accept})
        assert_problem(answer, 403, "not-granted")
    figures = http().get(f"{server.url}/metrics").text
    assert 'tocsin_refusals_total{rule="hook"} 3' in figures and 'tocsin_hook_answers_total{answer="refused"}' in figures


def test_reads_are_asked_like_subscribes(hooked, product):
    server = hooked()
    assert put(server, "alerts.a").status_code == 201
    product.refused = {("subscribe", "alerts.a")}
    with http() as client:
        for method, path, body in [("GET", "/v1/channels/alerts.a", None), ("GET", "/v1/channels/alerts.a/history", None),
                                   ("GET", "/v1/channels/alerts.a/snapshot", None), ("GET", "/v1/inbox?user=anna&channel=alerts.a", None),
                                   ("POST", "/v1/acks", {"user": "anna", "channel": "alerts.a", "through": 1})]:
            answer = client.request(method, server.url + path, json=body, headers=bearer())
            assert assert_problem(answer, 403, "not-granted")["rule"] == "hook"


def test_publishes_are_refused_each_by_itself(hooked, product):
    server = hooked()
    product.refused = {("publish", "plain.b")}
    assert put(server, "plain.a").status_code == 201
    assert assert_problem(put(server, "plain.b"), 403, "not-granted")["rule"] == "hook"
    batch = [{"channel": channel, "data": 1} for channel in ("plain.a", "plain.b", "plain.c", "plain.a")]
    with http() as client:
        results = client.post(f"{server.url}/v1/publish", json=batch, headers=bearer()).json()["results"]
    assert [result.get("error", {}).get("type") for result in results] == [None, "/problems/not-granted", None, None]
    assert [result.get("sequence") for result in results] == [2, None, 1, 3]


def test_of_a_batch_that_is_not_decided_nothing_is_stored(hooked, product):
    server = hooked("--hook-cache", "30")
    assert put(server, "plain.a").status_code == 201
    product.fault = (500, {}, b"")
    batch = [{"channel": channel, "data": 1} for channel in ("plain.a", "plain.b")]
    headers = {**bearer(), "Idempotency-Key": "k"}
    with http() as client:
        problem = assert_problem(client.post(f"{server.url}/v1/publish", json=batch, headers=headers), 503, "hook-unavailable")
        assert problem["rule"] == "hook"
        product.fault = None

        def again():
            answer = client.post(f"{server.url}/v1/publish", json=batch, headers=headers)
            return answer if answer.status_code != 503 else None

        answer = eventually(again, "the hook is asked again", every=0.3)
        assert answer.status_code == 201
        assert [result["sequence"] for result in answer.json()["results"]] == [2, 1]
        assert client.post(f"{server.url}/v1/publish", json=batch, headers=headers).status_code == 200


def test_who_is_taken_back_while_the_hook_is_asked_is_out(start_server, product, key, keys):  # noqa: F811
    server = start_server(arguments=["--token-key", str(key), "--api-keys", str(keys[0]), "--hook", product.url, "--hook-timeout", "10000"])
    claims = {"iat": int(time.time()) - 10}
    wanted = listed({"channels": ["plain.a"], "after": "latest"})
    with Events(server, "1.1", wanted, headers=bearer(jti="another", iat=int(time.time()) + 60)) as events:
        session = events.hello["session"]
        product.held = threading.Event()
        answers = {}

        def ask(name, method, path, **options):
            with http() as client:
                answers[name] = client.request(method, server.url + path, headers=bearer(**claims), **options)

        asks = {"publish": ("POST", "/v1/channels/plain.a", {"json": 1}),
                "batch": ("POST", "/v1/publish", {"json": [{"channel": "plain.b", "data": 1}]}),
                "poll": ("GET", "/v1/subscribe?channel=plain.c&wait=0", {}), "read": ("GET", "/v1/channels/plain.d", {}),
                "command": ("POST", f"/v1/sessions/{session}", {"json": {"type": "publish", "channel": "plain.e", "data": 1}})}
        threads = [threading.Thread(target=ask, args=(name, method, path), kwargs=options)
                   for name, (method, path, options) in asks.items()]
        for thread in threads:
            thread.start()
        eventually(lambda: len([1 for question in product.questions if "token_id" not in question]) >= 6, "the hook is asked")
        revoke(server, keys, user="anna", before=int(time.time()) - 1)
        product.held.set()
        for thread in threads:
            thread.join(15)
        assert {name: answer.status_code for name, answer in answers.items()} == {
            "publish": 401, "batch": 401, "poll": 401, "read": 401, "command": 404}
        # The stream has a token that was made later.
        with http() as client:
            later = bearer("otto", iat=int(time.time()) + 60)
            client.post(f"{server.url}/v1/channels/plain.a", json="later", headers=later).raise_for_status()
        assert events.wait("notification")["data"] == "later"


def test_what_is_not_granted_is_not_asked(hooked, product):
    server = hooked()
    headers = bearer(subscribe=["plain.a"], publish=[])
    assert_problem(poll(server, "plain.b", headers=headers), 403, "not-granted")
    assert_problem(put(server, headers=headers), 403, "not-granted")
    with open_websocket(server, "channel=plain.a", additional_headers=headers) as connection:
        receive(connection, "hello")
        before = len(product.asked)
        assert commands_of(connection, type="subscribe", channel="plain.b")["error"]["code"] == "not_granted"
        assert commands_of(connection, type="publish", channel="plain.b", data=1)["error"]["code"] == "not_granted"
    assert len(product.asked) == before


def test_an_answer_counts_for_some_seconds_and_one_question_is_asked_once(hooked, product):
    server = hooked("--hook-cache", "2")
    product.delay = 0.4
    statuses = []
    threads = [threading.Thread(target=lambda: statuses.append(poll(server).status_code)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(15)
    assert statuses == [200] * 8
    assert len(product.about("subscribe")) == 1 and len(product.about("connect")) == 1
    product.refused = {("subscribe", "plain.a")}
    assert poll(server).status_code == 200
    # Of another user, or of another token of this one, it is another question.
    assert poll(server, headers=bearer("otto")).status_code == 403
    assert poll(server, headers=bearer(jti="t2")).status_code == 403
    eventually(lambda: poll(server).status_code == 403, "the answer is asked for again", seconds=5, every=0.3)


def test_only_what_is_configured_is_asked(hooked, product):
    server = hooked("--hook-for", "publish")
    assert poll(server).status_code == 200 and not product.asked
    product.refused = {("publish", "plain.a")}
    assert put(server).status_code == 403
    assert [question["action"] for question in product.questions] == ["publish"]


SILENCES = {"an error": (500, {}, b""), "not JSON": (200, {}, b"yes"), "something else": (200, {}, b'{"ok":true}'),
            "a redirect": (307, {"Location": "/elsewhere"}, b""), "too late": None, "nobody there": None}


@pytest.mark.parametrize("silence", SILENCES)
@pytest.mark.parametrize("down", ["refuse", "allow"])
def test_its_silence_means_what_is_configured(start_server, key, silence, down):  # noqa: F811
    product = Product()
    try:
        server = start_server(arguments=["--token-key", str(key), "--hook", product.url, "--hook-timeout", "300", "--hook-down", down])
        if silence == "too late":
            product.delay = 2
        elif silence == "nobody there":
            product.close()
        else:
            product.fault = SILENCES[silence]
        for answer, good in [(put(server), 201), (poll(server), 200)]:
            if down == "allow":
                assert answer.status_code == good
            else:
                problem = assert_problem(answer, 503, "hook-unavailable")
                assert problem["rule"] == "hook" and problem["configuration_key"] == "hook_down (--hook-down)"
                assert int(answer.headers["retry-after"]) > 0
        def said():
            return [entry for entry in server.log if entry.get("message") == "the hook does not answer"]
        assert len(eventually(said, "the log says it, once")) == 1
    finally:
        if silence != "nobody there":
            product.close()


def test_it_is_asked_again_when_it_is_back(hooked, product):
    server = hooked("--hook-cache", "0")
    product.fault = (500, {}, b"")
    assert put(server).status_code == 503
    product.fault = None
    eventually(lambda: put(server).status_code == 201, "it is asked again", seconds=5)
    eventually(lambda: any(entry.get("message") == "the hook answers again" for entry in server.log), "the log says so")


def test_commands_of_a_websocket_wait_in_their_order(hooked, product):
    server = hooked("--hook-cache", "30")
    product.refused = {("publish", "plain.b"), ("subscribe", "plain.d")}
    with open_websocket(server, "channel=plain.>", additional_headers=bearer()) as connection:
        receive(connection, "hello")
        # The second time the answers about some are at hand: nothing overtakes what waits.
        for round_ in range(2):
            product.delay = 0.2
            channels = ["plain.a", "plain.b", "plain.c", "plain.a"] if round_ == 0 else ["plain.e", "plain.b", "plain.a", "plain.f"]
            for number, channel in enumerate(channels):
                connection.send(json.dumps({"id": number, "type": "publish", "channel": channel, "data": [round_, number]}))
            replies, seen = {}, []
            while len(replies) < 4 or len(seen) < 3:
                message = json.loads(connection.recv(timeout=10))
                if message["type"] == "reply":
                    replies[message["id"]] = message
                elif message["type"] == "notification":
                    seen.append(message["data"])
            assert [number for number in sorted(replies) if "error" in replies[number]] == [1]
            assert replies[1]["error"]["code"] == "not_granted" and replies[1]["error"]["rule"] == "hook"
            assert seen == [[round_, number] for number in (0, 2, 3)]
        assert "expires_in_ms" not in commands_of(connection, type="ping")


def test_a_client_that_asks_too_much_is_told(hooked, product):
    server = hooked("--hook-cache", "0", "--hook-timeout", "5000")
    product.delay = 1.5
    with open_websocket(server, "channel=plain.>", additional_headers=bearer()) as connection:
        receive(connection, "hello")
        for number in range(150):
            connection.send(json.dumps({"id": number, "type": "publish", "channel": "plain.a", "data": number}))
        codes = [receive(connection, "reply")["error"]["code"] for _ in range(50)]
        assert codes == ["unavailable"] * 50


@each_version
def test_commands_of_other_transports_are_asked_together(hooked, product, version):
    server = hooked()
    product.refused = {("publish", "plain.b"), ("subscribe", "plain.d")}
    with Events(server, version, listed({"channels": ["plain.a"], "after": "latest"}), headers=bearer()) as events, http(version) as client:
        wanted = [{"id": 1, "type": "publish", "channel": "plain.a", "data": 1},
                  {"id": 2, "type": "publish", "channel": "plain.b", "data": 1},
                  {"id": 3, "type": "subscribe", "channel": "plain.d"}, {"id": 4, "type": "subscribe", "channel": "plain.e"},
                  {"id": 5, "type": "publish", "channel": "plain.e", "data": 2}]
        before = len(product.asked)
        replies = client.post(f"{server.url}/v1/sessions/{events.hello['session']}", json=wanted, headers=bearer()).json()
        assert [reply.get("error", {}).get("code") for reply in replies] == [None, "not_granted", "not_granted", None, None]
        assert len(product.asked) - before == 2
        assert events.wait("notification", 2)["data"] == 2


def test_a_websocket_that_is_refused_never_opens(hooked, product):
    server = hooked()
    product.refused = {"connect"}
    with pytest.raises(websockets.exceptions.InvalidStatus) as refused, open_websocket(
            server, "channel=plain.a", additional_headers=bearer()):
        pass
    assert refused.value.response.status_code == 403


def test_a_hook_without_tokens(start_server, product):
    server = start_server(arguments=["--hook", product.url])
    product.refused = {("publish", "plain.b")}
    with http() as client:
        assert client.post(f"{server.url}/v1/channels/plain.a", json=1).status_code == 201
        assert client.post(f"{server.url}/v1/channels/plain.b", json=1).status_code == 403
    assert product.about("publish")[0] == {"action": "publish", "channels": ["plain.a"]}


def test_who_polls_again_on_one_connection_is_asked_about_again(hooked, product):
    server = hooked("--hook-cache", "0")
    with http() as client:
        answer = client.get(f"{server.url}/v1/subscribe?channel=plain.a", headers=bearer())
        headers = bearer()
        for number in range(3):
            position = answer.json()["position"]
            put(server, data=number)
            answer = client.get(f"{server.url}/v1/subscribe?channel=plain.a&wait=5&after={position}", headers=headers)
            assert answer.status_code == 200 and len(answer.json()["messages"]) == 1
        product.refused = {("subscribe", "plain.a")}
        position = answer.json()["position"]
        answer = client.get(f"{server.url}/v1/subscribe?channel=plain.a&wait=5&after={position}", headers=headers)
        assert_problem(answer, 403, "not-granted")
