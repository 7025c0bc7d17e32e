"""Writes the seeds of Fixtures/Fuzz: good and bad examples of each syntax, in the form that each fuzz target reads.

    python3 Tests/Fuzz/seeds.py

Every run writes the same files, seed-NN in the folder of each target; other files stay as they are.
"""

import pathlib
import struct
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[2] / "Fixtures" / "Fuzz"


# JSON: texts with a zero between them; the first is a document, the others are merge patches.


def members(count, value="1", prefix="k"):
    return "{" + ",".join(f'"{prefix}{n}":{value}' for n in range(count)) + "}"


JSON = [
    'null\0true\0false',
    ' { "a" : [ 1 , -0.5e+3 , "x" ] ,\r\n\t"b" : { } , "c" : [ ] } ',
    '{"a":"\\u00e9\\ud83d\\ude00\\ud800\\n\\"\\\\\\/","é":"日本 \U0001f600"}',
    '[9223372036854775807,-9223372036854775808,18446744073709551615,1e400,-0,0.1,12345678901234567890123]',
    '{"a":1,"b":{"c":2}}\0{"b":{"c":null,"d":[1]},"a":null}\0{"a":{"x":{}}}',
    '{"a":1,"a":2}\0{"a":null,"\\u0061":3}\0{}',
    members(12) + '\0' + members(9, "null") + '\0{"k0":{"n":null}}\0' + members(5, "null", "k1"),
    members(70, '"v"') + '\0' + members(40, "null") + '\0' + members(34, "{}", "n"),
    '[1,2]\0{"a":{"b":null}}\0[]\0{"a":{"b":{"c":1}}}',
    '"text"\0{"a":1}\0{"a":null}',
    "[" * 64 + "]" * 64,
    "[" * 65 + "]" * 65,
    '{"a":' * 30 + "1" + "}" * 30 + '\0' + '{"a":' * 30 + "null" + "}" * 30,
    '{"a":1}\n{"b":2}\r\n\n \t\r\n{"c":3}',
    '01',
    '1.',
    '.5',
    '+1',
    '1e',
    '"\\x"',
    '"\\u12g4"',
    '{"a"}',
    '{"a":1,}',
    '[1,]',
    '[1 2]',
    'tru',
    'nul',
    '"a',
    '\ufeff1',
    '{a:1}',
    b'"\xc0\x80"',
    b'"\xed\xa0\x80"',
    b'"\xf4\x90\x80\x80"',
    b'"\xe2\x82"',
    '"\n"',
]


# WebSocket


def frame(first, payload=b"", key=b"", length=None):
    count = len(payload)
    bit = 0x80 if key else 0
    if length is not None:
        header = length
    elif count < 126:
        header = bytes([bit | count])
    elif count < 65536:
        header = bytes([bit | 126]) + struct.pack(">H", count)
    else:
        header = bytes([bit | 127]) + struct.pack(">Q", count)
    masked = bytes(byte ^ key[at % 4] for at, byte in enumerate(payload)) if key else payload
    return bytes([first]) + header + key + masked


KEY = b"\x37\xfa\x21\x3d"
UTF8 = "é日\U0001f600".encode()


def short(*frames):
    """Pairs of first byte and length with a payload."""
    return b"".join(bytes([first, len(payload)]) + payload for first, payload in frames)


def handshake(*values):
    return b"\x80" + b"\0".join(value.encode() for value in values)


