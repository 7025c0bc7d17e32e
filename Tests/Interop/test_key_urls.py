"""Keys of tokens from a URL: fetched, kept, changed, and what happens while their source is down."""

import json
import os
import ssl
import subprocess
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from support import Endpoint, assert_problem, binary, eventually, http, make_certificate
from test_forged_tokens import public, url
from test_sessions import Events

KEYS = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("one", "two", "three")}
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
# The server asks again because of an unknown key at most once in so many seconds.
PAUSE = 5.2


def member(name, key=None, **fields):
    return {**public(key or KEYS[name]), "kid": name, "alg": "ES256", "use": "sig", **fields}


def made(name, key=None, algorithm="ES256", **claims):
    payload = {"sub": "anna", "exp": int(time.time()) + 600, "publish": [">"], **claims}
    return jwt.encode(payload, key or KEYS[name], algorithm, headers={"kid": name})


def status(server, token):
    with http() as client:
        return client.get(f"{server.url}/v1/subscribe?channel=plain.a&wait=0", headers={"Authorization": f"Bearer {token}"})


class Source(Endpoint):
    """Publishes a set that the test can change, or nothing but an error."""

    def __init__(self, members, **options):
        self.members, self.fault, self.delay = members, None, 0
        super().__init__(self._set, **options)

    def _set(self, *_):
        time.sleep(self.delay)
        if self.fault is not None:
            return self.fault
        return 200, {"Content-Type": "application/json", "Cache-Control": "max-age=3000"}, json.dumps({"keys": self.members}).encode()


@pytest.fixture
def source():
    with Source([member("one")]) as source:
        yield source


def guarded_by(start_server, source, *arguments):
    return start_server(arguments=["--jwks-url", f"{source.url}/keys", *arguments])


def said(server, words):
    return [entry for entry in list(server.log) if words in entry.get("message", "")]


def test_keys_are_fetched_once_and_kept(start_server, source):
    server = guarded_by(start_server, source)
    for _ in range(20):
        assert status(server, made("one")).status_code == 200
    assert_problem(status(server, made("one", KEYS["two"])), 401, "token-invalid")
    assert len(source.asked) == 1
    figures = http().get(f"{server.url}/metrics").text
    assert 'tocsin_token_key_fetches_total{result="ok"} 1' in figures and "tocsin_token_keys_age_seconds" in figures


def test_a_new_key_counts_with_its_first_token_and_an_old_one_no_longer(start_server, source):
    server = guarded_by(start_server, source)
    assert status(server, made("one")).status_code == 200
    time.sleep(PAUSE)
    source.members = [member("two")]
    assert status(server, made("two")).status_code == 200
    assert_problem(status(server, made("one")), 401, "token-invalid")
    assert len(source.asked) == 2


def test_unknown_keys_do_not_make_the_server_ask_all_the_time(start_server, source):
    server = guarded_by(start_server, source)
    assert status(server, made("one")).status_code == 200
    for number in range(100):
        assert_problem(status(server, made(f"k{number}", KEYS["three"])), 401, "token-invalid")
    assert len(source.asked) <= 2
    time.sleep(PAUSE)
    for number in range(100):
        assert_problem(status(server, made(f"k{number}", KEYS["three"])), 401, "token-invalid")
    assert len(source.asked) <= 3


def test_a_stream_is_refreshed_with_a_key_that_is_new(start_server, source):
    server = guarded_by(start_server, source)
    headers = {"Authorization": f"Bearer {made('one')}"}
    with Events(server, "1.1", "channel=plain.a", headers=headers) as events, http() as client:
        time.sleep(PAUSE)
        source.members = [member("one"), member("two")]
        command = {"id": 1, "type": "refresh", "token": made("two")}
        reply = client.post(f"{server.url}/v1/sessions/{events.hello['session']}", json=command, headers=headers).json()
        assert "expires_in_ms" in reply
        command["token"] = made("three")
        reply = client.post(f"{server.url}/v1/sessions/{events.hello['session']}", json=command, headers=headers).json()
        assert reply["error"]["code"] == "bad_token"


