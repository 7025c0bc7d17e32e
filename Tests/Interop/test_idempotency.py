"""`Idempotency-Key`: what counts as the same request, whose a key is, how long it is known, and what it costs."""

import contextlib
import json
import subprocess

import pytest

from support import Server, assert_problem, binary, eventually, http
from test_api_keys import run, with_key
from test_tokens import bearer, key  # noqa: F401

EVENT = {"ce-specversion": "1.0", "ce-source": "/s", "Content-Type": "application/json"}


@contextlib.contextmanager
def serving(store, *arguments):
    server = Server(arguments=("--store", str(store), *arguments))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(params=["disk", "memory"])
def store(request, tmp_path):
    return tmp_path / "log.sqlite" if request.param == "disk" else ":memory:"


def post(server, channel, body, key, query="", **fields):
    with http() as client:
        return client.post(f"{server.url}/v1/channels/{channel}{query}", content=body, headers={"Idempotency-Key": key, **fields})


def metrics(server):
    with http() as client:
        lines = client.get(f"{server.url}/metrics").text.splitlines()
    return {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith("tocsin_idempotency")}


def count(server, channel):
    with http() as client:
        answer = client.get(f"{server.url}/v1/channels/{channel}")
    return answer.json()["sequence"] if answer.status_code == 200 else 0


def test_a_binary_cloudevent_of_another_id_or_type_is_another_request(server, channel):
    first = {"ce-id": "1", "ce-type": "order.created", **EVENT}
    assert post(server, channel, "1", channel, **first).status_code == 201
    assert post(server, channel, "1", channel, **first).status_code == 200
    for other in ({**first, "ce-id": "2"}, {**first, "ce-type": "order.cancelled"}, {**first, "ce-source": "/t"}):
        assert_problem(post(server, channel, "1", channel, **other), 409, "idempotency-key-reused")
    assert count(server, channel) == 1


def test_the_same_publication_written_in_another_way_is_the_same_request(server, channel):
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    first = post(server, channel, '{"a": 1}', channel, "?event=goal&key=k")
    assert first.status_code == 201
    for body, query, fields in [('{"a": 1}', "?key=k&event=goal", {}), ('{ "a":1 }', "?event=g%6Fal&key=k", {}),
                                ('{"a":1}', "?key=k&event=goal", {"Content-Type": "application/problem+json", "traceparent": trace})]:
        again = post(server, channel, body, channel, query, **fields)
        assert again.status_code == 200 and again.json() == first.json(), again.text
    assert count(server, channel) == 1


def test_a_request_has_one_idempotency_key(server, channel):
    with http() as client:
        for url, body in ((f"/v1/channels/{channel}", "1"), ("/v1/publish", json.dumps([{"channel": channel, "data": 1}]))):
            answer = client.post(server.url + url, content=body, headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")])
            assert_problem(answer, 400, "bad-parameter")
    assert count(server, channel) == 0


def test_a_key_is_its_publishers_own(start_server, key, tmp_path):  # noqa: F811
    api_key = run("key", "make", "--name", "ann", "--publish", "news.>", "--file", tmp_path / "api")
    server = start_server(arguments=["--token-key", str(key), "--api-keys", str(tmp_path / "api")])
    shown = [bearer("ann"), bearer("bob"), with_key(api_key)]
    firsts = [post(server, "news.shared", '"hello"', "order-1", **fields) for fields in shown]
    assert [answer.status_code for answer in firsts] == [201, 201, 201], [answer.text for answer in firsts]
    assert [answer.json()["sequence"] for answer in firsts] == [1, 2, 3]
    for fields, first in zip(shown, firsts):
        again = post(server, "news.shared", '"hello"', "order-1", **fields)
        assert again.status_code == 200 and again.json() == first.json()


def test_workers_know_whose_a_key_is(tmp_path, key):  # noqa: F811
    with serving(tmp_path / "log.sqlite", "--processes", "2", "--loops", "1", "--token-key", str(key)) as server:
        for number in range(4):
            for sequence, name in enumerate(("ann", "bob"), 1):
                answer = post(server, "news.a", "1", "k", **bearer(name))
                assert answer.status_code == (200 if number else 201) and answer.json()["sequence"] == sequence
        figures = eventually(lambda: metrics(server).get("tocsin_idempotency_keys") == 2 and metrics(server), "both are counted")
        assert figures["tocsin_idempotency_forgotten_total"] == 0


def test_more_keys_than_are_kept_are_forgotten_and_counted(store):
    with serving(store, "--idempotency", "keys:10") as server:
        assert post(server, "news.a", "1", "first").status_code == 201
        for number in range(30):
            assert post(server, "news.a", "1", f"key {number}").status_code == 201
        eventually(lambda: metrics(server)["tocsin_idempotency_keys"] == 10, "ten are left")
        assert metrics(server)["tocsin_idempotency_forgotten_total"] == 21
        assert post(server, "news.a", "1", "key 29").status_code == 200
        assert post(server, "news.a", "1", "first").status_code == 201


def test_keys_are_bounded_by_bytes(store):
    batch = [{"channel": f"news.{'c' * 60}.k{number:04}{'d' * 60}", "data": 1} for number in range(1000)]
    with serving(store, "--idempotency", "bytes:64KiB") as server, http() as client:
        for number in range(30):
            answer = client.post(f"{server.url}/v1/publish", json=batch, headers={"Idempotency-Key": f"key {number}"})
            assert answer.status_code == 201
        figures = eventually(
            lambda: metrics(server)["tocsin_idempotency_forgotten_total"] > 10 and metrics(server), "the oldest are forgotten")
        # With the names of the channels one would take 137 KB.
        assert 10 <= figures["tocsin_idempotency_keys"] <= 19 and figures["tocsin_idempotency_bytes"] < 73_000, figures
        again = client.post(f"{server.url}/v1/publish", json=batch, headers={"Idempotency-Key": "key 29"})
        assert again.status_code == 200 and again.json() == answer.json()


def test_a_key_is_known_for_as_long_as_is_said(store):
    with serving(store, "--idempotency", "age:1s") as server:
        first = post(server, "news.a", "1", "k")
        assert first.status_code == 201
        eventually(lambda: post(server, "news.a", "1", "k").status_code == 201, "it is taken anew after a second")


@pytest.mark.parametrize("text, words", [
    ("keys:0", "keys are 1 to"), ("messages:5", "keys:50000"), ("age:1", "1s to 3650d"), ("bytes:1", "1024 to 1024GiB"), ("", "not known"),
])
def test_what_cannot_be_is_said_with_what_can(text, words):
    line = [binary(), "serve", "--port", "0", "--store", ":memory:", "--idempotency", text]
    answer = subprocess.run(line, capture_output=True, text=True, timeout=20)
    assert answer.returncode == 64 and words in answer.stderr, answer.stderr