def deflated(payload, level=6, strategy=zlib.Z_DEFAULT_STRATEGY):
    """A message of permessage-deflate (RFC 7692 section 7.2.1)."""
    stream = zlib.compressobj(level, zlib.DEFLATED, -15, 8, strategy)
    return (stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


WEBSOCKET = [
    b"\0" + frame(0x81, b"Hello", KEY),
    b"\0" + frame(0x01, b"Hel", KEY) + frame(0x89, b"p", KEY) + frame(0x80, b"lo", KEY) + frame(0x88, b"\x03\xe8bye", KEY),
    b"\1" + frame(0x82, bytes(range(126))) + frame(0x8A, b"pong") + frame(0x88),
    b"\0" + frame(0x82, b"x" * 300, KEY) + frame(0x81, UTF8, b"\0\0\0\0"),
    b"\1" + frame(0x01, UTF8[:4]) + frame(0x00, UTF8[4:6]) + frame(0x80, UTF8[6:]),
    b"\0" + frame(0x81, b"unmasked"),
    b"\1" + frame(0x81, b"masked", KEY),
    b"\0" + frame(0x82, b"", KEY, b"\xff" + b"\x80" + b"\0" * 7),
    b"\0" + frame(0x82, b"", KEY, b"\xff" + b"\x7f" + b"\xff" * 7),
    b"\0" + frame(0x82, b"a", KEY, b"\xfe\0\x01"),
    b"\1" + frame(0x82, b"a", b"", b"\x7f" + b"\0" * 7 + b"\x01"),
    b"\2" + short((0x01, UTF8[:3]), (0x89, b""), (0x00, b""), (0x80, UTF8[3:]), (0x88, b"\x0f\xa0ok")),
    b"\3" + short((0x82, b"b" * 130), (0x8A, b"x" * 125), (0x81, b"t"), (0x88, b"")),
    b"\2" + short((0x81, b"\xed\xa0\x80")),
    b"\2" + short((0x81, b"\xe2\x82")),
    b"\2" + short((0x88, b"\x03\xe8\xff")),
    b"\2" + short((0x88, b"\x03")),
    b"\2" + short((0x88, b"\x03\xed")),
    b"\2" + short((0x89, b"x" * 126)),
    b"\2" + short((0x09, b"")),
    b"\2" + short((0xC1, b"rsv1")),
    b"\2" + short((0xB3, b"rsv")),
    b"\2" + short((0x80, b"continued")),
    b"\2" + short((0x83, b"")),
    b"\2" + short((0x01, b"a"), (0x81, b"b")),
    b"\6" + short((0x02, b"a" * 60), (0x00, b"b" * 40), (0x80, b""), (0x82, b"c" * 101)),
    b"\x0a" + short((0x82, b""), (0x02, b""), (0x80, b"")),
    b"\x0e" + short(*[(0x02, b"a")] + [(0x00, b"b")] * 15 + [(0x80, b"c")]),
    b"\x12"
    + short((0xC1, deflated(b"Hello, Hello, Hello")), (0x41, b"\xf2\x48"), (0x80, b"\xcd\xc9\xc9\x07\x00"), (0xC2, b"\0"), (0xC2, b"")),
    b"\x12"
    + short((0xC1, b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), (0xC1, b"\x03\x00\x00"), (0xC1, deflated(UTF8, 0)), (0xC1, deflated(UTF8[:5]))),
    b"\x13" + short((0xC2, deflated(b"abc" * 400)), (0xC2, deflated(b"", 9)), (0xC2, deflated(bytes(range(60)), 9, zlib.Z_FIXED))),
    b"\x16" + short((0xC2, deflated(b"x" * 101)), (0xC2, b"not deflate")),
    b"\x12" + short((0xC2, deflated(b"y" * 70000)), (0xC9, b"")),
    b"\x12" + short((0x02, b""), (0xC0, b"")),
    handshake(
        "GET",
        "websocket",
        "upgrade",
        "13",
        "dGhlIHNhbXBsZSBub25jZQ==",
        "",
        'permessage-deflate; client_max_window_bits; server_max_window_bits="10", x-other;a\npermessage-deflate;server_no_context_takeover',
    ),
    handshake("GET", "websocket", "upgrade", "13", "dGhlIHNhbXBsZSBub25jZQ==", "", 'a;b="c\\d" ; e = f, , g'),
    handshake("GET", "websocket", "keep-alive, Upgrade", "13", "dGhlIHNhbXBsZSBub25jZQ==", "tocsin.v1, chat\nother"),
    handshake("GET", "h2c, WebSocket", "upgrade", "13", "AAAAAAAAAAAAAAAAAAAAAA=="),
    handshake("POST", "websocket", "upgrade", "8", "short", "a,a"),
]


# Event streams

EVENTSTREAM = [
    b"\0" + text.encode() if isinstance(text, str) else text
    for text in [
        "data: YHOO\ndata: +2\ndata: 10\n\n",
        ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        "\ufeffid: a\rdata: b\r\r\ndata\n\nevent: add\r\ndata: 73857293\r\n\r\n",
        "retry: 3000\nid: 5f3a9c01b7de.1042\nevent: hello\ndata: {\"a\":\"é\"}\n\n:\n\n: padded    \n\n",
        "retry: 99999999999999999999\nretry: 1a\nretry:\nretry\nretry:007\n",
        "id: a\0b\ndata: x\n\nid: c\n\ndata: y",
        "event\ndata:\n\nevent: \ndata\ndata\n\nDATA: x\ndata : y\n unknown: z\n:comment\n\n",
        b"\0\xef\xbbdata: x\n\n",
        b"\0\xef\xbb\xbf\xef\xbb\xbfdata: x\n\n",
        b"\0data: \xff\xc3(\xe2\x82\n\n",
        b"\1" + b"data: " + b"x" * 60 + b"\ndata: " + b"y" * 60 + b"\n\n",
        b"\2: a long comment counts for nothing\ndata:a\n\n",
        b"\2data: eleven\n\n",
        b"\3\n\n:\n\n",
        b"\3a",
        b"\x04id\0event\0\x0b\xb8\0line one\nline two\r\nline three\rend\0",
        b"\x04\0\0\0\0 spaced\0 event \0\x01\x02\x03\x04\x05\0{\"a\":1}\0id\nbreak\0e\rv\0\0\xff\xfe\0",
    ]
]


# HTTP/1.1 requests: a byte for the limits first.

REQUEST = [
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /v1/subscribe?channel=scores.wc2022.final&after=5f3a9c01b7de.1042 HTTP/1.1\r\nHost: example.org:8080\r\n"
    "Accept: text/event-stream\r\nUser-Agent: x\r\nCookie: a=b; c=d\r\n\r\n",
    "POST /p HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 5\r\nContent-Type: application/json\r\n\r\n[1,2]"
    "GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    "5;a=b\r\nhello\r\n0A\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /v1/subscribe HTTP/1.1\r\nHost: a\r\nUpgrade: websocket, h2c\r\nConnection: keep-alive, Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    "GET http://a.b:1/p?q HTTP/1.1\r\nHost: a.b:1\r\n\r\nOPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"
    "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
    "OPTIONS http://a HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET http://a?x HTTP/1.1\r\nHost: A\r\n\r\nGET / HTTP/1.0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX-Obs: caf\xe9\t x \r\nEmpty:\r\nx:y\r\n\r\n",
    "GET / HTTP/1.1\nHost: a\n\n",
    "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "GET / HTTP/2.0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n1",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 007\r\n\r\n1234567",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
    "\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\0\r\n\r\n",
    "G\x7fT / HTTP/1.1\r\n",
    "\x16\x03\x01\x02\0\x01",
]
HTTP1REQUEST = [b"\0" + text.encode("latin-1") for text in REQUEST] + [
    b"\1POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;abc\r\nhello\r\n0\r\nA: b\r\nC: d\r\n\r\n",
    b"\1GET / HTTP/1.1\r\nHost: a\r\nA:\r\nB:\r\nC:\r\nD:\r\nE:\r\n\r\n",
    b"\1GET /" + b"x" * 60,
    b"\2GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\n",
    b"\3G",
    b"\2POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
]


# HTTP/1.1 responses: a byte for limits, method and the end first.

HTTP1RESPONSE = [
    b"\0HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 304 \r\nETag: \"x\"\r\n\r\n",
    b"\0HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
    b"\0HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n9\r\ndata: x\n\n\r\n0\r\n\r\n",
    b"\x10HTTP/1.1 200 OK\r\nDate: x\r\n\r\nuntil the end",
    b"\x10HTTP/1.0 200 OK\r\n\r\nold",
    b"\x10HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx",
    b"\0HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n\x81\x01x",
    b"\4HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nHTTP/1.1 404 Caf\xe9 \t\r\nContent-Length: 7\r\n\r\n",
    b"\x08HTTP/1.1 200 \r\n\r\n\x16\x03\x01",
    b"\x08HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno",
    b"\0" + b"HTTP/1.1 102 \r\n\r\n" * 17,
    b"\0HTTP/1.1 200\r\n\r\n",
    b"\0HTTP/1.1 099 X\r\n\r\n",
    b"\0HTTP/1.1 600 X\r\n\r\n",
    b"\0HTTP/3.0 200 X\r\n\r\n",
    b"\0HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"\x10HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
    b"\x10",
    b"\1HTTP/1.1 200 OK\r\nContent-Length: 31\r\n\r\n",
    b"\x11HTTP/1.1 200 OK\r\n\r\n" + b"x" * 31,
    b"\0HTTP/1.1 503 Service Unavailable\r\nRetry-After: 3\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
]


# HTTP/2: header fields as literals without indexing (RFC 7541 section 6.2.2).

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)


