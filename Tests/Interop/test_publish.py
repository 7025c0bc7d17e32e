"""Publishing in all its forms, and each error of section 6 of the protocol that can be provoked from outside."""

import base64
import json
import re

import h2.events
import pytest

from support import RawHTTP2, assert_problem, exchange, http, publish, query

JSON = {"Content-Type": "application/json"}
both = pytest.mark.parametrize("version", ["1.1", "2"], ids=["http1", "http2"])


def post(server, channel, content, kind=None, version="1.1", headers=None, **items):
    if isinstance(content, str):
        content = content.encode()
    with http(version) as client:
        return client.post(f"{server.url}/v1/channels/{channel}", params=items, content=content,
                           headers={**({"Content-Type": kind} if kind else {}), **(headers or {})})


def newest(server, channel):
    """The newest message of a channel, from its history."""
    with http() as client:
        answer = client.get(f"{server.url}/v1/channels/{channel}/history?limit=1000")
    assert answer.status_code == 200, answer.text
    return answer.json()["messages"][-1]


def count(server, channel):
    with http() as client:
        answer = client.get(f"{server.url}/v1/channels/{channel}")
    return answer.json()["sequence"] if answer.status_code == 200 else 0


@both
@pytest.mark.parametrize("kind", [None, "application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_json_is_published_as_it_is(server, channel, version, kind):
    answer = post(server, channel, ' {"b" : 1.0, "a":[null,true,"\\n"]}\n', kind, version)
    assert answer.status_code == 201 and answer.headers["content-type"].startswith("application/json")
    body = answer.json()
    assert set(body) == {"channel", "sequence", "position"}
    assert body["channel"] == channel and body["sequence"] == 1
    message = newest(server, channel)
    assert message["data"] == {"b": 1.0, "a": [None, True, "\n"]} and "encoding" not in message
    assert message["position"] == body["position"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", message["time"])
    assert not {"event", "key", "priority", "ttl", "replaces", "change", "skipped"} & set(message)


@both
@pytest.mark.parametrize("text", ["plain words", "", "line one\r\nline two\u2028\u0000\u001f\"\\ \U0001f514"])
def test_text_is_published_as_a_json_string(server, channel, version, text):
    assert post(server, channel, text, "text/plain; charset=utf-8", version).status_code == 201
    message = newest(server, channel)
    assert message["data"] == text and "encoding" not in message


@both
@pytest.mark.parametrize("octets", [b"", b"\x00", b"\xff\xfe", bytes(range(256)) * 5], ids=["none", "one", "two", "1280"])
def test_octets_are_published_in_base64(server, channel, version, octets):
    assert post(server, channel, octets, "application/octet-stream", version).status_code == 201
    message = newest(server, channel)
    assert message["encoding"] == "base64"
    assert base64.b64decode(message["data"], validate=True) == octets


def test_the_query_items_go_with_the_notification(server, channel):
    items = {"event": "goal", "key": "messi \u00e9", "priority": "critical", "ttl": "60", "replaces": "k&=", "change": "merge"}
    assert post(server, channel, "{}").status_code == 201  # a state that can be changed
    assert post(server, channel, "{}", **items).status_code == 201
    message = newest(server, channel)
    assert {name: message[name] for name in items} == {**items, "ttl": 60}


@pytest.mark.parametrize("priority", ["low", "normal", "high", "critical"])
def test_each_priority_is_taken_and_the_normal_one_is_not_said(server, channel, priority):
    assert post(server, channel, "1", priority=priority).status_code == 201
    assert newest(server, channel).get("priority", "normal") == priority
    assert ("priority" in newest(server, channel)) == (priority != "normal")


@pytest.mark.parametrize("name", ["event", "key", "replaces"])
def test_a_name_may_have_255_bytes_and_not_more(server, channel, name):
    assert post(server, channel, "1", **{name: "x" * 255}).status_code == 201
    assert_problem(post(server, channel, "1", **{name: "x" * 256}), 400, "bad-parameter")
    assert_problem(post(server, channel, "1", **{name: "\u00e9" * 128}), 400, "bad-parameter")
    assert count(server, channel) == 1


@pytest.mark.parametrize("items", [
    {"event": ""}, {"key": ""}, {"replaces": ""}, {"event": "a\nb"}, {"key": "a\x00"}, {"replaces": "\x7f"}, {"priority": "urgent"},
    {"priority": "HIGH"}, {"ttl": "soon"}, {"ttl": "-1"}, {"ttl": "1.5"}, {"ttl": "99999999999999999999"}, {"change": "replace"},
], ids=str)
def test_a_query_item_that_is_not_right_is_refused_by_name(server, channel, items):
    body = assert_problem(post(server, channel, "1", **items), 400, "bad-parameter")
    assert next(iter(items)) in body["detail"]
    assert count(server, channel) == 0


CLOUD = {"specversion": "1.0", "id": "A234-1234", "source": "/match/1", "type": "com.example.goal"}


@both
def test_a_structured_cloudevent_is_published_with_its_type_as_the_event(server, channel, version):
    event = {**CLOUD, "datacontenttype": "application/json", "subject": "final", "extension": "x", "data": {"score": [1, 0]}}
    answer = post(server, channel, json.dumps(event), "application/cloudevents+json; charset=utf-8", version)
    assert answer.status_code == 201, answer.text
    message = newest(server, channel)
    assert message["data"] == event and message["event"] == "com.example.goal"


@both
def test_a_binary_cloudevent_gives_the_same_notification_as_a_structured_one(server, channel, version):
    headers = {f"ce-{name}": value for name, value in {**CLOUD, "subject": "final", "extension": "x"}.items()}
    answer = post(server, channel, '{"score":[1,0]}', "application/json", version, headers)
    assert answer.status_code == 201, answer.text
    message = newest(server, channel)
    expected = {**CLOUD, "subject": "final", "extension": "x", "datacontenttype": "application/json", "data": {"score": [1, 0]}}
    assert message["data"] == expected and message["event"] == "com.example.goal"


def test_a_binary_cloudevent_of_octets_and_one_of_text_keep_their_payload(server, channel):
    headers = {f"ce-{name}": value for name, value in CLOUD.items()}
    assert post(server, channel, b"\xff\x00", "application/octet-stream", headers=headers).status_code == 201
    data = newest(server, channel)["data"]
    assert base64.b64decode(data["data_base64"]) == b"\xff\x00" and "data" not in data
    assert post(server, channel, "words", "text/plain", headers=headers).status_code == 201
    data = newest(server, channel)["data"]
    assert data.get("data") == "words" or base64.b64decode(data["data_base64"]) == b"words"


def test_a_header_of_a_binary_cloudevent_is_percent_decoded(server, channel):
    headers = {**{f"ce-{name}": value for name, value in CLOUD.items()}, "ce-subject": "Euro%20%E2%82%AC"}
    assert post(server, channel, "1", "application/json", headers=headers).status_code == 201
    assert newest(server, channel)["data"]["subject"] == "Euro \u20ac"


@pytest.mark.parametrize("missing", CLOUD)
def test_a_cloudevent_without_a_required_attribute_is_refused(server, channel, missing):
    event = {name: value for name, value in CLOUD.items() if name != missing}
    assert_problem(post(server, channel, json.dumps(event), "application/cloudevents+json"), 400, "bad-cloudevent")
    if missing != "specversion":
        headers = {f"ce-{name}": value for name, value in event.items()}
        assert_problem(post(server, channel, "1", "application/json", headers=headers), 400, "bad-cloudevent")
    assert count(server, channel) == 0


@pytest.mark.parametrize("content", [
    json.dumps({**CLOUD, "specversion": "0.3"}), json.dumps({**CLOUD, "id": ""}), json.dumps({**CLOUD, "type": 7}),
], ids=["version", "empty-id", "type-is-a-number"])
def test_a_cloudevent_that_is_none_is_refused(server, channel, content):
    assert_problem(post(server, channel, content, "application/cloudevents+json"), 400, "bad-cloudevent")
    assert count(server, channel) == 0


# Batches.

def batch(server, items, kind="application/json", version="1.1"):
    content = json.dumps(items) if kind == "application/json" else "".join(json.dumps(item) + "\n" for item in items)
    with http(version) as client:
        return client.post(f"{server.url}/v1/publish", content=content.encode(), headers={"Content-Type": kind})


FORMS = pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"], ids=["array", "ndjson"])


@both
@FORMS
def test_the_items_of_a_batch_are_published_in_order_and_those_refused_keep_none_back(server, channel, version, kind):
    items = [
        {"channel": channel, "data": 0, "event": "e", "key": "k", "priority": "low", "ttl": 5, "replaces": "r"},
        {"channel": "scores..a", "data": 1},
        {"channel": channel, "data": {"n": 2}},
        {"channel": channel},
        {"data": 4},
        {"channel": channel, "data": None, "priority": "urgent"},
        {"channel": f"{channel}.other", "data": None},
        {"channel": "scores.*", "data": 1},
    ]
    answer = batch(server, items, kind, version)
    assert answer.status_code == 201, answer.text
    results = answer.json()["results"]
    assert len(results) == len(items)
    taken = [index for index, result in enumerate(results) if "error" not in result]
    assert taken == [0, 2, 6]
    assert [results[index]["sequence"] for index in taken] == [1, 2, 1]
    assert [results[index]["channel"] for index in taken] == [channel, channel, f"{channel}.other"]
    for index in (1, 3, 4, 5, 7):
        error = results[index]["error"]
        assert {"type", "title", "status", "detail"} <= set(error) and error["type"].startswith("/problems/")
        assert 400 <= error["status"] < 500
    assert results[1]["error"]["type"] == results[7]["error"]["type"] == "/problems/bad-channel"
    with http() as client:
        first, second = client.get(f"{server.url}/v1/channels/{channel}/history").json()["messages"]
    assert {name: first[name] for name in items[0]} == items[0] and second["data"] == {"n": 2}
    assert second["position"] == results[2]["position"]
    assert newest(server, f"{channel}.other")["data"] is None


@FORMS
def test_a_batch_whose_items_are_all_refused_is_answered_with_400_and_the_results(server, kind):
    answer = batch(server, [{"channel": "scores..a", "data": 1}, {"data": 2}], kind)
    assert answer.status_code == 400
    assert len(answer.json()["results"]) == 2 and all("error" in result for result in answer.json()["results"])


@FORMS
def test_a_batch_of_1000_items_is_taken_and_one_of_1001_is_refused_whole(server, channel, kind):
    items = [{"channel": channel, "data": number} for number in range(1001)]
    answer = batch(server, items, kind)
    assert 400 <= answer.status_code < 500 and answer.headers["content-type"] == "application/problem+json", answer.text[:300]
    assert count(server, channel) == 0
    answer = batch(server, items[:1000], kind)
    assert answer.status_code == 201 and len(answer.json()["results"]) == 1000
    assert count(server, channel) == 1000


@pytest.mark.parametrize("content, kind", [
    ('[{"channel":"scores.a","data":1}', "application/json"), ('{"channel":"scores.a","data":1}', "application/json"),
    ("7", "application/json"), ("", "application/json"), ('[{"channel":"scores.a","data":1},]', "application/json"),
], ids=["cut-off", "object", "number", "empty", "comma"])
def test_a_batch_that_is_not_of_the_form_is_refused_whole(server, content, kind):
    with http() as client:
        answer = client.post(f"{server.url}/v1/publish", content=content, headers={"Content-Type": kind})
    assert_problem(answer, 400, "bad-json")


def test_the_last_line_of_ndjson_needs_no_line_break_and_carriage_returns_are_taken(server, channel):
    line = json.dumps({"channel": channel, "data": 1})
    with http() as client:
        answer = client.post(f"{server.url}/v1/publish", content=f"{line}\r\n{line}", headers={"Content-Type": "application/x-ndjson"})
    assert answer.status_code == 201 and [result["sequence"] for result in answer.json()["results"]] == [1, 2]


# Idempotency.

@both
def test_a_request_again_under_its_idempotency_key_gets_the_first_answer_and_publishes_nothing(server, channel, version):
    headers = {"Idempotency-Key": f"key-{channel}"}
    first = post(server, channel, '{"a":1}', version=version, headers=headers, event="goal")
    assert first.status_code == 201
    for _ in range(2):
        again = post(server, channel, '{"a":1}', version=version, headers=headers, event="goal")
        assert again.status_code == 200 and again.json() == first.json()
    assert count(server, channel) == 1


@pytest.mark.parametrize("change", ["body", "event", "channel", "content-type"])
def test_another_request_under_a_used_idempotency_key_is_refused(server, channel, change):
    headers = {"Idempotency-Key": f"key-{channel}"}
    assert post(server, channel, '"a"', "application/json", headers=headers).status_code == 201
    other = post(server, f"{channel}.b" if change == "channel" else channel, '"b"' if change == "body" else '"a"',
                 "text/plain" if change == "content-type" else "application/json", headers=headers,
                 **({"event": "e"} if change == "event" else {}))
    assert_problem(other, 409, "idempotency-key-reused")
    assert count(server, channel) == 1 and count(server, f"{channel}.b") == 0


def test_a_batch_again_under_its_idempotency_key_gets_the_first_answer(server, channel):
    items = [{"channel": channel, "data": number} for number in range(3)]
    with http() as client:
        send = {"json": items, "headers": {"Idempotency-Key": f"batch-{channel}"}}
        first = client.post(f"{server.url}/v1/publish", **send)
        again = client.post(f"{server.url}/v1/publish", **send)
    assert (first.status_code, again.status_code) == (201, 200) and first.json() == again.json()
    assert count(server, channel) == 3


def test_an_idempotency_key_has_1_to_255_bytes(server, channel):
    longest = channel + "k" * (255 - len(channel))
    assert post(server, channel, "1", headers={"Idempotency-Key": longest}).status_code == 201
    for key in (longest + "k", ""):
        answer = post(server, channel, "2", headers={"Idempotency-Key": key})
        assert answer.status_code == 400 and answer.headers["content-type"] == "application/problem+json", answer.text
    assert count(server, channel) == 1


# The errors of section 6.

@both
@pytest.mark.parametrize("name", [
    "scores..a", ".scores", "scores.", "scores.*", "scores.>", "scores.a%20b", "scores.%C3%A9", "scores.a%00", "scores." + "x" * 249,
    ".".join(["scores"] + ["t"] * 16), "scores.a:b", "scores.a%2Fb",
])
def test_a_channel_that_is_none_is_refused(server, version, name):
    assert_problem(post(server, name, "1", version=version), 400, "bad-channel")


def test_a_channel_may_have_16_tokens_and_255_bytes(server):
    for name in (".".join(["scores"] + ["t"] * 15), "scores." + "x" * 248):
        assert post(server, name, "1").status_code == 201


@both
@pytest.mark.parametrize("items, status, problem", [
    ("", 400, "no-channel"),
    ("channel=scores..a", 400, "bad-channel"),
    ("channel=scores.%3E.a", 400, "bad-channel"),
    ("channel=scores.a*", 400, "bad-channel"),
    ("channel=scores.a&after=nothing", 400, "bad-position"),
    ("channel=scores.a&after=", 400, "bad-position"),
    ("channel=scores.a&after=12.x", 400, "bad-position"),
    ("channel=scores.a&heartbeat=0", 400, "bad-parameter"),
    ("channel=scores.a&heartbeat=301", 400, "bad-parameter"),
    ("channel=scores.a&heartbeat=x", 400, "bad-parameter"),
    ("channel=scores.a&wait=x", 400, "bad-parameter"),
    ("channel=scores.a&" + "&".join(f"channel=scores.{number}" for number in range(100)), 400, "too-many-channels"),
], ids=lambda value: str(value)[:40])
def test_a_subscription_that_is_not_right_is_refused(server, version, items, status, problem):
    with http(version) as client:
        answer = client.get(f"{server.url}/v1/subscribe?{items}")
        body = assert_problem(answer, status, problem)
        if problem == "too-many-channels":
            assert {"rule", "configuration_key"} <= set(body), body


@both
@pytest.mark.parametrize("items", ["format=xml", "pad=65537", "pad=-1", "pad=x", "heartbeat=0"])
def test_an_event_stream_that_is_not_right_is_refused(server, version, items):
    with http(version) as client:
        answer = client.get(f"{server.url}/v1/subscribe?channel=scores.a&{items}", headers={"Accept": "text/event-stream"})
        assert_problem(answer, 400, "bad-parameter")


def test_a_last_event_id_that_is_none_is_refused(server):
    with http() as client:
        answer = client.get(f"{server.url}/v1/subscribe?channel=scores.a",
                            headers={"Accept": "text/event-stream", "Last-Event-ID": "nothing"})
        assert_problem(answer, 400, "bad-position")


@pytest.mark.parametrize("content, problem", [
    ("{", "bad-json"), ("[]", "bad-json"), ('{"channels":[]}', "no-channel"), ("{}", "no-channel"),
    ('{"channels":["scores..a"]}', "bad-channel"), ('{"channels":["scores.a"],"after":"x"}', "bad-position"),
    ('{"channels":["scores.a"],"heartbeat":0}', "bad-parameter"), ('{"channels":["scores.a"],"wait":"x"}', "bad-parameter"),
])
def test_a_subscription_by_post_that_is_not_right_is_refused(server, content, problem):
    with http() as client:
        assert_problem(client.post(f"{server.url}/v1/subscribe", content=content, headers=JSON), 400, problem)


@both
@pytest.mark.parametrize("content", [
    "", "{", "{'a':1}", '{"a":1}{', "nul", "01", "1.", '"\t"', '"\\ud800"x', "[1,]", b"\xff", b'"\xc3("', b"\xef\xbb\xbf1x", "NaN",
    "[" * 100_000,
], ids=lambda value: repr(value)[:20])
def test_a_payload_that_is_not_json_is_refused(server, channel, version, content):
    assert_problem(post(server, channel, content, "application/json", version), 400, "bad-json")
    assert count(server, channel) == 0


def test_a_text_that_is_not_utf8_is_refused(server, channel):
    answer = post(server, channel, b"caf\xe9", "text/plain")
    assert answer.status_code == 400 and answer.headers["content-type"] == "application/problem+json", answer.text
    assert count(server, channel) == 0


@both
@pytest.mark.parametrize("kind", ["application/xml", "multipart/form-data; boundary=x", "nonsense"])
def test_a_content_type_that_is_not_served_is_refused(server, channel, version, kind):
    assert_problem(post(server, channel, "1", kind, version), 415, "unsupported-media-type")
    with http(version) as client:
        answer = client.post(f"{server.url}/v1/publish", content="[]", headers={"Content-Type": kind})
        assert_problem(answer, 415, "unsupported-media-type")


@both
@pytest.mark.parametrize("path", ["/v1/nothing", "/v2/subscribe", "/v1/channels", "/v1", "/v1/channels/scores.a/nothing"])
def test_a_path_that_is_not_there_is_not_found(server, version, path):
    with http(version) as client:
        assert_problem(client.get(server.url + path), 404, "not-found")


@both
def test_a_channel_that_never_had_a_message_is_not_found(server, channel, version):
    with http(version) as client:
        assert_problem(client.get(f"{server.url}/v1/channels/{channel}"), 404, "not-found")


@both
@pytest.mark.parametrize("method, path, allowed", [
    ("DELETE", "/v1/channels/scores.a", {"GET", "POST"}), ("PUT", "/v1/channels/scores.a", {"GET", "POST"}),
    ("GET", "/v1/publish", {"POST"}), ("DELETE", "/v1/subscribe", {"GET", "POST"}), ("POST", "/healthz", {"GET"}),
    ("POST", "/metrics", {"GET"}), ("POST", "/v1/channels/scores.a/history", {"GET"}),
])
def test_a_method_that_is_not_served_is_refused_with_those_that_are(server, version, method, path, allowed):
    with http(version) as client:
        answer = client.request(method, server.url + path, content=b"1" if method == "POST" else None)
        assert_problem(answer, 405, "method-not-allowed")
        assert allowed <= {word.strip() for word in answer.headers["allow"].split(",")}


@both
@pytest.mark.parametrize("accept", [
    "image/png", "text/html, image/*", "text/event-stream;q=0", "application/json; q=0.000, text/html"])
def test_a_client_that_accepts_nothing_that_is_served_is_told(server, version, accept):
    with http(version) as client:
        answer = client.get(f"{server.url}/v1/subscribe?channel=scores.a", headers={"Accept": accept})
        assert_problem(answer, 406, "not-acceptable")


@both
@pytest.mark.parametrize("accept", [
    "*/*", "application/json", "application/*", "text/html, */*;q=0.1", "text/event-stream; Q=0, application/json"])
def test_a_client_that_accepts_json_polls(server, version, accept):
    with http(version) as client:
        answer = client.get(f"{server.url}/v1/subscribe?channel=scores.a", headers={"Accept": accept})
        assert answer.status_code == 200 and answer.json()["messages"] == []


@both
def test_a_payload_of_one_mebibyte_is_taken_and_one_byte_more_is_refused(server, channel, version):
    text = '"' + "x" * (1024 * 1024 - 2) + '"'
    assert post(server, channel, text, version=version).status_code == 201
    assert_problem(post(server, channel, f'"x{text[1:]}', version=version), 413, "body-too-large")
    assert count(server, channel) == 1


@pytest.mark.parametrize("kind", ["application/geo+json", "application/x-www-form-urlencoded"])
def test_what_is_json_by_another_name_is_taken(server, channel, kind):
    assert post(server, channel, '{"a":1}', kind).status_code == 201
    assert newest(server, channel)["data"] == {"a": 1}
    assert_problem(post(server, channel, "a=1", kind), 400, "bad-json")


@both
def test_a_page_of_an_origin_that_is_not_configured_may_not_publish(server, channel, version):
    answer = post(server, channel, "1", version=version, headers={"Origin": "https://elsewhere.example"})
    assert_problem(answer, 403, "origin-not-allowed")
    assert count(server, channel) == 0


def test_a_page_of_an_origin_that_is_not_configured_may_not_open_a_websocket(server):
    headers = {**HANDSHAKE, "Origin": "https://elsewhere.example"}
    with http() as client:
        assert_problem(client.get(f"{server.url}/v1/subscribe?channel=scores.a", headers=headers), 403, "origin-not-allowed")


ELSEWHERE = "https://elsewhere.example"


def test_a_page_of_an_origin_that_is_configured_is_served(start_server, channel):
    server = start_server(arguments=["--allow-origin", ELSEWHERE])
    assert post(server, channel, "1", headers={"Origin": ELSEWHERE}).status_code == 201
    assert_problem(post(server, channel, "1", headers={"Origin": "https://another.example"}), 403, "origin-not-allowed")
    head = "".join(f"{name}: {value}\r\n" for name, value in {**HANDSHAKE, "Host": "a", "Origin": ELSEWHERE}.items())
    answer, _ = exchange(server.port, f"GET /v1/subscribe HTTP/1.1\r\n{head}\r\n".encode(), 1)
    assert answer.status_code == 101


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_a_page_of_an_origin_that_is_configured_may_read_the_answers(start_server, channel, accept):
    server = start_server(arguments=["--allow-origin", ELSEWHERE])
    url = f"{server.url}/v1/subscribe?{query(channel)}"
    with http() as client, client.stream("GET", url, headers={"Origin": ELSEWHERE, "Accept": accept}) as answer:
        assert answer.status_code == 200
        assert answer.headers.get("access-control-allow-origin") in ("*", ELSEWHERE)


@pytest.mark.parametrize("removed", ["Upgrade", "Connection"])
def test_a_handshake_that_a_proxy_took_the_upgrade_from_is_refused(server, removed):
    headers = {name: value for name, value in HANDSHAKE.items() if name != removed}
    with http() as client:
        assert_problem(client.get(f"{server.url}/v1/subscribe?channel=scores.a", headers=headers), 400, "bad-handshake")


def test_a_body_that_says_it_is_too_large_is_refused_over_http1_before_it_comes(server):
    head = "POST /v1/channels/scores.large HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\nContent-Type: text/plain\r\n\r\n"
    answer, closed = exchange(server.port, head.format(16 * 1024 * 1024 + 1).encode())
    assert_problem(answer, 413, "body-too-large")
    assert closed


@pytest.mark.parametrize("headers", [[], [("content-length", str(17 * 1024 * 1024))]], ids=["without-length", "with-length"])
def test_a_body_that_grows_too_large_is_refused_over_http2(server, headers):
    with RawHTTP2(server.port) as client:
        stream = client.request("POST", "/v1/channels/scores.large", ("content-type", "text/plain"), *headers, end=False)
        status, kind, text = client.upload(stream, 17 * 1024 * 1024)
        assert (status, kind) == (413, "application/problem+json") and json.loads(text)["type"] == "/problems/body-too-large"
        stream = client.request("GET", "/healthz")
        assert any(getattr(event, "stream_id", None) == stream and isinstance(event, h2.events.StreamEnded)
                   for event in client.events(2)), "the connection does not go on"


def test_a_chunked_body_that_grows_too_large_is_refused_over_http1(server):
    chunks = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    head = b"POST /v1/channels/scores.large HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n"
    answer, closed = exchange(server.port, head + chunks * 17)
    assert_problem(answer, 413, "body-too-large")
    assert closed


HANDSHAKE = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "AQIDBAUGBwgJCgsMDQ4PEA==",
             "Sec-WebSocket-Version": "13"}


@pytest.mark.parametrize("changed", [{"Sec-WebSocket-Key": None}, {"Sec-WebSocket-Key": "short"},
                                     {"Sec-WebSocket-Key": "AQIDBAUGBwgJCgsMDQ4P"}], ids=str)
def test_a_websocket_handshake_that_is_not_right_is_refused(server, changed):
    headers = {name: value for name, value in {**HANDSHAKE, **changed}.items() if value}
    with http() as client:
        assert_problem(client.get(f"{server.url}/v1/subscribe", headers=headers), 400, "bad-handshake")


@pytest.mark.parametrize("wanted", ["8", "12", "14"])
def test_a_websocket_version_other_than_13_is_told_which_one_is_served(server, wanted):
    with http() as client:
        answer = client.get(f"{server.url}/v1/subscribe", headers={**HANDSHAKE, "Sec-WebSocket-Version": wanted})
    assert_problem(answer, 426, "upgrade-required")
    assert answer.headers["sec-websocket-version"] == "13"


def test_what_is_refused_leaves_no_message_behind(server, channel):
    publish(server, channel, "first")
    for content in ("{", "", "nul"):
        assert post(server, channel, content).status_code == 400
    publish(server, channel, "second")
    with http() as client:
        body = client.get(f"{server.url}/v1/subscribe?{query(channel, after='earliest')}").json()
    assert [(message["sequence"], message["data"]) for message in body["messages"]] == [(1, "first"), (2, "second")]


# Trace context.

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


@both
def test_a_traceparent_is_kept_with_its_message(server, channel, version):
    assert post(server, channel, '{"x":1}', version=version, headers={"traceparent": TRACE}).status_code == 201
    assert newest(server, channel)["traceparent"] == TRACE
    assert post(server, channel, '{"x":1}', version=version).status_code == 201
    assert "traceparent" not in newest(server, channel)


@pytest.mark.parametrize("wrong", ["", "x", TRACE.upper(), TRACE + "0", "00-" + "0" * 32 + TRACE[35:], "ff" + TRACE[2:]])
def test_a_traceparent_that_is_none_is_left_out(server, channel, wrong):
    assert post(server, channel, '{"x":1}', headers={"traceparent": wrong}).status_code == 201
    assert "traceparent" not in newest(server, channel)


def test_items_of_a_batch_may_have_a_traceparent_of_their_own(server, channel):
    items = [{"channel": channel, "data": 1}, {"channel": channel, "data": 2, "traceparent": OTHER_TRACE},
             {"channel": channel, "data": 3, "traceparent": "x"}]
    with http() as client:
        answer = client.post(f"{server.url}/v1/publish", json=items, headers={"traceparent": TRACE})
        messages = client.get(f"{server.url}/v1/channels/{channel}/history").json()["messages"]
    assert answer.status_code == 201
    assert answer.json()["results"][2]["error"]["type"] == "/problems/bad-parameter"
    assert [message["traceparent"] for message in messages] == [TRACE, OTHER_TRACE]


def test_a_traceparent_is_no_query_item(server, channel):
    assert_problem(post(server, channel, "1", traceparent=TRACE), 400, "bad-parameter")
