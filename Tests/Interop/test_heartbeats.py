"""Heartbeats come at the interval that was asked for, padded where that was asked for; who answers none is let go."""

import json
import time

import pytest
import websockets.sync.client

from support import RawWebSocket, event_stream, http, query


@pytest.mark.parametrize("pad", [None, 0, 10, 4096])
def test_an_event_stream_has_comments_padded_as_asked_for(server, channel, pad):
    with event_stream(server.port, f"/v1/subscribe?{query(channel, pad=pad)}") as stream:
        start, data = time.monotonic(), b""
        wanted = b"\n:" + b" " * (pad or 0) + b"\n\n"
        # What is sent at once is padded too: hello.
        count = 3 if pad else 2
        stream.settimeout(5)
        while data.replace(b"\r", b"").count(wanted) < count and time.monotonic() - start < 6:
            data += stream.recv(65536)
        seconds = time.monotonic() - start
    assert data.replace(b"\r", b"").count(wanted) == count, data[-300:]
    assert 1.2 <= seconds <= 4, f"two heartbeats of a second came within {seconds:.1f} s"


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_a_heartbeat_of_ones_own_is_told_in_hello_and_kept(server, channel, version):
    with http(version) as client:
        with client.stream("GET", f"{server.tls_url}/v1/subscribe?{query(channel, heartbeat=2)}",
                           headers={"Accept": "text/event-stream"}) as answer:
            start, beats = time.monotonic(), []
            for line in answer.iter_lines():
                if '"type":"hello"' in line:
                    assert '"heartbeat":2' in line
                elif line.startswith(":"):
                    beats.append(time.monotonic() - start)
                    if len(beats) == 2:
                        break
    assert 1.2 <= beats[0] <= 3.5 and 1.2 <= beats[1] - beats[0] <= 3.5, beats


@pytest.mark.parametrize("heartbeat", [None, 2])
def test_a_websocket_is_pinged_at_the_heartbeat(server, channel, heartbeat):
    with RawWebSocket(server.port, f"/v1/subscribe?{query(channel, heartbeat=heartbeat)}") as client:
        start, times = time.monotonic(), []
        while len(times) < 2:
            opcode, payload = client.frame(6)
            if opcode == 9:
                assert len(payload) <= 125
                times.append(time.monotonic() - start)
                client.send(10, payload)
    assert 0.5 * (heartbeat or 1) <= times[1] - times[0] <= 1.8 * (heartbeat or 1), times


def test_a_websocket_that_never_answers_is_closed_and_one_that_answers_is_not(server, channel):
    path = f"/v1/subscribe?{query(channel)}"
    with RawWebSocket(server.port, path) as silent, \
            websockets.sync.client.connect(f"ws://127.0.0.1:{server.port}{path}", proxy=None, ping_interval=None) as answering:
        start = time.monotonic()
        assert json.loads(answering.recv(5))["type"] == "hello"
        code = silent.close_code(25)
        seconds = time.monotonic() - start
        assert code == 1008
        assert 10 <= seconds <= 20, f"closed after {seconds:.1f} s; two heartbeats and 10 s are 12"
        time.sleep(1.5)
        answering.send(json.dumps({"id": 1, "type": "ping"}))
        assert json.loads(answering.recv(5)) == {"type": "reply", "id": 1}
