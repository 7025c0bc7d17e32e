"""Where a token may be: a cookie, with the origins that it counts from, and tickets, which are good once."""

import json
import re
import threading

import pytest
import websockets.exceptions

from support import Server, assert_problem, eventually, http
from test_sessions import Events
from test_tokens import bearer, key, open_websocket, token  # noqa: F401
from test_websockets import receive

VERSIONS = ["1.1", "2"]
each_version = pytest.mark.parametrize("version", VERSIONS)
SHOP = "https://shop.example"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, certificate):
    path = tmp_path_factory.mktemp("keys") / "secret"
    path.write_bytes(b"0123456789abcdef0123456789abcdef\n")
    server = Server(certificate=certificate, arguments=["--token-key", str(path), "--token-cookie", "session", "--allow-origin", SHOP])
    yield server
    assert server.stop() == 0


@pytest.fixture
def open_to_all(start_server, key):  # noqa: F811
    return start_server(arguments=["--token-key", str(key), "--token-cookie", "session", "--allow-origin", "*", "--allow-origin", SHOP])


def cookie(text=None, **more):
    return {"Cookie": f"a=b; session={text or token()}; c=d", **more}


# Cookies.

@each_version
def test_a_cookie_has_the_token(guarded, version):
    url = f"{guarded.url}/v1/subscribe?channel=plain.a&wait=0"
    with http(version) as client:
        assert client.get(url, headers=cookie()).status_code == 200
        assert client.get(url, headers=cookie(**{"Sec-Fetch-Site": "same-origin"})).status_code == 200
        assert client.get(url, headers=[("Cookie", "a=b"), ("Cookie", f"session={token()}")]).status_code == 200
        assert_problem(client.get(url, headers={"Cookie": f"Session={token()}"}), 401, "token-missing")
        assert_problem(client.get(url, headers=cookie("x.y.z")), 401, "token-invalid")
        assert_problem(client.get(url, headers=cookie(token() + f"; session={token()}")), 401, "token-invalid")
        # What is said on purpose goes before what comes by itself.
        assert_problem(client.get(url, headers=cookie(**{"Authorization": "Bearer x.y.z"})), 401, "token-invalid")
        assert client.get(url, headers=cookie("x.y.z", **bearer())).status_code == 200


@each_version
def test_another_site_cannot_use_a_visitors_cookie(guarded, version):
    own = guarded.url
    with http(version) as client:
        for method, headers, status in [
            ("POST", {}, 403), ("POST", {"Origin": own}, 201), ("POST", {"Origin": SHOP}, 201),
            ("POST", {"Origin": "https://evil.example"}, 403), ("POST", {"Origin": "null"}, 403),
            ("GET", {"Sec-Fetch-Site": "cross-site"}, 403), ("GET", {"Sec-Fetch-Site": "same-site"}, 403),
            ("GET", {"Origin": "https://evil.example"}, 403), ("GET", {"Origin": SHOP}, 200), ("GET", {"Sec-Fetch-Site": "none"}, 200),
        ]:
            path = "/v1/channels/plain.a" if method == "POST" else "/v1/subscribe?channel=plain.a&wait=0"
            answer = client.request(method, own + path, content="1" if method == "POST" else None, headers=cookie(**headers))
            assert answer.status_code == status, (method, headers)
            if status == 403:
                assert_problem(answer, 403, "origin-not-allowed")
                assert "access-control-allow-credentials" not in answer.headers or headers.get("Origin") == SHOP
            elif headers.get("Origin") == SHOP:
                assert answer.headers["access-control-allow-origin"] == SHOP
                assert answer.headers["access-control-allow-credentials"] == "true"
                assert "Origin" in answer.headers["vary"]
        # A token that is no cookie is not the browser's to send along.
        assert client.post(f"{own}/v1/channels/plain.a", content="1", headers=bearer()).status_code == 201


def test_a_websocket_with_a_cookie_names_its_origin(guarded):
    for origin, status in [(None, 403), ("https://evil.example", 403), (SHOP, 101), (guarded.url, 101)]:
        try:
            with open_websocket(guarded, "channel=plain.a", additional_headers=cookie(), origin=origin) as connection:
                assert receive(connection)["type"] == "hello" and status == 101, origin
        except websockets.exceptions.InvalidStatus as refused:
            assert refused.response.status_code == status, origin


@each_version
def test_over_tls_a_page_without_tls_is_another(guarded, version):
    with http(version) as client:
        for origin, status in [(guarded.tls_url, 200), (guarded.tls_url.replace("https:", "http:"), 403)]:
            answer = client.get(f"{guarded.tls_url}/v1/subscribe?channel=plain.a&wait=0", headers=cookie(Origin=origin))
            assert answer.status_code == status, origin


