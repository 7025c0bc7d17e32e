"""What pages of other origins may do, and by which names the server may be called: tables. And that no log has a token."""

import json
import socket

import pytest

from support import Server, assert_problem, eventually, http
from test_tokens import bearer, key, token  # noqa: F401

VERSIONS = ["1.1", "2"]
each_version = pytest.mark.parametrize("version", VERSIONS)
SHOP, EVIL = "https://shop.example", "https://evil.example"
HANDSHAKE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
             "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}

SERVERS = {"nothing configured": [], "one origin": ["--allow-origin", SHOP], "all origins": ["--allow-origin", "*"],
           "one by name and all": ["--allow-origin", "*", "--allow-origin", SHOP]}
# Which pages may use the server: by what is configured.
ORIGINS = {
    None: {"nothing configured": True, "one origin": True, "all origins": True, "one by name and all": True},
    "own": {"nothing configured": True, "one origin": True, "all origins": True, "one by name and all": True},
    SHOP: {"nothing configured": False, "one origin": True, "all origins": True, "one by name and all": True},
    EVIL: {"nothing configured": False, "one origin": False, "all origins": True, "one by name and all": True},
    "null": {"nothing configured": False, "one origin": False, "all origins": True, "one by name and all": True},
    # Nearly the one that is configured.
    "http://shop.example": {"nothing configured": False, "one origin": False, "all origins": True, "one by name and all": True},
    "https://shop.example:444": {"nothing configured": False, "one origin": False, "all origins": True, "one by name and all": True},
    "https://shop.example.evil.example": {
        "nothing configured": False, "one origin": False, "all origins": True, "one by name and all": True},
    "https://a.shop.example": {"nothing configured": False, "one origin": False, "all origins": True, "one by name and all": True},
    "HTTPS://SHOP.EXAMPLE": {"nothing configured": False, "one origin": False, "all origins": True, "one by name and all": True},
    # The same host on another port is another origin.
    "http://127.0.0.1:1": {"nothing configured": False, "one origin": False, "all origins": True, "one by name and all": True},
}
WAYS = {
    "SSE": ("GET", "/v1/subscribe?channel=plain.a", {"Accept": "text/event-stream"}),
    "WebSocket": ("GET", "/v1/subscribe?channel=plain.a", HANDSHAKE),
    "long-poll": ("GET", "/v1/subscribe?channel=plain.a&wait=0", {}),
    "publish": ("POST", "/v1/channels/plain.a", {"Content-Type": "text/plain"}),
}


@pytest.fixture(scope="module")
def standing(tmp_path_factory):
    """A server for each configuration; cookies can have tokens."""
    path = tmp_path_factory.mktemp("keys") / "secret"
    path.write_bytes(b"0123456789abcdef0123456789abcdef\n")
    servers = {name: Server(arguments=["--token-key", str(path), "--token-cookie", "session", *flags]) for name, flags in SERVERS.items()}
    yield servers
    for server in servers.values():
        assert server.stop() == 0


def ask(server, way, headers):
    """Status and fields of the answer, read off the wire: a stream does not end."""
    method, path, fields = WAYS[way]
    fields = {"Host": f"127.0.0.1:{server.port}", **fields, **headers}
    body = b"1" if method == "POST" else b""
    if body:
        fields["Content-Length"] = "1"
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
        raw.sendall(head.encode() + body)
        data = b""
        while b"\r\n\r\n" not in data:
            more = raw.recv(4096)
            assert more, data
            data += more
    lines = data.split(b"\r\n\r\n")[0].decode().split("\r\n")
    found = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        found.setdefault(name.lower(), []).append(value.strip())
    return int(lines[0].split()[1]), found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("configured", SERVERS)
@pytest.mark.parametrize("origin", ORIGINS, ids=str)
def test_a_page_may_use_the_server_if_its_origin_is_configured(standing, origin, configured, way):
    server = standing[configured]
    named = server.url if origin == "own" else origin
    status, fields = ask(server, way, {**bearer(), **({"Origin": named} if named else {})})
    good = {"SSE": 200, "WebSocket": 101, "long-poll": 200, "publish": 201}[way]
    if not ORIGINS[origin][configured]:
        assert status == 403
        assert "access-control-allow-origin" not in fields and "access-control-allow-credentials" not in fields
        return
    assert status == good
    is_other = named is not None and origin != "own"
    if way == "WebSocket":
        return
    assert fields.get("access-control-allow-origin") == ([named] if is_other else None)
    # Credentials are for origins that stand there by name, never for all.
    names = "--allow-origin" in SERVERS[configured] and origin in SERVERS[configured]
    assert fields.get("access-control-allow-credentials") == (["true"] if is_other and names else None)
    if is_other:
        assert "Origin" in fields["vary"][0]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("configured", SERVERS)
