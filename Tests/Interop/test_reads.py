"""Information on a channel, its history, health and metrics."""

import contextlib

import h2.events
import pytest
import websockets.sync.client
from prometheus_client.parser import text_string_to_metric_families

from support import RawHTTP2, assert_problem, connect, eventually, http, publish, publish_many, query, trusting_context

both = pytest.mark.parametrize("version", ["1.1", "2"], ids=["http1", "http2"])


@both
def test_the_information_on_a_channel_has_the_numbers_of_its_newest_message(server, channel, version):
    publish_many(server, [(channel, number) for number in range(6)])
    last = publish(server, channel, "x" * 100)
    with http(version) as client:
        body = client.get(f"{server.url}/v1/channels/{channel}").json()
        newest = client.get(f"{server.url}/v1/channels/{channel}/history").json()["messages"][-1]
    assert set(body) >= {"channel", "sequence", "position", "time", "first_sequence", "count", "bytes"}
    assert (body["channel"], body["sequence"], body["first_sequence"], body["count"]) == (channel, 7, 1, 7)
    assert body["position"] == last["position"] and body["time"] == newest["time"] and body["bytes"] > 100


def test_the_information_follows_what_is_kept(start_server, channel):
    server = start_server(arguments=["--keep-messages", "5"])
    publish_many(server, [(channel, number) for number in range(1, 21)])
    with http() as client:
        body = client.get(f"{server.url}/v1/channels/{channel}").json()
        history = client.get(f"{server.url}/v1/channels/{channel}/history").json()
    assert (body["sequence"], body["first_sequence"], body["count"]) == (20, 16, 5)
    assert [message["data"] for message in history["messages"]] == [16, 17, 18, 19, 20]
    assert (history["first_sequence"], history["last_sequence"]) == (16, 20)


@both
def test_the_history_is_read_page_by_page(server, channel, version):
    publish_many(server, [(channel, number) for number in range(1, 26)])
    url = f"{server.url}/v1/channels/{channel}/history"
    after, seen, pages = 0, [], []
    with http(version) as client:
        while True:
            body = client.get(url, params={"after": after, "limit": 10}).json()
            assert body["channel"] == channel and (body["first_sequence"], body["last_sequence"]) == (1, 25)
            seen += [message["sequence"] for message in body["messages"]]
            pages.append((len(body["messages"]), body["more"]))
            after = seen[-1]
            if not body["more"]:
                break
        assert client.get(url, params={"after": 25}).json()["messages"] == []
        assert len(client.get(url).json()["messages"]) == 25
    assert seen == list(range(1, 26)) and pages == [(10, True), (10, True), (5, False)]


def test_the_history_has_100_messages_unless_more_are_asked_for_and_at_most_1000(server, channel):
    publish_many(server, [(channel, number) for number in range(1100)])
    url = f"{server.url}/v1/channels/{channel}/history"
    with http() as client:
        assert len(client.get(url).json()["messages"]) == 100
        body = client.get(url, params={"limit": 1000}).json()
        assert len(body["messages"]) == 1000 and body["more"] is True
        for items in ("limit=0", "limit=1001", "limit=x", "after=x", "after=-1"):
            assert_problem(client.get(f"{url}?{items}"), 400, "bad-parameter")


def test_a_history_of_a_channel_that_never_had_a_message_is_no_fault_of_the_server(server, channel):
    with http() as client:
        answer = client.get(f"{server.url}/v1/channels/{channel}/history")
    if answer.status_code == 200:
        assert answer.json()["messages"] == [] and answer.json()["more"] is False
    else:
        assert_problem(answer, 404, "not-found")


@both
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_server_that_runs_is_healthy_and_ready(server, version, path):
    with http(version) as client:
        assert client.get(server.url + path).status_code == 200


def samples(server, version="1.1"):
    """The metrics by name and labels; the parser of the Prometheus client refuses what is not of its format."""
    with http(version) as client:
        answer = client.get(f"{server.url}/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
    found = {}
    for family in text_string_to_metric_families(answer.text):
        assert family.name.startswith("tocsin_") and family.documentation and family.type in ("counter", "gauge", "histogram")
        for sample in family.samples:
            name = (sample.name, *sorted(sample.labels.items()))
            assert name not in found, f"{name} is there twice"
            found[name] = sample.value
    return found


@both
def test_the_metrics_are_of_the_prometheus_text_format_and_count_publications(server, channel, version):
    before = samples(server, version)
    publish_many(server, [(channel, number) for number in range(17)])
    after = samples(server, version)
    assert after[("tocsin_published_total",)] - before[("tocsin_published_total",)] == 17
    assert after[("tocsin_connections",)] >= 1 and after[("tocsin_draining",)] == 0


def subscribers(server):
    values = samples(server)
    return [values[("tocsin_subscribers", ("transport", name))] for name in ("websocket", "sse", "long_poll")]


def deliveries(server):
    values = samples(server)
    return [values[("tocsin_deliveries_total", ("transport", name))] for name in ("websocket", "sse", "long_poll")]


def test_the_subscribers_by_transport_go_up_with_each_and_down_when_it_goes(fresh_server, channel):
    server = fresh_server
    assert subscribers(server) == [0, 0, 0]
    position = publish(server, channel, 0)["position"]
    with contextlib.ExitStack() as stack:
        for number in range(3):
            socket = stack.enter_context(websockets.sync.client.connect(
                f"wss://127.0.0.1:{server.tls_port}/v1/subscribe?{query(channel)}", proxy=None, ssl=trusting_context()))
            socket.recv(5)
        eventually(lambda: subscribers(server) == [3, 0, 0], "three WebSockets are counted")
        client = stack.enter_context(RawHTTP2(server.port))
        path = f"/v1/subscribe?{query(channel)}"
        streams = [client.request("GET", path, ("accept", "text/event-stream")) for _ in range(2)]
        opened = (event for event in client.events() if isinstance(event, h2.events.ResponseReceived))
        assert {next(opened).stream_id, next(opened).stream_id} == set(streams)
        eventually(lambda: subscribers(server) == [3, 2, 0], "two event streams are counted")
        with connect(server.port) as raw:
            raw.sendall(f"GET /v1/subscribe?{query(channel, after=position)} HTTP/1.1\r\nHost: a\r\nPrefer: wait=20\r\n\r\n".encode())
            eventually(lambda: subscribers(server) == [3, 2, 1], "a parked poll is counted")
            before = deliveries(server)
            publish(server, channel, 1)
            raw.settimeout(5)
            assert b'"sequence":2' in raw.recv(65536)
            eventually(lambda: subscribers(server) == [3, 2, 0], "a poll that was answered is not counted")
            eventually(lambda: [new - old for new, old in zip(deliveries(server), before)] == [3, 2, 1],
                       "each delivery is counted on its transport")
        with connect(server.port) as raw:
            head = f"GET /v1/subscribe?{query(channel, after='latest')} HTTP/1.1\r\nHost: a\r\nPrefer: wait=20\r\n\r\n"
            raw.sendall(head.encode())
            eventually(lambda: subscribers(server)[2] == 1, "a poll after the latest is parked")
        eventually(lambda: subscribers(server) == [3, 2, 0], "a poll whose client went is not counted")
        for identifier in streams:
            client.reset(identifier)
        eventually(lambda: subscribers(server) == [3, 0, 0], "streams that were reset are not counted")
    eventually(lambda: subscribers(server) == [0, 0, 0], "WebSockets that were closed are not counted")
