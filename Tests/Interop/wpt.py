"""What the tests after the Web Platform Tests share: the server with a second origin, and Chromium on a page of it."""

import re
import uuid

import pytest

from browsers import Pages
from support import Server, http, query


@pytest.fixture(scope="module")
def allowed():
    """Pages of an origin that the server is told to serve."""
    pages = Pages()
    yield pages
    pages.close()


@pytest.fixture(scope="module")
def stranger():
    """Pages of an origin that it is not told of."""
    pages = Pages()
    yield pages
    pages.close()


@pytest.fixture(scope="module")
def started(certificate, allowed):
    server = Server(certificate, arguments=["--conformance", "--allow-origin", allowed.url])
    yield server
    assert server.stop() == 0, "".join(server.output[-40:])


@pytest.fixture
def server(started):
    yield started
    assert started.alive, "".join(started.output[-40:])


@pytest.fixture(params=["http1", "http2"])
def base(request, server, chromium):
    """Chromium has a page of the server open, over HTTP/1.1 or over HTTP/2; this is its origin."""
    url = server.url if request.param == "http1" else server.tls_url
    chromium.open(f"{url}/healthz")
    protocol = chromium.run("() => performance.getEntriesByType('navigation')[0].nextHopProtocol")
    assert protocol == {"http1": "http/1.1", "http2": "h2"}[request.param]
    yield url
    answers = [event["response"]["status"] for event in chromium.told("Network.webSocketHandshakeResponseReceived")]
    wanted = {"http1": 101, "http2": 200}[request.param]
    assert all(status in (wanted, 403) for status in answers), answers


@pytest.fixture
def channel():
    """A plain channel that no other test uses."""
    return f"wpt.{uuid.uuid4().hex[:12]}"


def metric(server, name):
    with http() as client:
        return int(re.search(rf"^{re.escape(name)} (\d+)$", client.get(f"{server.url}/metrics").text, re.MULTILINE)[1])


def subscribe(base, channel, **items):
    return f"{base}/v1/subscribe?{query(channel, **items)}"


def post(server, channel, content, kind="text/plain", headers=(), **items):
    with http() as client:
        return client.post(f"{server.url}/v1/channels/{channel}", params=items, content=content,
                           headers={"Content-Type": kind, **dict(headers)})


def post_all(server, channel, contents, kind):
    with http() as client:
        for content in contents:
            answer = client.post(f"{server.url}/v1/channels/{channel}", content=content, headers={"Content-Type": kind})
            assert answer.status_code == 201, answer.text