def block(*fields):
    return b"".join(b"\0" + bytes([len(n)]) + n.encode() + bytes([len(v)]) + v.encode() for n, v in fields)


GET = b"\x82\x87\x84\x41\x01a"
POST = b"\x83\x87\x84\x41\x01a"
CONNECT = block((":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":path", "/v1/subscribe"), (":authority", "a"))


def wire(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def made(options, *frames):
    """Frames in short: type, flags, stream, payload."""
    return bytes([options]) + b"".join(bytes([k, f, s, len(p)]) + p for k, f, s, p in frames)


def word(number):
    return struct.pack(">I", number)


HTTP2 = []
for options in (0x01, 0x09, 0x0D, 0x19):
    HTTP2 += [
        made(
            options,
            (HEADERS, 5, 1, GET),
            (HEADERS, 5, 3, GET + b"\x40\x01x\x01y"),
            (HEADERS, 5, 5, GET + b"\xbe"),
            (PING, 0, 0, b"12345678"),
        ),
        made(
            options,
            (HEADERS, 4, 1, POST + block(("content-length", "5"))),
            (DATA, 0, 1, b"he"),
            (DATA, 1, 1, b"llo"),
            (WINDOW, 0, 0, word(1000)),
            (WINDOW, 0, 1, word(1000)),
            (RST, 0, 1, word(8)),
            (GOAWAY, 0, 0, word(0) + word(0)),
        ),
        made(
            options,
            (SETTINGS, 0, 0, b"\0\4\0\0\0\0" + b"\0\1\0\0\0\0"),
            (HEADERS, 0, 1, GET[:3]),
            (CONTINUATION, 4, 1, GET[3:]),
            (DATA, 8, 1, b"\3abc\0\0\0"),
            (WINDOW, 0, 1, word(70000)),
            (SETTINGS, 1, 0, b""),
            (SETTINGS, 0, 0, b"\0\4\0\1\0\0"),
        ),
        made(
            options | 0x10,
            (HEADERS, 4, 1, CONNECT),
            (DATA, 0, 1, b"\x81\x80\0\0\0\0"),
            (HEADERS, 4, 3, block((":method", "CONNECT"), (":authority", "a:1"))),
            (DATA, 1, 1, b""),
            (DATA, 0, 3, b"x" * 90),
            (RST, 0, 3, word(0)),
        ),
    ]
HTTP2 += [
    made(0x05, *[(HEADERS, 5, s, GET) for s in (1, 3, 5, 7)], *[(RST, 0, s, word(8)) for s in (1, 3, 5)]),
    made(0x05, *[(PING, 0, 0, b"12345678")] * 6),
    made(0x05, *[(HEADERS, 4, 1, POST)], *[(DATA, 0, 1, b"x" * 20)] * 4),
    made(
        0x05,
        (HEADERS, 5, 1, GET + block(("a", "b" * 100), ("c", "d" * 100))),
        (HEADERS, 1, 3, GET),
        (CONTINUATION, 0, 3, b""),
        (CONTINUATION, 0, 3, b""),
        (CONTINUATION, 4, 3, b""),
    ),
    made(0x01, (HEADERS, 5, 0x40, GET), (HEADERS, 5, 0x42, GET), (HEADERS, 5, 1, GET)),
    made(0x01, (HEADERS, 5, 5, GET), (HEADERS, 5, 3, GET)),
    made(0x01, (DATA, 0, 1, b"idle"), (WINDOW, 0, 0, word(0))),
    made(0x01, (HEADERS, 5, 2, GET)),
    made(0x01, (PUSH, 4, 1, word(2) + GET)),
    made(
        0x01,
        (HEADERS, 4, 1, POST),
        (HEADERS, 5, 1, block(("trailer", "x"))),
        (PRIORITY, 0, 1, word(1) + b"\0"),
        (0x10, 0, 0, word(1) + b"u=1,i"),
        (0xFA, 0, 0, b"?"),
    ),
    made(
        0x01,
        (HEADERS, 5, 1, block((":method", "GET"))),
        (HEADERS, 5, 3, GET + block(("Upper", "x"))),
        (HEADERS, 5, 5, GET + block(("connection", "x"))),
        (HEADERS, 5, 7, GET + block(("host", "b"))),
        (HEADERS, 5, 9, b"\x82\x87\x84" + block(("host", "b"))),
    ),
    made(
        0x01,
        (HEADERS, 5, 1, GET + b"\xff\xff\xff\xff\xff\x0f"),
        (HEADERS, 5, 3, GET + b"\x3f\xe1\x1f"),
        (HEADERS, 5, 5, GET + b"\x41\x83\xee\x3a\x2d"),
    ),
    b"\x20" + PREFACE + wire(SETTINGS, 0, 0) + wire(HEADERS, 5, 1, GET),
    b"\x20GET / HTTP/1.1\r\n\r\n",
    b"\x20" + PREFACE[:20],
    b"\0" + wire(HEADERS, 5, 1, GET) + b"\xff\xff\xff\0\0\0\0\0\1",
    b"\0" + wire(PING, 0, 0, b"1234567"),
    b"\0" + wire(SETTINGS, 0, 0, b"\0\5\0\0\0\0"),
    made(
        0x03,
        (HEADERS, 4, 1, b"\x88" + block(("content-length", "5"))),
        (DATA, 1, 1, b"hello"),
        (HEADERS, 5, 3, b"\x89"),
        (HEADERS, 4, 5, block((":status", "103"))),
        (HEADERS, 5, 5, b"\x8e"),
        (PING, 0, 0, b"12345678"),
        (GOAWAY, 0, 0, word(5) + word(0)),
    ),
    made(
        0x07,
        (HEADERS, 4, 1, b"\x88" + block(("a", "b" * 120), ("c", "d" * 120))),
        (DATA, 0, 3, b"x"),
        (RST, 0, 5, word(7)),
        (SETTINGS, 0, 0, b"\0\3\0\0\0\1"),
    ),
]


# Commands and publications

COMMANDS = (
    [
        b"\0" + text.encode()
        for text in [
            '{"id":1,"type":"subscribe","channel":"scores.wc2022.final","after":"5f3a9c01b7de.1042","rate":"2/s"}',
            '{"id":"a\\u0041","type":"subscribe","channels":["alerts.>","dashboards.*.cpu"],"after":"latest"}',
            '{"type":"unsubscribe","channel":"a.b"}',
            '{"type":"ping","id":null}',
            '{"id":-7,"type":"rate","rate":null,"channel":"a.*"}',
            '{"id":2,"type":"publish","channel":"alerts.fire","data":{"a":[1]},"event":"go\\"al",'
            '"key":"k","priority":"critical","ttl":60,"replaces":"r",'
            '"change":"merge"}',
            '{"id":3,"type":"ack","channel":"alerts.u","sequences":[1,2,3,18446744073709551615],"through":5,"dismiss":true}',
            '{"type":"subscribe","channel":"_acks.61"}',
            '{"type":"nothing"}',
            '[1]',
            '{"id":1.5,"type":"ping"}',
            '{"type":"publish","data":1}',
            'x',
        ]
    ]
    + [
        b"\1" + text.encode()
        for text in [
            '{"channel":"a","data":1}\n{"channel":"a.b","data":"x","event":"é"}\r\n\n{"channel":"a","data":null,"ttl":-1}\n',
            '{"channel":"a","data":1}\n{"channel":',
            '1\n' * 1001,
        ]
    ]
    + [
        b"\2" + text.encode()
        for text in [
            '[{"channel":"a","data":{}},{"channel":"b","data":[],"priority":"low"},{"channel":"","data":1},7]',
            '{"channel":"a","data":1}',
            '[' + '1,' * 1000 + '1]',
        ]
    ]
    + [
        b"\3" + text.encode()
        for text in [
            '{"channel":"alerts.u","through":18446744073709551615}',
            '{"channel":"a","sequences":[3,1,2,9,8,5],"dismiss":false}',
            '{"channel":"a"}',
        ]
    ]
)

REQUESTS = (
    [
        b"\0" + text.encode()
        for text in [
            "/v1/subscribe?channel=scores.wc2022.final&channel=alerts.*&after=5f3a9c01b7de.1042"
            "&rate=2/s&heartbeat=30&pad=2048&format=raw&wait=25",
            "/v1/subscribe?channel=a.%3E&user=m%C3%BCller+x&digest=true&after=earliest#fragment",
            "/v1/channels/a%2Fb/history?after=3&limit=%zz",
            "/v1//x/?a&&=b&c==d&%=",
            "*",
            "",
            "/é?\u0301=\u0301&a=%ff",
            "/v1/subscribe\nAccept: text/event-stream\nLast-Event-ID: 5f3a9c01b7de.900-1042-7-1000\nPrefer: wait=10, respond-async",
            "/v1/subscribe?channel=a&wait=99999999999999999999\nAccept: application/json;q=0.5, text/html\nPrefer: wait = 5",
        ]
    ]
    + [
        b"\1" + text.encode()
        for text in [
            '{"channels":["a","b.*"],"after":"5f3a9c01b7de.n","heartbeat":1,"pad":0,"wait":300,"rate":"6/m",'
            '"user":"u","digest":false,"format":"raw"}',
            '{"channel":"a.>","heartbeat":0}',
            '{"channels":"a"}',
            '{"nothing":1}',
            '[]',
            '{"channels":[1]}\nLast-Event-ID: latest\nPrefer: wait=3',
        ]
    ]
    + [
        b"\2" + text
        for text in [b"2/s", b"0.5/s", b"1/h", b"50/s", b"3000/m", b"180000/h", b"1e1/s", b"inf/s", b"/s", b"0x1/m", b"2/d", b"+1/m"]
    ]
)

NAMES = [
    text.encode()
    for text in [
        "5f3a9c01b7de.1042 5f3a9c01b7de.900-1042-7-1000 5f3a9c01b7de.n 5f3a9c01b7de.n-5-0-3 5f3a9c01b7de.1.2.n.3-4-5-4",
        "5F3a9c01b7de.1 5f3a9c01b7de.01 5f3a9c01b7de.18446744073709551615 5f3a9c01b7de.18446744073709551616 5f3a9c01b7de. .1 5f3a9c01b7de",
        "5f3a9c01b7de.5-4-1-3 5f3a9c01b7de.1-4-2147483648-3 5f3a9c01b7de.1-4-2147483647-3 5f3a9c01b7de.1-4--3 5f3a9c01b7de.-1",
        "latest earliest Latest scores.wc2022.final scores.*.final scores.> > * *.> a.>.b",
        "_acks.61 _acks.* a..b .a a. a.b* ** a-b_c.D.9 é a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q",
        "*.b a.* a.b a.b.c *.*.c a.> *.b.> b.>",
        "x" * 255 + " " + "x" * 256 + " " + "x" * 100 + ".> *." + "y" * 200,
        "M\u00fcller m\u0301 a\u0085b a\x7fb a\tb " + "u" * 100 + " " + "u" * 101,
    ]
]


CBOR = [
    bytes.fromhex(text)
    for text in (
        # {"type":"ping"}; {"id":1,"type":"ack","sequences":[1,-1]}; with lengths left open; data in bytes; a bignum; floats
        "a164747970656470696e67", "a36269640164747970656361636b6973657175656e636573820120", "bf6474797065ff", "bf64747970656470696e67ff",
        "a2646461746143010203656368616e6e6c", "a16464617461440102ff00", "a16161c249010000000000000000", "a16161fb3ff199999999999a",
        "a16161f93c00", "a16161f97e00", "a16161f7", "d9d9f7a0", "a1616163e282ac", "a1616162c328", "a2616101616102", "9f018202039f0405ffff",
        "7f6161ff", "a161617f6161ff", "1bffffffffffffffff", "3bffffffffffffffff", "5bffffffffffffffff", "8181818181818181",
    )
] + ['{"a":1.5,"b":[true,null,"\\u00e9"],"c":12345678901234567890123}', '{"encoding":"base64","data":"AQID"}', "1e400"]


def write(name, seeds):
    folder = ROOT / name
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("seed-*"):
        old.unlink()
    for number, seed in enumerate(seeds):
        (folder / f"seed-{number:02}").write_bytes(seed if isinstance(seed, bytes) else seed.encode())


for name, seeds in {
    "JSON": JSON,
    "CBOR": CBOR,
    "WebSocket": WEBSOCKET,
    "EventStream": EVENTSTREAM,
    "HTTP1Request": HTTP1REQUEST,
    "HTTP1Response": HTTP1RESPONSE,
    "HTTP2": HTTP2,
    "Commands": COMMANDS,
    "Requests": REQUESTS,
    "Names": NAMES,
}.items():
    write(name, seeds)
