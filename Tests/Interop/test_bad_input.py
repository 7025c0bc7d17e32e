"""Input that breaks the rules ends a stream or a connection, with the answer that says why, and never the process."""

import os
import struct

import pytest

from support import RawHTTP2, RawWebSocket, connect, eventually, exchange, http, publish, query, read_to_end, trusting_context

HEAD = b"GET /healthz HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /v1/channels/scores.bad HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n"

HEADS = {
    "no version": (400, b"GET /healthz\r\n\r\n"),
    "nonsense": (400, b"\x16\x17nonsense\r\n\r\n"),
    "an empty method": (400, b" /healthz HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a method with a separator": (400, b"GE(T /healthz HTTP/1.1\r\nHost: a\r\n\r\n"),
    "two spaces": (400, b"GET  /healthz HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a target without a slash": (400, b"GET healthz HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a control character in the target": (400, b"GET /health\x01z HTTP/1.1\r\nHost: a\r\n\r\n"),
    "no host": (400, b"GET /healthz HTTP/1.1\r\n\r\n"),
    "two hosts": (400, HEAD + b"Host: b\r\n\r\n"),
    "a space before the colon": (400, HEAD + b"Name : value\r\n\r\n"),
    "a folded field": (400, HEAD + b"Name: value\r\n more\r\n\r\n"),
    "a field without a colon": (400, HEAD + b"Name value\r\n\r\n"),
    "a field without a name": (400, HEAD + b": value\r\n\r\n"),
    "a NUL in a field": (400, HEAD + b"Name: val\x00ue\r\n\r\n"),
    "a bare carriage return in a field": (400, HEAD + b"Name: val\rue\r\n\r\n"),
    "a length that is no number": (400, POST + b"Content-Length: five\r\n\r\nhello"),
    "a length with a sign": (400, POST + b"Content-Length: +5\r\n\r\nhello"),
    "a negative length": (400, POST + b"Content-Length: -5\r\n\r\nhello"),
    "a length over 64 bits": (None, POST + b"Content-Length: 99999999999999999999999\r\n\r\nhello"),
    "two different lengths": (400, POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
    "a length and a transfer coding": (400, POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "a chunk whose size is no number": (400, POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\nhello\r\n0\r\n\r\n"),
    "a chunk with a negative size": (400, POST + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n"),
    "a chunk that is longer than it says": (400, POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n"),
    "a chunk size over 64 bits": (None, POST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
    "a body that says it is too large": (413, POST + b"Content-Length: 1000000000000\r\n\r\n"),
    "a target that is too long": (414, b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a field that is too long": (431, HEAD + b"Name: " + b"x" * 20000 + b"\r\n\r\n"),
    "too many fields": (431, HEAD + b"".join(b"N%d: v\r\n" % number for number in range(200)) + b"\r\n"),
    "a head that never ends": (431, HEAD + b"Name: value\r\n" * 3000),
    "a transfer coding that is not served": (501, POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "another major version": (505, b"GET /healthz HTTP/3.0\r\nHost: a\r\n\r\n"),
    "version 1.2 with a fault": (None, b"GET /healthz HTTP/1.2\r\nHost: a\r\nName : v\r\n\r\n"),
}
PROBLEMS = {400: {"bad-request"}, 413: {"body-too-large"}, 414: {"target-too-long"}, 431: {"head-too-large"}}


@pytest.mark.parametrize("name", HEADS)
def test_a_malformed_head_is_answered_and_ends_its_connection(server, name):
    status, data = HEADS[name]
    answer, closed = exchange(server.port, data)
    assert answer is not None, "closed without an answer"
    assert closed, f"answered {answer.status_code}, and the connection goes on"
    if status:
        assert answer.status_code == status, f"{answer.status_code}: {answer.text}"
    else:
        assert 400 <= answer.status_code < 600
    assert answer.headers["content-type"] == "application/problem+json"
    assert f'"status":{answer.status_code}' in answer.text and '"type":"/problems/' in answer.text
    if answer.status_code in PROBLEMS:
        assert any(f'"/problems/{problem}"' in answer.text for problem in PROBLEMS[answer.status_code]), answer.text
    server.answers()


def test_a_head_that_does_not_come_in_time_is_answered_with_408(server):
    with connect(server.port) as raw:
        raw.sendall(HEAD)
        data, closed = read_to_end(raw, 20)
    assert closed and data.startswith(b"HTTP/1.1 408 ") and b'"/problems/request-timeout"' in data, data


def test_what_follows_a_malformed_request_on_its_connection_is_not_served(server, channel):
    smuggled = f"POST /v1/channels/{channel} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1".encode()
    _, closed = exchange(server.port, b"GET /healthz HTTP/1.1\r\nHost: a\r\nBad Name: v\r\n\r\n" + smuggled)
    assert closed
    with http() as client:
        assert client.get(f"{server.url}/v1/channels/{channel}").status_code == 404


def test_requests_in_one_packet_are_answered_in_order(server, channel):
    requests = b"".join(b"POST /v1/channels/%s HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n%d" % (channel.encode(), number)
                        for number in range(5))
    with connect(server.port) as raw:
        raw.sendall(requests + b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        data, closed = read_to_end(raw)
    assert closed and data.count(b"HTTP/1.1 201") == 5 and data.count(b"HTTP/1.1 200") == 1
    places = [data.index(b'"sequence":%d,' % number) for number in range(1, 6)]
    assert places == sorted(places)


def test_a_client_that_goes_in_the_middle_of_anything_is_survived(server, channel):
    with connect(server.tls_port) as raw:
        context = trusting_context()
        with context.wrap_socket(raw, server_hostname="localhost") as tls:
            tls.sendall(HEAD)
    for data in (b"", b"G", HEAD, POST + b"Content-Length: 10\r\n\r\nhello", b"PRI * HT", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00"):
        with connect(server.port) as raw:
            raw.sendall(data)
            raw.setsockopt(1, 13, struct.pack("ii", 1, 0))
    with RawWebSocket(server.port, f"/v1/subscribe?{query(channel)}") as raw:
        raw.raw.sendall(b"\x81\xfe")
        raw.raw.setsockopt(1, 13, struct.pack("ii", 1, 0))
    publish(server, channel, 1)
    server.answers()


def test_garbage_on_the_tls_port_ends_the_connection_alone(server):
    for garbage in (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", os.urandom(500), b"\x16\x03\x01\x40\x00" + b"x" * 300):
        with connect(server.tls_port) as raw:
            raw.sendall(garbage)
            raw.shutdown(1)
            _, closed = read_to_end(raw, 15)
            assert closed
    server.answers()


# HTTP/2.

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


def frame(kind, flags, stream, payload=b""):
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def frames(data):
    """The frames in bytes as (kind, stream, payload)."""
    found = []
    while len(data) >= 9:
        size = int.from_bytes(data[:3], "big")
        found.append((data[3], int.from_bytes(data[5:9], "big") & 0x7FFFFFFF, data[9:9 + size]))
        data = data[9 + size:]
    return found


BROKEN = {
    "bytes that are no frame": (PREFACE + os.urandom(4) + b"garbage " * 4096, None),
    "text after the preface": (PREFACE + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2000, None),
    "a frame that is too large": (PREFACE + SETTINGS + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + b"x" * 20000, 6),
    "data before headers": (PREFACE + SETTINGS + frame(0, 1, 1, b"hello"), None),
    "headers on stream 0": (PREFACE + SETTINGS + frame(1, 5, 0, b"\x82"), 1),
    "headers on an even stream": (PREFACE + SETTINGS + frame(1, 5, 2, b"\x82\x84\x86\x41\x01a"), 1),
    "a continuation without headers": (PREFACE + SETTINGS + frame(9, 4, 1, b"\x82"), 1),
    "a ping of seven bytes": (PREFACE + SETTINGS + frame(6, 0, 0, b"x" * 7), 6),
    "settings of five bytes": (PREFACE + frame(4, 0, 0, b"x" * 5), 6),
    "a header block that cannot be read": (PREFACE + SETTINGS + frame(1, 5, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff"), 9),
    "a window that grows by nothing": (PREFACE + SETTINGS + frame(8, 0, 0, b"\0\0\0\0"), 1),
    "a window that overflows": (PREFACE + SETTINGS + frame(8, 0, 0, b"\x7f\xff\xff\xff"), 3),
    "a push promise by a client": (PREFACE + SETTINGS + frame(5, 4, 1, b"\0\0\0\2\x82"), 1),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_http2_connection_gets_goaway_and_is_closed(server, name):
    data, code = BROKEN[name]
    with connect(server.port) as raw:
        raw.sendall(data)
        received, closed = read_to_end(raw)
    assert closed, "the connection goes on"
    goaway = [payload for kind, _, payload in frames(received) if kind == 7]
    assert goaway, f"no GOAWAY: {received!r}"
    said = int.from_bytes(goaway[0][4:8], "big")
    assert said != 0 and (code is None or said == code), said
    server.answers()


@pytest.mark.parametrize("headers", [
    [(":method", "GET"), (":scheme", "http"), (":authority", "a")],
    [(":method", "GET"), (":scheme", "http"), (":path", "/healthz"), ("Upper", "x")],
    [(":method", "GET"), (":scheme", "http"), (":path", "/healthz"), (":authority", "a"), ("connection", "close")],
    [(":method", "GET"), (":scheme", "http"), (":path", "/healthz"), ("x", "y"), (":authority", "a")],
    [(":method", "GET"), (":scheme", "http"), (":path", "/healthz"), (":path", "/healthz"), (":authority", "a")],
    [(":method", "GET"), (":scheme", "http"), (":path", "/healthz"), (":authority", "a"), ("x", "a\nb")],
], ids=["no-path", "upper-case", "connection", "pseudo-last", "two-paths", "line-break"])
def test_a_malformed_http2_request_resets_its_stream_and_the_connection_goes_on(server, headers):
    import h2.config
    import h2.connection
    import h2.events
    with RawHTTP2(server.port) as client:
        client.state = h2.connection.H2Connection(h2.config.H2Configuration(
            validate_outbound_headers=False, normalize_outbound_headers=False, validate_inbound_headers=False))
        client.raw.close()
        client.raw = connect(server.port)
        client.state.initiate_connection()
        client.state.send_headers(1, headers, end_stream=True)
        client.flush()
        for event in client.events():
            if isinstance(event, h2.events.ResponseReceived):
                assert dict(event.headers)[b":status"].startswith(b"4")
                break
            if isinstance(event, h2.events.StreamReset):
                break
        else:
            raise AssertionError("the stream was not reset")
        client.next_stream = 3
        stream = client.request("GET", "/healthz")
        assert any(isinstance(event, h2.events.StreamEnded) and event.stream_id == stream for event in client.events(5))
    server.answers()


def test_a_flood_of_resets_does_not_end_the_server(server):
    import h2.exceptions
    with RawHTTP2(server.port) as client:
        try:
            for _ in range(2000):
                client.reset(client.request("GET", "/v1/subscribe?channel=scores.a&after=latest"))
        except (OSError, h2.exceptions.H2Error):
            pass
    server.answers()
    with http() as client:
        def parked():
            return 'tocsin_subscribers{transport="long_poll"} 0' in client.get(f"{server.url}/metrics").text
        eventually(parked, "no poll of the flood stays parked")
