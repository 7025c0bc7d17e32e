"""SIGTERM lets clients go with a word on when to come back; SIGHUP takes a new certificate."""

import asyncio
import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import time

import httpx_sse
import pytest

from support import (RawWebSocket, async_http, connect, event_stream, eventually, http, make_certificate, publish, query, read_to_end,
                     run, trusting_context)


CURL = ["curl", "-sS", "-k", "--noproxy", "*", "--max-time", "20"]
POLLS = [["--http1.1"], ["--http2-prior-knowledge"], ["--http2"]]


def curl(*arguments):
    return subprocess.Popen([*CURL, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_sigterm_lets_every_transport_go_and_the_process_ends_with_0(fresh_server, channel):
    server = fresh_server
    position = publish(server, channel, 0)["position"]
    items = query(channel, after=position)
    polls = [curl("-i", *options, "-H", "Prefer: wait=20", f"{base}/v1/subscribe?{items}")
             for options, base in zip(POLLS, (server.url, server.url, server.tls_url))]
    with RawWebSocket(server.port, f"/v1/subscribe?{query(channel, after='latest')}") as websocket, \
            event_stream(server.port, f"/v1/subscribe?{query(channel, after='latest')}") as stream:
        assert websocket.texts(1)[0]["type"] == "hello"
        assert stream.recv(10, socket.MSG_PEEK)
        with http() as client:
            eventually(lambda: 'transport="long_poll"} 3' in client.get(f"{server.url}/metrics").text, "three polls are parked")
        start = time.monotonic()
        server.terminate()

        going = websocket.texts(1)[0]
        assert going["type"] == "going-away" and 0 <= going["retry_after_ms"] <= 60_000
        assert websocket.close_code() == 1012
        websocket.send(8, b"\x03\xf4")

        data, closed = read_to_end(stream)
        assert closed
        text = data.decode().replace("\r\n", "\n")
        event = text[text.index('"type":"hello"'):]
        assert "\nevent: going-away\n" in event and '"retry_after_ms":' in event
        assert "\nretry: " in event, "no retry line goes with going-away"
        assert text.endswith("\n0\n\n"), "the chunked stream was not ended well"

        for poll in polls:
            output, errors = poll.communicate(timeout=15)
            assert poll.returncode == 0, errors
            head, _, body = output.replace("\r\n", "\n").partition("\n\n")
            status, *fields = head.lower().split("\n")
            fields = dict(field.split(": ", 1) for field in fields)
            assert status.split()[1] == "503" and int(fields["retry-after"]) >= 0
            assert fields["content-type"] == "application/problem+json"
            assert json.loads(body)["type"] == "/problems/going-away"
        assert server.process.wait(10) == 0
        assert time.monotonic() - start < 10


@pytest.mark.parametrize("way", ["--http2-prior-knowledge", "--http2"])
def test_an_event_stream_over_http2_is_told_and_ended_by_sigterm(fresh_server, channel, way):
    base = fresh_server.tls_url if way == "--http2" else fresh_server.url
    stream = curl("-N", way, "-H", "Accept: text/event-stream", f"{base}/v1/subscribe?{query(channel)}")
    for line in stream.stdout:
        if "hello" in line:
            break
    fresh_server.terminate()
    output, errors = stream.communicate(timeout=15)
    assert stream.returncode == 0, errors
    last = output.strip().split("\n\n")[-1]
    fields = dict(line.split(": ", 1) for line in last.splitlines())
    assert fields["event"] == "going-away" and int(fields["retry"]) >= 0
    assert json.loads(fields["data"])["type"] == "going-away"
    assert fresh_server.process.wait(10) == 0


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_httpx_over_http2_reads_the_last_words_of_a_poll_and_of_a_stream(fresh_server, channel, tls):
    # Its library takes nothing on a connection after GOAWAY, so a stream has to end before that; one stream a connection, because
    # the library gives up the others of a connection when it reads GOAWAY together with the end of one.
    base = fresh_server.tls_url if tls else fresh_server.url
    position = publish(fresh_server, channel, 0)["position"]

    async def work():
        async with async_http("2") as client, async_http("2") as other:
            url = f"{base}/v1/subscribe?"
            poll = asyncio.create_task(other.get(url + query(channel, after=position), headers={"Prefer": "wait=15"}))
            async with httpx_sse.aconnect_sse(client, "GET", url + query(channel)) as source:
                events = source.aiter_sse()
                assert (await anext(events)).event == "hello"
                await asyncio.sleep(0.5)
                fresh_server.terminate()
                rest = [event async for event in events]
            assert rest[-1].event == "going-away" and rest[-1].retry is not None
            answer = await poll
            assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 0
    run(work())
    assert fresh_server.stop() == 0


def test_a_server_that_drains_takes_nobody_new(fresh_server, channel):
    server = fresh_server
    halves = []
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(RawWebSocket(server.port, f"/v1/subscribe?{query(channel)}")).texts(1)
        for path in ("/readyz", f"/v1/subscribe?{query(channel)}"):
            halves.append(stack.enter_context(connect(server.port)))
            halves[-1].sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n".encode())
        time.sleep(0.2)
        server.terminate()
        eventually(lambda: any(entry.get("message") == "draining" for entry in server.log), "the log says that it drains")
        for half in halves:
            # A request whose head was on its way is refused with 503, or its connection is closed.
            with contextlib.suppress(OSError):
                half.sendall(b"\r\n")
            data, closed = read_to_end(half, 5)
            assert closed and (data == b"" or data.startswith(b"HTTP/1.1 503 ")), data
        with pytest.raises(OSError):
            connect(server.port, timeout=3).close()
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
