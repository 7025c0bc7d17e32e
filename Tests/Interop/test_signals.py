"""SIGTERM lets clients go with a word on when to come back; SIGHUP takes a new certificate."""

import contextlib
import json
import shutil
import socket
import ssl
import threading
import time

import httpx_sse
import pytest

from support import (RawHTTP2, RawWebSocket, connect, event_stream, eventually, http, make_certificate, publish, query,
                     read_to_end, trusting_context)


def test_sigterm_lets_every_transport_go_and_the_process_ends_with_0(fresh_server, channel):
    server = fresh_server
    position = publish(server, channel, 0)["position"]
    found = {}

    def poll():
        with http(timeout=20) as client:
            found["poll"] = client.get(f"{server.url}/v1/subscribe?{query(channel, after=position)}", headers={"Prefer": "wait=20"})

    def poll_again(version):
        with http(version, timeout=20) as client:
            found[version] = client.get(f"{server.url}/v1/subscribe?{query(channel, after=position)}", headers={"Prefer": "wait=20"})

    threads = [threading.Thread(target=poll), threading.Thread(target=poll_again, args=("2",))]
    for thread in threads:
        thread.start()
    with RawWebSocket(server.port, f"/v1/subscribe?{query(channel)}") as websocket, \
            event_stream(server.port, f"/v1/subscribe?{query(channel)}") as stream:
        assert websocket.texts(1)[0]["type"] == "hello"
        assert stream.recv(10, socket.MSG_PEEK)
        with http() as client:
            eventually(lambda: 'transport="long_poll"} 2' in client.get(f"{server.url}/metrics").text, "two polls are parked")
        start = time.monotonic()
        server.terminate()

        going = websocket.texts(1)[0]
        assert going["type"] == "going-away" and 0 <= going["retry_after_ms"] <= 60_000
        assert websocket.close_code() == 1012
        websocket.send(8, b"\x03\xf4")

        data, closed = read_to_end(stream)
        assert closed
        text = data.decode()
        event = text[text.index("event: going-away"):]
        fields = dict(line.split(": ", 1) for line in event.split("\n\n")[0].splitlines() if ": " in line)
        assert json.loads(fields["data"])["retry_after_ms"] >= 0
        assert "retry: " in text[text.index('"type":"hello"'):], "no retry line goes with going-away"
        assert text.endswith("0\r\n\r\n"), "the chunked stream was not ended well"

        for thread in threads:
            thread.join(15)
            assert not thread.is_alive()
        for answer in (found["poll"], found["2"]):
            assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 0
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["type"] == "/problems/going-away"
        assert server.process.wait(10) == 0
        assert time.monotonic() - start < 10


def test_an_event_stream_over_http2_is_told_and_ended_by_sigterm(fresh_server, channel):
    with http("2", timeout=15) as client:
        with httpx_sse.connect_sse(client, "GET", f"{fresh_server.tls_url}/v1/subscribe?{query(channel)}") as source:
            events = source.iter_sse()
            assert next(events).event == "hello"
            fresh_server.terminate()
            last = list(events)[-1]
            assert last.event == "going-away" and last.json()["type"] == "going-away" and last.retry is not None
    assert fresh_server.process.wait(10) == 0


def test_a_server_that_drains_is_healthy_but_not_ready_and_takes_nobody_new(fresh_server, channel):
    server = fresh_server
    websockets = [RawWebSocket(server.port, f"/v1/subscribe?{query(channel)}") for _ in range(20)]
    with RawHTTP2(server.port) as client, contextlib.ExitStack() as stack:
        for websocket in websockets:
            stack.enter_context(websocket)
            websocket.texts(1)
        first = client.request("GET", "/readyz")
        stream = client.request("GET", f"/v1/subscribe?{query(channel)}", ("accept", "text/event-stream"))
        responses = ((event.stream_id, dict(event.headers)) for event in client.events() if hasattr(event, "headers"))
        found = dict([next(responses), next(responses)])
        assert found[first][b":status"] == found[stream][b":status"] == b"200"
        server.terminate()
        eventually(lambda: any(entry.get("message") == "draining" for entry in server.log), "the log says that it drains")
        try:
            ready = client.request("GET", "/readyz")
            status = next((headers for identifier, headers in responses if identifier == ready), None)
        except (OSError, AssertionError):
            status = None
        assert status is None or status[b":status"] == b"503", status
        with pytest.raises((ConnectionRefusedError, ConnectionResetError, EOFError, AssertionError)):
            RawWebSocket(server.port, f"/v1/subscribe?{query(channel)}").texts(1, 3)
    assert server.process.wait(10) == 0


def test_clients_that_say_nothing_do_not_keep_a_server_that_was_told_to_end(fresh_server, channel):
    with RawWebSocket(fresh_server.port, f"/v1/subscribe?{query(channel)}"), connect(fresh_server.port), \
            connect(fresh_server.tls_port), connect(fresh_server.port) as half:
        half.sendall(b"POST /v1/channels/scores.a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe")
        time.sleep(0.2)
        fresh_server.terminate()
        assert fresh_server.process.wait(10) == 0


def test_what_was_published_before_a_restart_is_told_as_a_gap_to_who_comes_back(start_server, channel):
    first = start_server()
    position = publish(first, channel, 1)["position"]
    assert first.stop() == 0
    second = start_server()
    publish(second, channel, 2)
    with http() as client:
        gap, message = client.get(f"{second.url}/v1/subscribe?{query(channel, after=position)}").json()["messages"]
    assert (gap["type"], gap["reason"]) == ("gap", "epoch") and (message["sequence"], message["data"]) == (1, 2)


def shown(server):
    """The certificate that a new connection is shown."""
    with connect(server.tls_port) as raw, trusting_context().wrap_socket(raw, server_hostname="localhost") as tls:
        return tls.getpeercert(binary_form=True)


def test_sighup_shows_a_new_certificate_to_new_connections_and_an_old_stream_goes_on(start_server, certificate, tmp_path, channel):
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    shutil.copy(certificate[0], chain)
    shutil.copy(certificate[1], key)
    server = start_server(certificate=(chain, key))
    old = ssl.PEM_cert_to_DER_cert(chain.read_text())
    assert shown(server) == old
    with http("2") as client:
        with httpx_sse.connect_sse(client, "GET", f"{server.tls_url}/v1/subscribe?{query(channel)}") as source:
            events = source.iter_sse()
            assert next(events).event == "hello"
            other = make_certificate(tmp_path, "renewed")
            shutil.copy(other[0], chain)
            shutil.copy(other[1], key)
            new = ssl.PEM_cert_to_DER_cert(chain.read_text())
            assert new != old and shown(server) == old
            server.hang_up()
            eventually(lambda: shown(server) == new, "a new connection sees the new certificate")
            publish(server, channel, "still here")
            assert next(events).json()["data"] == "still here"

            chain.write_text("this is no certificate\n")
            before = len(server.log)
            server.hang_up()
            eventually(lambda: any(entry.get("level") in ("error", "warning") for entry in server.log[before:]),
                       "the log says why the certificate was not taken")
            assert shown(server) == new
            publish(server, channel, "and still")
            assert next(events).json()["data"] == "and still"
    assert server.stop() == 0
