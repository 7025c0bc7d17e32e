"""Forged tokens of every kind: made with PyJWT, with jwcrypto, and by hand where no library makes them. All rules of RFC 8725."""

import base64
import hashlib
import hmac
import json
import os
import struct
import subprocess
import time

import jwt
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwcrypto import jwe, jwk, jws
from jwcrypto import jwt as jwcrypto_jwt

from support import Server, assert_problem, binary, http

RSA = {name: rsa.generate_private_key(public_exponent=65537, key_size=2048) for name in ("one", "other")}
EC = {"ES256": ec.generate_private_key(ec.SECP256R1()), "ES384": ec.generate_private_key(ec.SECP384R1()),
      "ES512": ec.generate_private_key(ec.SECP521R1())}
OTHER_EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
OCT = {"HS256": os.urandom(32), "HS384": os.urandom(48), "HS512": os.urandom(64)}
ISSUER, AUDIENCE = "https://issuer.example", "https://tocsin.example"

KEYS = {**{name: RSA["one"] for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")}, **EC, "EdDSA": ED, **OCT}


def url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def public(key):
    """The JWK of a key, by jwcrypto; of a secret, the secret."""
    if isinstance(key, bytes):
        return {"kty": "oct", "k": url(key)}
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return json.loads(jwk.JWK.from_pem(pem).export_public())


def pem_of(key):
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "set.json"
    members = [{**public(key), "kid": f"k-{name}", "alg": name, "use": "sig"} for name, key in KEYS.items()]
    # An encryption key is none that checks tokens.
    members.append({**public(OTHER_EC), "kid": "k-enc", "alg": "ES256", "use": "enc"})
    path.write_text(json.dumps({"keys": members}))
    path.chmod(0o600)
    server = Server(arguments=["--token-key", str(path), "--token-issuer", ISSUER, "--token-audience", AUDIENCE])
    yield server
    assert server.stop() == 0


def claims(**changes):
    now = int(time.time())
    values = {"sub": "anna", "iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + 600, "jti": "one", **changes}
    return {name: value for name, value in values.items() if value is not ...}


def made(algorithm="ES256", key=None, headers=None, **changes):
    """By PyJWT."""
    return jwt.encode(claims(**changes), key or KEYS[algorithm], algorithm, headers={"kid": f"k-{algorithm}", **(headers or {})})


def raw(header, payload, sign):
    """By hand: `header` and `payload` are texts or values, `sign` makes the signature of the bytes."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    text = ".".join(url(part) for part in parts)
    return text + "." + url(sign(text.encode()))


def hs256(key=None):
    return lambda text: hmac.new(key or OCT["HS256"], text, hashlib.sha256).digest()


HS_HEADER = {"alg": "HS256", "typ": "JWT", "kid": "k-HS256"}


def es256(text):
    return jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256).sign(text, EC["ES256"])


def ask(server, token):
    with http() as client:
        return client.get(f"{server.url}/v1/subscribe?channel=scores.a&wait=0", headers={"Authorization": f"Bearer {token}"})


@pytest.mark.parametrize("algorithm", KEYS)
def test_each_algorithm_is_taken_from_pyjwt_and_jwcrypto(guarded, algorithm):
    assert ask(guarded, made(algorithm)).status_code == 200
    key = jwk.JWK.from_pyca(KEYS[algorithm]) if not isinstance(KEYS[algorithm], bytes) else jwk.JWK(**public(KEYS[algorithm]))
    token = jwcrypto_jwt.JWT(header={"alg": algorithm, "kid": f"k-{algorithm}"}, claims=claims(aud=["x", AUDIENCE]))
    token.make_signed_token(key)
    assert ask(guarded, token.serialize()).status_code == 200


@pytest.mark.parametrize("algorithm", KEYS)
@pytest.mark.parametrize("named", KEYS)
def test_a_key_is_for_its_own_algorithm(guarded, algorithm, named):
    token = made(algorithm, headers={"kid": f"k-{named}"})
    assert ask(guarded, token).status_code == (200 if algorithm == named else 401)


def unsigned(algorithm):
    return raw({"alg": algorithm, "typ": "JWT", "kid": "k-ES256"}, claims(), lambda text: b"")


def confused(secret):
    """A public key as the secret of HS256, which is what `alg` chosen by the attacker is for."""
    return [raw({"alg": "HS256", "typ": "JWT", "kid": kid}, claims(), hs256(secret)) for kid in ("k-RS256", "k-ES256", "k-HS256")]


def encrypted():
    token = jwe.JWE(json.dumps(claims()), json.dumps({"alg": "dir", "enc": "A256GCM", "kid": "k-HS256"}))
    token.add_recipient(jwk.JWK(kty="oct", k=url(OCT["HS256"])))
    return token.serialize(compact=True)


def as_json():
    token = jws.JWS(json.dumps(claims()))
    token.add_signature(jwk.JWK.from_pyca(EC["ES256"]), None, json.dumps({"alg": "ES256", "kid": "k-ES256"}))
    return token.serialize()


def embedded(name):
    """Signed with the attacker's key, which the header offers along."""
    key = jwk.JWK.from_pyca(OTHER_EC)
    value = {"jwk": json.loads(key.export_public()), "jku": "http://127.0.0.1:1/set.json", "x5u": "http://127.0.0.1:1/a.pem",
             "x5c": ["AAAA"], "x5t": "AAAA"}[name]
    return made("ES256", key=OTHER_EC, headers={name: value})


def der_signature(text):
    return EC["ES256"].sign(text, ec.ECDSA(hashes.SHA256()))


def changed(token, part, letter=-1):
    parts = token.split(".")
    characters = list(parts[part])
    characters[letter] = "A" if characters[letter] != "A" else "B"
    parts[part] = "".join(characters)
    return ".".join(parts)


def same_bits(token, part=2):
    """Another base64 of the same bytes: the bits after the last byte are not 0."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    parts = token.split(".")
    last = alphabet.index(parts[part][-1])
    parts[part] = parts[part][:-1] + alphabet[last ^ 1]
    return ".".join(parts)


FORGED = {
    # Algorithms (RFC 8725 sections 2.1, 3.1, 3.2).
    **{f"unsigned, {name}": lambda name=name: unsigned(name) for name in ("none", "None", "NONE", "nOnE", "", "HS256")},
    "by PyJWT without a signature": lambda: jwt.encode(claims(), None, "none", headers={"kid": "k-ES256"}),
    **{f"an RSA key as a secret, {n}": lambda n=n: confused(pem_of(RSA["one"]))[n] for n in range(3)},
    **{f"an EC key as a secret, {n}": lambda n=n: confused(pem_of(EC["ES256"]))[n] for n in range(3)},
    "a JWK as a secret": lambda: confused(json.dumps(public(EC["ES256"])).encode())[1],
    "no secret": lambda: confused(b"\0" * 32)[2],
    "another key of the same kind": lambda: made("ES256", key=OTHER_EC),
    "another RSA key": lambda: made("RS256", key=RSA["other"]),
    "PSS for PKCS 1": lambda: made("PS256", headers={"kid": "k-RS256"}),
    "alg is no text": lambda: raw({"alg": ["HS256"], "kid": "k-HS256"}, claims(), hs256()),
    "alg twice": lambda: raw(b'{"alg":"none","alg":"HS256","kid":"k-HS256"}', claims(), hs256()),
    "alg in small letters": lambda: raw({"alg": "hs256", "kid": "k-HS256"}, claims(), hs256()),
    # The signature.
    "r and s are 0": lambda: raw({"alg": "ES256", "kid": "k-ES256"}, claims(), lambda text: bytes(64)),
    "r and s are the order": lambda: raw(
        {"alg": "ES256", "kid": "k-ES256"}, claims(),
        lambda text: bytes.fromhex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551") * 2),
    "a signature in DER": lambda: raw({"alg": "ES256", "kid": "k-ES256"}, claims(), der_signature),
    "a signature cut short": lambda: raw(HS_HEADER, claims(), lambda text: hs256()(text)[:16]),
    "a signature that is too long": lambda: raw(HS_HEADER, claims(), lambda text: hs256()(text) + b"\0"),
    "another header": lambda: changed(made(), 0, 5),
    "another payload": lambda: changed(made(), 1, 30),
    "another signature": lambda: changed(made(), 2, 3),
    # Which key (sections 2.7 to 2.10, 3.8, 3.10).
    **{f"its own key, {name}": lambda name=name: embedded(name) for name in ("jwk", "jku", "x5u", "x5c", "x5t")},
    "no kid": lambda: raw({"alg": "HS256", "typ": "JWT"}, claims(), hs256()),
    "an unknown kid": lambda: made(headers={"kid": "k-ES2567"}),
    "a key for encryption": lambda: made("ES256", key=OTHER_EC, headers={"kid": "k-enc"}),
    **{f"kid {kid!r}": lambda kid=kid: made("HS256", key=b"\0" * 32, headers={"kid": kid})
       for kid in ("../../dev/null", "/dev/null", "k-HS256' OR '1'='1", "http://127.0.0.1:1/", "k-HS256\0", "", "K-HS256")},
    "kid is no text": lambda: raw({"alg": "HS256", "kid": 1}, claims(), hs256()),
    # The header.
    "crit": lambda: made(headers={"crit": ["x"], "x": 1}),
    "crit that is empty": lambda: raw({**HS_HEADER, "crit": []}, claims(), hs256()),
    "a payload that is not encoded (RFC 7797)": lambda: raw({**HS_HEADER, "b64": False, "crit": ["b64"]}, claims(), hs256()),
    "typ of another kind of token": lambda: made(headers={"typ": "logout+jwt"}),
    "typ is no text": lambda: raw({**HS_HEADER, "typ": 1}, claims(), hs256()),
    # Form.
    "encrypted": encrypted,
    "JSON serialization": lambda: as_json().replace("\n", ""),
    "padding": lambda: made() + "=",
    "not canonical": lambda: same_bits(made("ES256")),
    "a fourth part": lambda: made() + ".",
    "two parts": lambda: made().rsplit(".", 1)[0],
    "blanks in it": lambda: raw(HS_HEADER, claims(), hs256()).replace(".", ". ", 1),
    "base64 with + and /": lambda: raw(HS_HEADER, json.dumps(claims(x="ÿ>>???~~~~")).encode(), hs256()).replace("-", "+").replace("_", "/")
    + "+",
    "too long": lambda: made(x="a" * 8192),
    "a name twice": lambda: raw(HS_HEADER, json.dumps(claims())[:-1].encode() + b',"sub":"otto"}', hs256()),
    "a name twice, with an escape": lambda: raw(HS_HEADER, json.dumps(claims())[:-1].encode() + b',"su\\u0062":"otto"}', hs256()),
    "something after the object": lambda: raw(HS_HEADER, json.dumps(claims()).encode() + b"{}", hs256()),
    "an array": lambda: raw(HS_HEADER, [claims()], hs256()),
    "not UTF-8": lambda: raw(HS_HEADER, json.dumps(claims())[:-1].encode() + b',"x":"\xff"}', hs256()),
    # Time (sections 3.9, 3.12; RFC 7519 section 4.1.4).
    "no exp": lambda: made(exp=...),
    "exp is a text": lambda: raw(HS_HEADER, claims(exp=str(int(time.time()) + 600)), hs256()),
    "exp with a fraction": lambda: raw(HS_HEADER, claims(exp=time.time() + 600), hs256()),
    "exp is huge": lambda: raw(HS_HEADER, json.dumps(claims(exp=0)).replace('"exp": 0', '"exp": 1e400').encode(), hs256()),
    "exp is larger than time": lambda: raw(HS_HEADER, claims(exp=2**63), hs256()),
    "exp is negative": lambda: raw(HS_HEADER, claims(exp=-1), hs256()),
    "exp is null": lambda: raw(HS_HEADER, claims(exp=None), hs256()),
    "exp is true": lambda: raw(HS_HEADER, claims(exp=True), hs256()),
    "nbf in a minute": lambda: made(nbf=int(time.time()) + 60),
    "nbf is a text": lambda: raw(HS_HEADER, claims(nbf="0"), hs256()),
    "iat is a text": lambda: raw(HS_HEADER, claims(iat="0"), hs256()),
    # Whom it is from, of and for (sections 3.8, 3.9).
    "no issuer": lambda: made(iss=...),
    "another issuer": lambda: made(iss="https://issuer.example.net"),
    "issuer with a slash": lambda: made(iss=ISSUER + "/"),
    "issuer in large letters": lambda: made(iss=ISSUER.upper()),
    "issuers": lambda: raw(HS_HEADER, claims(iss=[ISSUER]), hs256()),
    "no audience": lambda: made(aud=...),
    "another audience": lambda: made(aud="https://other.example"),
    "no audience among none": lambda: made(aud=[]),
    "an audience that begins so": lambda: made(aud=AUDIENCE + ".evil"),
    "audience is an object": lambda: raw(HS_HEADER, claims(aud={AUDIENCE: 1}), hs256()),
    "no sub": lambda: made(sub=...),
    "an empty sub": lambda: made(sub=""),
    "sub is a number": lambda: raw(HS_HEADER, claims(sub=7), hs256()),
    "jti is a number": lambda: raw(HS_HEADER, claims(jti=7), hs256()),
    # Grants.
    "subscribe is a text": lambda: made(subscribe="scores.a"),
    "subscribe is null": lambda: raw(HS_HEADER, claims(subscribe=None), hs256()),
    "subscribe has an object": lambda: made(subscribe=["scores.a", {}]),
    "publish is no pattern": lambda: made(publish=["scores..a"]),
    "presence with {sub} within a token": lambda: made(presence=["user-{sub}"]),
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_token_is_refused(guarded, kind):
    token = FORGED[kind]()
    answer = ask(guarded, token)
    problem = assert_problem(answer, 401, "token-invalid")
    # One answer for all: nothing to learn from.
    assert problem["detail"] == "it is not one that this server can check"
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


def test_the_ways_of_forging_start_from_what_is_taken(guarded):
    """Each of the helpers makes good tokens when nothing is wrong with them: else the table would show nothing."""
    for token in (made(), raw(HS_HEADER, claims(), hs256()), raw({"alg": "ES256", "kid": "k-ES256"}, claims(), es256),
                  raw({**HS_HEADER, "typ": "at+jwt"}, claims(subscribe=["scores.a"], x="ÿ>>???~~~~"), hs256())):
        assert ask(guarded, token).status_code == 200


def test_clocks_may_differ_a_little_both_ways(guarded):
    now = int(time.time())
    assert ask(guarded, made(exp=now - 2)).status_code == 200
    assert ask(guarded, made(nbf=now + 3)).status_code == 200
    assert_problem(ask(guarded, made(exp=now - 60)), 401, "token-expired")
    # Only who has the key is told that it has ended.
    assert_problem(ask(guarded, made("ES256", key=OTHER_EC, exp=now - 60)), 401, "token-invalid")


def test_sets_that_are_not_good_are_told(tmp_path):
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    point = public(EC["ES256"])
    off_curve = {**point, "y": url((int.from_bytes(base64.urlsafe_b64decode(point["y"] + "=="), "big") ^ 1).to_bytes(32, "big"))}
    private = json.loads(jwk.JWK.from_pyca(EC["ES256"]).export_private())
    for number, (member, words) in enumerate([
        ({**public(weak), "kid": "a", "alg": "RS256"}, "not a good one"),
        ({**off_curve, "kid": "a", "alg": "ES256"}, "not a good one"),
        ({**private, "kid": "a", "alg": "ES256"}, "not a public one"), ({**point, "kid": "a"}, "no \\\"alg\\\""),
        ({name: point[name] for name in ("kty", "crv", "x", "y")} | {"alg": "ES256"}, "no \\\"kid\\\""),
        ({**point, "kid": "a", "alg": "none"}, "not taken"),
        ({**point, "kid": "a", "alg": "HS256"}, "does not fit"),
        ({"kty": "oct", "k": url(OCT["HS256"]), "kid": "a", "alg": "HS512"}, "64 bytes"),
    ]):
        path = tmp_path / f"set{number}.json"
        path.write_text(json.dumps({"keys": [member]}))
        path.chmod(0o600)
        check_refused(path, words.replace("\\", ""))
    path = tmp_path / "readable.json"
    path.write_text(json.dumps({"keys": [{"kty": "oct", "k": url(OCT["HS256"]), "kid": "a", "alg": "HS256"}]}))
    path.chmod(0o644)
    check_refused(path, "others may read")


def check_refused(path, words):
    ended = subprocess.run([binary(), "token", "check", "--token-key", str(path), "x"], capture_output=True, text=True, timeout=30)
    assert ended.returncode != 0 and words in ended.stderr, (words, ended.stderr)


def test_signatures_have_a_length(guarded):
    """A signature is as long as its algorithm says (RFC 7518 section 3.4), and each bit of it counts."""
    token = raw({"alg": "ES256", "kid": "k-ES256"}, claims(), es256)
    for size in (0, 1, 32, 63, 65, 128):
        head = token.rsplit(".", 1)[0]
        assert ask(guarded, head + "." + url(struct.pack(f"{size}x"))).status_code == 401
