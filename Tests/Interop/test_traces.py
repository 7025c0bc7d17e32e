"""Trace context from publish to delivery, and in the log."""

import json
import re

import pytest
import websockets.sync.client

from support import WAYS, eventually, following, http, run

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACE = f"00-{TRACE_ID}-{SPAN_ID}-01"


@pytest.mark.parametrize("way", list(WAYS))
def test_a_traceparent_comes_with_its_message_over_each_transport(server, channel, way):
    port = server.tls_port if WAYS[way][2] else server.port

    async def go():
        async with following(way, port, channel, "earliest") as source:
            with http() as client:
                url = f"{server.url}/v1/channels/{channel}"
                assert client.post(url, content="1", headers={"traceparent": TRACE}).status_code == 201
                assert client.post(url, content="2").status_code == 201
            first, second = await anext(source), await anext(source)
        return first, second

    first, second = run(go())
    assert first["traceparent"] == TRACE and first["data"] == 1
    assert "traceparent" not in second


def test_who_was_away_gets_the_same_bytes(server, channel):
    with http() as client:
        url = f"{server.url}/v1/channels/{channel}"
        client.post(url, content="1", headers={"traceparent": TRACE})
        live = client.get(f"{server.url}/v1/subscribe?channel={channel}&after=earliest").json()["messages"]
        kept = client.get(f"{url}/history").json()["messages"]
    assert live[-1] == kept[-1] and kept[-1]["traceparent"] == TRACE


def test_a_websocket_command_may_name_a_traceparent(server, channel):
    with websockets.sync.client.connect(f"ws://127.0.0.1:{server.port}/v1/subscribe?channel={channel}", proxy=None) as socket_:
        assert json.loads(socket_.recv(10))["type"] == "hello"
        socket_.send(json.dumps({"id": 1, "type": "publish", "channel": channel, "data": 1, "traceparent": TRACE}))
        messages = [json.loads(socket_.recv(10)) for _ in range(2)]
    (notification,) = [message for message in messages if message["type"] == "notification"]
    assert notification["traceparent"] == TRACE


@pytest.mark.parametrize("processes", [1, 2])
def test_it_outlives_a_restart_and_goes_between_processes(start_server, tmp_path, processes):
    arguments = ("--store", str(tmp_path / "log.sqlite"), "--processes", str(processes), "--loops", "1")
    server = start_server(arguments=arguments)
    with http() as client:
        client.post(f"{server.url}/v1/channels/news.a", content="1", headers={"traceparent": TRACE})
    assert server.stop() == 0
    server = start_server(arguments=arguments)
    with http() as client:
        (message,) = client.get(f"{server.url}/v1/channels/news.a/history").json()["messages"]
    assert message["traceparent"] == TRACE


def test_the_lines_of_a_request_have_its_trace(start_server):
    server = start_server(arguments=("--log-level", "debug"))
    with http() as client:
        client.post(f"{server.url}/v1/channels/news.a?key=secret", content="1", headers={"traceparent": TRACE})
        client.get(f"{server.url}/v1/channels/news.none")
        client.get(f"{server.url}/v1/subscribe?channel=news.a")

    def lines(**members):
        return [line for line in list(server.log) if all(line.get(name) == value for name, value in members.items())]

    (line,) = eventually(lambda: lines(trace_id=TRACE_ID), "the publish is in the log")
    assert re.fullmatch("[0-9a-f]{16}", line["span_id"]) and line["span_id"] != SPAN_ID
    assert line["parent_span_id"] == SPAN_ID and line["trace_flags"] == "01"
    assert (line["method"], line["path"], line["status"]) == ("POST", "/v1/channels/news.a", "201")
    (line,) = eventually(lambda: lines(path="/v1/channels/news.none"), "the read is in the log")
    assert re.fullmatch("[0-9a-f]{32}", line["trace_id"]) and line["status"] == "404" and "parent_span_id" not in line
    (line,) = eventually(lambda: lines(message="subscribed"), "the poll is in the log")
    assert line["channels"] == "news.a" and line["transport"] == "long_poll"
    assert "secret" not in "".join(server.output)


def test_without_debug_requests_are_not_logged(start_server):
    server = start_server()
    with http() as client:
        client.post(f"{server.url}/v1/channels/news.a", content="1", headers={"traceparent": TRACE})
    assert server.stop() == 0
    assert not [line for line in server.log if "trace_id" in line]