@pytest.mark.parametrize("origin", ORIGINS, ids=str)
def test_a_cookie_counts_from_pages_that_stand_there_by_name(standing, origin, configured, way):
    server = standing[configured]
    named = server.url if origin == "own" else origin
    status, fields = ask(server, way, {"Cookie": f"session={token()}", **({"Origin": named} if named else {})})
    good = {"SSE": 200, "WebSocket": 101, "long-poll": 200, "publish": 201}[way]
    if origin is None:
        # Without one it counts where a browser would have named it if the page were another's.
        expected = good if way in ("SSE", "long-poll") else 403
    else:
        expected = good if origin == "own" or origin in SERVERS[configured] else 403
    assert status == expected
    if status == 403:
        assert "access-control-allow-credentials" not in fields or origin in SERVERS[configured]


PREFLIGHTS = [
    # Origin, configured, what is asked for, whether it is answered.
    (SHOP, "one origin", {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, content-type"}, True),
    (SHOP, "all origins", {"Access-Control-Request-Method": "GET"}, True),
    (EVIL, "one origin", {"Access-Control-Request-Method": "POST"}, False),
    ("null", "one origin", {"Access-Control-Request-Method": "POST"}, False),
    (EVIL, "nothing configured", {"Access-Control-Request-Method": "GET"}, False),
]


@each_version
@pytest.mark.parametrize("origin, configured, wanted, answered", PREFLIGHTS)
def test_preflights(standing, origin, configured, wanted, answered, version):
    server = standing[configured]
    with http(version) as client:
        answer = client.options(f"{server.url}/v1/channels/plain.a", headers={"Origin": origin, **wanted})
    if not answered:
        assert_problem(answer, 403, "origin-not-allowed")
        return
    # A preflight has no token and needs none.
    assert answer.status_code == 200 and not answer.content
    assert answer.headers["access-control-allow-origin"] == origin
    assert {"GET", "POST"} <= set(answer.headers["access-control-allow-methods"].replace(" ", "").split(","))
    allowed = {name.strip().lower() for name in answer.headers["access-control-allow-headers"].split(",")}
    assert {"authorization", "content-type", "last-event-id", "prefer", "idempotency-key"} <= allowed
    assert ("access-control-allow-credentials" in answer.headers) == (configured == "one origin")


HOSTS = [
    # What it listens to is this host: only names of this host, and those that are configured.
    ([], "127.0.0.1", True), ([], "localhost", True), ([], "LocalHost:1", True), ([], "[::1]:80", True), ([], "127.0.0.1:65535", True),
    ([], "evil.example", False), ([], "localhost.evil.example", False), ([], "evil.example:80", False), ([], "127.0.0.2", False),
    ([], "localhost.", False),
    (["--allow-host", "tocsin.example"], "tocsin.example", True), (["--allow-host", "tocsin.example"], "TOCSIN.example:443", True),
    (["--allow-host", "tocsin.example"], "a.tocsin.example", False), (["--allow-host", "tocsin.example"], "localhost", True),
    (["--allow-host", "*"], "evil.example", True),
]


@pytest.fixture(scope="module")
def named():
    """A server for each list of flags."""
    servers = {}

    def server_of(flags):
        if tuple(flags) not in servers:
            servers[tuple(flags)] = Server(arguments=flags)
        return servers[tuple(flags)]

    yield server_of
    for server in servers.values():
        assert server.stop() == 0


@each_version
@pytest.mark.parametrize("flags, host, allowed", HOSTS)
def test_the_server_answers_to_its_names_alone(named, flags, host, allowed, version):
    server = named(flags)
    with http(version) as client:
        for path in ("/v1/subscribe?channel=plain.a&wait=0", "/healthz", "/metrics"):
            answer = client.get(server.url + path, headers={"Host": host})
            if allowed:
                assert answer.status_code == 200, answer.text
            else:
                problem = assert_problem(answer, 421, "host-not-allowed")
                assert problem["rule"] == "host" and problem["configuration_key"] == "allowed_hosts (--allow-host)"


def test_no_log_has_a_token(start_server, key):  # noqa: F811
    """Whatever is wrong with the request that has it, and wherever in it the token stands."""
    server = start_server(arguments=["--token-key", str(key), "--token-cookie", "session", "--log-level", "trace"])
    secrets = [token(jti=f"s{number}") for number in range(12)]
    text = iter(secrets)
    with http() as client:
        client.get(f"{server.url}/v1/subscribe?channel=plain.a&access_token={next(text)}")
        client.get(f"{server.url}/v1/subscribe?channel=plain.a&token={next(text)}", headers=bearer(subscribe=[]))
        client.get(f"{server.url}/v1/nothing/{next(text)}", headers=bearer())
        client.get(f"{server.url}/{next(text)}", headers={"Host": "evil.example"})
        client.get(f"{server.url}/v1/channels/plain.a", headers={"Authorization": f"Bearer {next(text)}x"})
        client.get(f"{server.url}/v1/channels/plain.a", headers={"Authorization": f"Basic {next(text)}"})
        client.get(f"{server.url}/v1/channels/{next(text)}", headers=bearer())
        client.get(f"{server.url}/v1/subscribe?channel=plain.a&wait=0", headers={"Cookie": f"session={next(text)}x"})
        client.get(f"{server.url}/v1/subscribe?ticket={next(text)}&channel=plain.a", headers={"Origin": EVIL})
        client.post(f"{server.url}/v1/sessions/{next(text)}", json={}, headers=bearer())
    for head in (f"GET /{next(text)} HTTP/1.1\r\nHost: a\r\nBad Field: 1\r\n\r\n", f"GET /v1/{next(text)} HTTP/9.9\r\nHost: a\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
            raw.sendall(head.encode())
            raw.recv(4096)
    eventually(lambda: any(entry.get("message") == "refused" for entry in list(server.log)), "the log has refusals")
    assert server.stop() == 0
    output = "".join(server.output)
    for secret in secrets:
        assert secret.split(".")[2] not in output and secret.split(".")[1] not in output


def test_a_poll_that_comes_again_with_the_same_words_shows_its_token_again(start_server, key, tmp_path):  # noqa: F811
    """The server knows such a poll by its bytes: what was taken back, and a ticket that was used, are refused all the same."""
    from test_api_keys import run, with_key

    path = tmp_path / "api-keys"
    admin = run("key", "make", "--name", "admin", "--admin", "--file", path)
    server = start_server(arguments=["--token-key", str(key), "--api-keys", str(path)])

    def polls(items, fields, position=None):
        """Polls on one connection, each from where the last one ended."""
        raw = socket.create_connection(("127.0.0.1", server.port), timeout=5)
        state = {"position": position}

        def poll():
            after = f"&after={state['position']}" if state["position"] else ""
            raw.sendall(f"GET /v1/subscribe?channel=plain.a{after}{items} HTTP/1.1\r\nHost: a\r\nPrefer: wait=5\r\n{fields}\r\n".encode())
            data = b""
            while b"\r\n\r\n" not in data:
                data += raw.recv(65536)
            head, _, body = data.partition(b"\r\n\r\n")
            length = int([line for line in head.decode().lower().split("\r\n") if line.startswith("content-length")][0].split(":")[1])
            while len(body) < length:
                body += raw.recv(65536)
            answer = json.loads(body)
            state["position"] = answer.get("position", state["position"])
            return int(head.split()[1])
        return raw, poll

    with http() as client:
        def publish():
            assert client.post(f"{server.url}/v1/channels/plain.a", json=1, headers=bearer("otto")).status_code == 201

        raw, poll = polls("", f"Authorization: Bearer {token(iat=1000, jti='x')}\r\n")
        with raw:
            assert poll() == 200
            for _ in range(3):
                publish()
                assert poll() == 200
            answer = client.post(f"{server.url}/v1/admin/revocations", json={"token_id": "x"}, headers=with_key(admin))
            assert answer.status_code == 200
            publish()
            assert poll() == 401
        ticket = client.post(f"{server.url}/v1/tickets", headers=bearer()).json()["ticket"]
        position = client.get(f"{server.url}/v1/subscribe?channel=plain.a&wait=0", headers=bearer()).json()["position"]
        publish()
        raw, poll = polls(f"&ticket={ticket}", "", position)
        with raw:
            assert poll() == 200
            publish()
            assert poll() == 401
