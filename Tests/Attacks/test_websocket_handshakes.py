"""WebSocket handshakes that must not succeed: malformed ones, those of other sites' pages, and smuggled extensions."""

import base64

import pytest

from support import connect, exchange, http, read_to_end
from websocket_wire import KEY, first_answer, handshake, refused

MALFORMED = {
    "no key": (400, {"without": ["Sec-WebSocket-Key"]}, []),
    "an empty key": (400, {"without": ["Sec-WebSocket-Key"]}, [("Sec-WebSocket-Key", "")]),
    "a short key": (400, {"without": ["Sec-WebSocket-Key"]}, [("Sec-WebSocket-Key", base64.b64encode(b"x" * 15).decode())]),
    "a long key": (400, {"without": ["Sec-WebSocket-Key"]}, [("Sec-WebSocket-Key", base64.b64encode(b"x" * 17).decode())]),
    "a key that is not base64": (400, {"without": ["Sec-WebSocket-Key"]}, [("Sec-WebSocket-Key", "!" * 24)]),
    "a key of 10,000 bytes": (400, {"without": ["Sec-WebSocket-Key"]}, [("Sec-WebSocket-Key", "A" * 10_000)]),
    "two keys": (400, {}, [("Sec-WebSocket-Key", KEY)]),
    "no version": (426, {"without": ["Sec-WebSocket-Version"]}, []),
    **{f"version {version!r}": (426, {"without": ["Sec-WebSocket-Version"]}, [("Sec-WebSocket-Version", version)])
       for version in ("0", "8", "12", "14", "1", "013", "13, 13", "thirteen")},
    "two versions": (426, {}, [("Sec-WebSocket-Version", "12")]),
    "no Connection": (400, {"without": ["Connection"]}, []),
    "Connection without upgrade": (400, {"without": ["Connection"]}, [("Connection", "keep-alive")]),
    "no Upgrade": (400, {"without": ["Upgrade"]}, []),
    "Upgrade to something else": (400, {"without": ["Upgrade"]}, [("Upgrade", "h2c")]),
    "HTTP/1.0": (400, {"version": "HTTP/1.0"}, []),
    "POST": ({400, 405}, {"method": "POST"}, []),
    "HEAD": ({400, 405}, {"method": "HEAD"}, []),
    "a body": (400, {"body": b"hello"}, [("Content-Length", "5")]),
    "a chunked body": (400, {"body": b"5\r\nhello\r\n0\r\n\r\n"}, [("Transfer-Encoding", "chunked")]),
    "a body of frames": (400, {"body": b"\x81\x80\0\0\0\0"}, [("Content-Length", "6")]),
    "no Host": (400, {"without": ["Host"]}, []),
    "two Hosts": (400, {}, [("Host", "127.0.0.1")]),
    "a head of 20,000 bytes": (431, {}, [("X", "y" * 20_000)]),
    "200 fields": (431, {}, [(f"X{number}", "y") for number in range(200)]),
    "a subprotocol twice": (400, {}, [("Sec-WebSocket-Protocol", "tocsin.v1, tocsin.v1")]),
    "a subprotocol that is no token": (400, {}, [("Sec-WebSocket-Protocol", "toc sin")]),
    "1000 subprotocols": (400, {}, [("Sec-WebSocket-Protocol", ", ".join(f"p{number}" for number in range(1000)))]),
    "a path that is none": (404, {"path": "/v1/nothing"}, []),
    "a channel that is none": (400, {"path": "/v1/subscribe?channel=a..b"}, []),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_handshake_that_is_malformed_is_refused(server, name):
    status, options, fields = MALFORMED[name]
    answer = refused(server.port, handshake(server.port, *fields, **options))
    statuses = status if isinstance(status, set) else {status}
    assert answer.status_code in statuses, f"{answer.status_code}: {answer.text}"
    if status == 426:
        assert answer.headers["sec-websocket-version"] == "13"
    if answer.status_code == 405:
        assert answer.headers["allow"]


@pytest.mark.parametrize("name", [name for name in MALFORMED if "body" in name])
def test_what_a_handshake_smuggles_behind_itself_is_not_served(server, channel, name):
    """A proxy that believes the connection is upgraded passes everything on: another request may stand in the body or behind it."""
    _, options, fields = MALFORMED[name]
    smuggled = f"POST /v1/channels/{channel} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1".encode()
    with connect(server.port) as raw:
        raw.sendall(handshake(server.port, *fields, **options) + smuggled)
        read_to_end(raw, 0.5)
    with http() as client:
        assert client.get(f"{server.url}/v1/channels/{channel}").status_code == 404, "the smuggled request was served"


# Pages of other sites (cross-site WebSocket hijacking): CORS does not hold them back, so the server has to.

def foreign(port):
    own = f"127.0.0.1:{port}"
    return {
        "another site": "https://evil.example", "null": "null", "the own name as a prefix": f"http://{own}.evil.example",
        "the own name as a suffix": f"http://evil{own}", "the own name as user": f"http://{own}@evil.example",
        "the own name as path": f"http://evil.example/{own}", "another port": f"http://127.0.0.1:{port + 1}",
        "no port": "http://127.0.0.1", "another scheme": f"ftp://{own}", "upper case evil": "HTTPS://EVIL.EXAMPLE",
        "an empty origin": "", "a list": f"http://{own}, https://evil.example", "a file": "file://",
        "a space before": f"x http://{own}", "an extension": "chrome-extension://abcdefghijklmnop",
    }


@pytest.mark.parametrize("name", foreign(1))
@pytest.mark.parametrize("way", ["websocket", "sse", "long-poll", "publish"])
def test_a_page_of_another_origin_is_not_let_in(server, channel, name, way):
    origin = foreign(server.port)[name]
    host = f"Host: 127.0.0.1:{server.port}\r\nOrigin: {origin}\r\nConnection: close\r\n"
    if way == "websocket":
        data = handshake(server.port, ("Origin", origin), path=f"/v1/subscribe?channel={channel}")
    elif way == "publish":
        data = f"POST /v1/channels/{channel} HTTP/1.1\r\n{host}Content-Type: text/plain\r\nContent-Length: 1\r\n\r\n1".encode()
    else:
        accept = "Accept: text/event-stream\r\n" if way == "sse" else ""
        data = f"GET /v1/subscribe?channel={channel} HTTP/1.1\r\n{host}{accept}\r\n".encode()
    answer = refused(server.port, data)
    assert answer.status_code in (400, 403), f"{answer.status_code}: {answer.text}"
    assert "access-control-allow-origin" not in answer.headers
    if way == "publish":
        with http() as client:
            assert client.get(f"{server.url}/v1/channels/{channel}").status_code == 404


def test_a_page_of_the_own_origin_is_let_in(server, channel):
    own = f"http://127.0.0.1:{server.port}"
    answer = first_answer(server.port, handshake(server.port, ("Origin", own), path=f"/v1/subscribe?channel={channel}"))
    assert answer.status_code == 101, answer.text


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example:{port}", "localhost.evil.example:{port}"])
@pytest.mark.parametrize("has_origin", [True, False], ids=["of-its-own-origin", "without-origin"])
def test_a_name_that_is_rebound_to_this_host_is_not_served(server, channel, host, has_origin):
    """DNS rebinding: the page's own name leads here, so its origin and the Host field agree. The name is not one of this server."""
    name = host.format(port=server.port)
    fields = [("Host", name), *([("Origin", f"http://{name}")] if has_origin else [])]
    path = f"/v1/subscribe?channel={channel}"
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    ways = {
        "websocket": handshake(server.port, *fields, path=path, without=["Host"]),
        "sse": f"GET {path} HTTP/1.1\r\n{lines}Accept: text/event-stream\r\n\r\n".encode(),
        "long-poll": f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode(),
        "publish": f"POST /v1/channels/{channel} HTTP/1.1\r\n{lines}Content-Length: 1\r\n\r\n1".encode(),
    }
    statuses = {way: first_answer(server.port, data).status_code for way, data in ways.items()}
    assert set(statuses.values()) <= {400, 403, 421}, f"answers to a page of {name}: {statuses}"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:{port}", "localhost", "localhost:{port}", "LOCALHOST:{port}"])
def test_the_own_names_are_served(server, host):
    name = host.format(port=server.port)
    answer, _ = exchange(server.port, f"GET /healthz HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
    assert answer.status_code == 200


# Extensions and subprotocols: what is not known is declined, and nothing is chosen that was not offered.

DECLINED = {
    "unknown": "x-unknown", "unknown with parameters": "x-unknown; a=1; b", "a webkit name": "x-webkit-deflate-frame",
    "an unknown parameter": "permessage-deflate; x=1", "a window of 7": "permessage-deflate; server_max_window_bits=7",
    "a window of 16": "permessage-deflate; server_max_window_bits=16", "a window of 08": "permessage-deflate; server_max_window_bits=08",
    "a window that is no number": "permessage-deflate; server_max_window_bits=ten",
    "a server window without a value": "permessage-deflate; server_max_window_bits",
    "a client window of 0": "permessage-deflate; client_max_window_bits=0",
    "a parameter twice": "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
    "a window twice": "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
    "a value where none may be": "permessage-deflate; server_no_context_takeover=1",
    "a long list": ", ".join(["x-unknown"] * 500),
}
BROKEN = {"only punctuation": ";;,=", "no name": "; a=1", "an open quote": 'permessage-deflate; a="', "no parameter": "permessage-deflate;",
          "a control character": "permessage-deflate; a=\x01"}


@pytest.mark.parametrize("name", DECLINED)
def test_an_extension_that_is_unknown_or_badly_offered_is_declined(server, name):
    answer = first_answer(server.port, handshake(server.port, ("Sec-WebSocket-Extensions", DECLINED[name])))
    assert answer.status_code in (101, 400), answer.text
    assert "sec-websocket-extensions" not in answer.headers, answer.headers["sec-websocket-extensions"]


@pytest.mark.parametrize("name", BROKEN)
def test_a_list_of_extensions_that_is_malformed_is_declined_or_refused(server, name):
    answer = first_answer(server.port, handshake(server.port, ("Sec-WebSocket-Extensions", BROKEN[name])))
    assert answer.status_code in (101, 400), answer.text
    assert "sec-websocket-extensions" not in answer.headers, answer.headers["sec-websocket-extensions"]


def test_of_several_offers_of_compression_at_most_one_is_chosen(server):
    offers = "permessage-deflate; server_max_window_bits=7, permessage-deflate; client_max_window_bits, permessage-deflate"
    answer = first_answer(server.port, handshake(server.port, ("Sec-WebSocket-Extensions", offers)))
    assert answer.status_code == 101
    assert answer.headers.get("sec-websocket-extensions", "").count("permessage-deflate") <= 1


@pytest.mark.parametrize("offered", ["other", "TOCSIN.V1", "tocsin.v1x", "tocsin", "tocsin.v2, other"])
def test_a_subprotocol_that_is_not_known_is_not_chosen(server, offered):
    answer = first_answer(server.port, handshake(server.port, ("Sec-WebSocket-Protocol", offered)))
    assert answer.status_code == 101 and "sec-websocket-protocol" not in answer.headers


# CONNECT, and other upgrades.

CONNECTS = {
    "CONNECT": b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost:1\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT with the fields of a handshake": (
        f"CONNECT /v1/subscribe HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\n"
        "Sec-WebSocket-Version: 13\r\n:protocol: websocket\r\n\r\n").encode(),
    "CONNECT with :protocol": b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost:1\r\n:protocol: websocket\r\n\r\n",
}


@pytest.mark.parametrize("name", CONNECTS)
def test_connect_makes_no_tunnel(server, name):
    answer = first_answer(server.port, CONNECTS[name])
    assert answer is not None and 400 <= answer.status_code < 600, answer


def test_an_upgrade_to_h2c_is_not_taken(server):
    data = (b"GET /healthz HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    answer, closed = exchange(server.port, data, seconds=3)
    assert answer.status_code == 200 and closed, "the preface behind the request is not a request"