def test_no_credentials_for_every_origin(open_to_all):
    with http() as client:
        assert_problem(client.get(f"{open_to_all.url}/v1/subscribe?channel=plain.a&wait=0", headers=cookie(Origin="*")), 403,
                       "origin-not-allowed")
        url = f"{open_to_all.url}/v1/subscribe?channel=plain.a&wait=0"
        answer = client.get(url, headers=cookie(Origin="https://evil.example"))
        assert_problem(answer, 403, "origin-not-allowed")
        assert "access-control-allow-credentials" not in answer.headers
        assert client.get(url, headers={**bearer(), "Origin": "https://evil.example"}).status_code == 200
        assert client.get(url, headers=cookie(Origin=SHOP)).headers["access-control-allow-credentials"] == "true"
        answer = client.get(f"{open_to_all.url}/tocsin.js", headers={"Origin": SHOP})
        assert answer.headers["access-control-allow-origin"] == "*" and "access-control-allow-credentials" not in answer.headers


def test_without_the_flag_a_cookie_is_nothing(start_server, key):  # noqa: F811
    server = start_server(arguments=["--token-key", str(key)])
    with http() as client:
        assert_problem(client.get(f"{server.url}/v1/subscribe?channel=a&wait=0", headers=cookie()), 401, "token-missing")


# Tickets.

def ticket(server, version="1.1", **claims):
    with http(version) as client:
        answer = client.post(f"{server.url}/v1/tickets", headers=bearer(**claims))
    assert answer.status_code == 201 and answer.headers["cache-control"] == "no-store", answer.text
    assert answer.json()["expires_in_ms"] == 30_000
    text = answer.json()["ticket"]
    assert re.fullmatch("[0-9a-f]{32}", text)
    return text


@each_version
@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
def test_a_ticket_is_good_once(guarded, version, accept):
    text = ticket(guarded, version, subscribe=["scores.*"])
    path = f"{guarded.url}/v1/subscribe?wait=0&channel=scores.a&ticket="
    with http(version) as client:
        with client.stream("GET", path + text, headers={"Accept": accept}) as answer:
            assert answer.status_code == 200
        assert_problem(client.get(path + text, headers={"Accept": accept}), 401, "token-invalid")
        assert_problem(client.get(path + "0" * 32), 401, "token-invalid")
        assert_problem(client.get(path + ticket(guarded) + "&ticket=" + ticket(guarded)), 401, "token-invalid")
        assert_problem(client.get(path + ticket(guarded), headers=bearer()), 401, "token-invalid")
        # It stands for the token, with what that grants and no more.
        answer = client.get(f"{guarded.url}/v1/subscribe?channel=alerts.a&ticket={ticket(guarded, subscribe=['scores.*'])}")
        assert_problem(answer, 403, "not-granted")


def test_a_ticket_opens_a_websocket_and_ends_with_its_token(guarded):
    with open_websocket(guarded, f"channel=plain.a&ticket={ticket(guarded)}") as connection:
        assert receive(connection)["type"] == "hello"
    with Events(guarded, "1.1", f"channel=plain.a&ticket={ticket(guarded, seconds=1)}") as events:
        events.wait("token-expired", seconds=15)


def test_a_ticket_is_for_subscribing_alone(guarded):
    with http() as client:
        for method, path in [("GET", "/v1/channels/plain.a"), ("POST", "/v1/channels/plain.a"), ("GET", "/v1/inbox"),
                             ("POST", "/v1/tickets"), ("POST", "/v1/subscribe")]:
            answer = client.request(method, f"{guarded.url}{path}?ticket={ticket(guarded)}", content="{}" if method == "POST" else None)
            assert_problem(answer, 401, "token-missing")


def test_of_many_who_use_a_ticket_at_once_one_gets_in(guarded):
    for _ in range(5):
        text = ticket(guarded)
        statuses = []
        start = threading.Barrier(8)

        def use(text=text, statuses=statuses, start=start):
            with http() as client:
                client.get(f"{guarded.url}/healthz")
                start.wait(10)
                statuses.append(client.get(f"{guarded.url}/v1/subscribe?channel=plain.a&wait=0&ticket={text}").status_code)

        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert sorted(statuses) == [200] + [401] * 7


def test_tickets_are_bounded_and_not_in_the_log(start_server, key):  # noqa: F811
    server = start_server(arguments=["--token-key", str(key), "--log-level", "trace"])
    texts = [ticket(server, subject="many") for _ in range(100)]
    with http() as client:
        answer = client.post(f"{server.url}/v1/tickets", headers=bearer("many"))
        problem = assert_problem(answer, 429, "too-many-tickets")
        assert problem["rule"] == "tickets" and int(answer.headers["retry-after"]) == 30
        assert ticket(server, subject="another")
        for text in texts[:3]:
            client.get(f"{server.url}/v1/subscribe?channel=..&ticket={text}")
            client.get(f"{server.url}/v1/subscribe?channel=plain.a&wait=0&ticket={text}")
    eventually(lambda: any(entry.get("message") == "refused" for entry in server.log), "a refusal in the log")
    output = "".join(server.output)
    assert not any(text in output for text in texts)
    assert len(set(texts)) == 100


def test_without_tokens_there_are_no_tickets(server):
    with http() as client:
        assert_problem(client.post(f"{server.url}/v1/tickets"), 404, "not-found")
        assert json.loads(client.get(f"{server.url}/v1/subscribe?channel=a&wait=0&ticket={'0' * 32}").text)["status"] == 400