FAULTS = {
    "an error": (500, {}, b""),
    "a redirect": (302, {"Location": "/elsewhere"}, b""),
    "not JSON": (200, {}, b"<html>"),
    "an empty set": (200, {}, b'{"keys":[]}'),
    "a set of secrets": (200, {}, json.dumps({"keys": [{"kty": "oct", "kid": "one", "alg": "HS256", "k": url(b"x" * 32)}]}).encode()),
    "too much": (200, {}, b'{"keys":[' + b" " * (1 << 20) + b"]}"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_old_keys_stay_while_the_source_has_none(start_server, source, fault):
    server = guarded_by(start_server, source)
    assert status(server, made("one")).status_code == 200
    time.sleep(PAUSE)
    source.fault = FAULTS[fault]
    assert_problem(status(server, made("two")), 401, "token-invalid")
    assert len(source.asked) == 2, source.asked
    assert status(server, made("one")).status_code == 200
    eventually(lambda: said(server, "the old ones stay"), "the log says so")
    secret = jwt.encode({"sub": "anna", "exp": int(time.time()) + 60}, b"x" * 32, "HS256", headers={"kid": "one"})
    assert_problem(status(server, secret), 401, "token-invalid")


def test_a_server_that_starts_before_its_source_waits_for_it(start_server):
    with Source([member("one")]) as source:
        source.fault = (503, {}, b"")
        server = guarded_by(start_server, source)
        answer = status(server, made("one"))
        problem = assert_problem(answer, 503, "keys-unavailable")
        assert problem["rule"] == "token" and int(answer.headers["retry-after"]) > 0
        assert_problem(http().get(f"{server.url}/v1/channels/plain.a"), 401, "token-missing")
        source.fault = None
        eventually(lambda: status(server, made("one")).status_code == 200, "the keys have come", seconds=12)
        assert len(said(server, "there are none yet")) == 1


def test_a_source_that_hangs_holds_nobody_long(start_server, source):
    server = guarded_by(start_server, source)
    assert status(server, made("one")).status_code == 200
    time.sleep(PAUSE)
    source.delay = 30
    with http(timeout=12) as client:
        answer = client.get(f"{server.url}/v1/subscribe?channel=a&wait=0", headers={"Authorization": f"Bearer {made('two')}"})
    assert_problem(answer, 401, "token-invalid")
    assert status(server, made("one")).status_code == 200
    assert server.stop() == 0


def test_a_set_as_others_publish_it(start_server):
    """Keys of other uses and kinds beside, and no `alg`."""
    without = {name: value for name, value in member("two").items() if name not in ("alg", "use")}
    members = [{"kty": "OKP", "crv": "X25519", "x": "A" * 43, "kid": "x", "use": "enc"}, {"kty": "new", "kid": "n"}, {"kid": "one"},
               7, member("one"), without, {**public(RSA), "kid": "rsa"}, member("three", use="enc")]
    with Source(members) as source:
        server = guarded_by(start_server, source)
        assert status(server, made("one")).status_code == 200
        assert status(server, made("two")).status_code == 200
        assert status(server, made("rsa", RSA, "RS256")).status_code == 200
        assert_problem(status(server, made("rsa", RSA, "PS256")), 401, "token-invalid")
        assert_problem(status(server, made("three")), 401, "token-invalid")


def test_the_source_is_believed_over_tls_only_if_it_is_who_it_should_be(start_server, tmp_path):
    chain, key = make_certificate(tmp_path, "keys")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    with Source([member("one")], context=context) as source:
        server = guarded_by(start_server, source)
        assert_problem(status(server, made("one")), 503, "keys-unavailable")
        assert not source.asked
        server = guarded_by(start_server, source, "--outgoing-ca", str(chain))
        assert status(server, made("one")).status_code == 200


def run(*arguments):
    ended = subprocess.run([binary(), *map(str, arguments)], capture_output=True, text=True, timeout=30)
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.parametrize("text", ["http://example.org/keys", "ftp://localhost/", "localhost/keys", "https://", "https://a:b@example.org/"])
def test_a_url_that_cannot_be_trusted_is_told(text):
    ended, words = run("serve", "--port", 0, "--jwks-url", text)
    assert ended == 64 and "--jwks-url" in words
    ended, words = run("serve", "--port", 0, "--hook", text)
    assert ended == 64 and "--hook" in words


def test_explain_and_check_fetch_too(source, tmp_path):
    flags = ["--jwks-url", f"{source.url}/keys"]
    ended, words = run("token", "check", *flags, made("one"))
    assert ended == 0 and "user: anna" in words
    ended, words = run("explain", "publish", "--channel", "plain.a", "--token", made("one"), *flags)
    assert ended == 0 and "yes" in words
    source.fault = (500, {}, b"")
    ended, words = run("token", "check", *flags, made("one"))
    assert ended == 1 and "500" in words
    (tmp_path / "secret").write_bytes(os.urandom(32))
    ended, words = run("token", "check", *flags, "--token-key", tmp_path / "secret", made("one"))
    assert ended == 64 and "together" in words
