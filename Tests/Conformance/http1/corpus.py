"""Inputs: seeds, which are whole connections, and structured changes of them. The same seed gives the same inputs."""

import random
import re
from collections.abc import Iterator
from pathlib import Path

FIXTURES = Path(__file__).resolve().parents[3] / "Fixtures" / "HTTP1" / "requests"
HOST = b"Host: a.example"
CRLF = b"\r\n"


def request(line: bytes, *fields: bytes, body: bytes = b"") -> bytes:
    return CRLF.join([line, *fields, b"", body])


def chunked(*parts: bytes, last: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + last


GET = request(b"GET / HTTP/1.1", HOST)
TE = b"Transfer-Encoding: chunked"
OTHER = request(b"GET /other HTTP/1.1", HOST)

VALID = [
    GET,
    request(b"GET /v1/subscribe?channel=a.b&after=x%20y HTTP/1.1", HOST, b"Accept: text/event-stream", b"Last-Event-ID: 0-1"),
    request(b"HEAD / HTTP/1.1", b"host:a.example:8080"),
    request(b"DELETE /x HTTP/1.1", HOST, b"X-Empty:", b"X-Spaces: \t a  b \t "),
    request(b"OPTIONS * HTTP/1.1", HOST),
    request(b"OPTIONS http://a.example HTTP/1.1", HOST),
    request(b"GET http://a.example/p?q HTTP/1.1", HOST),
    request(b"GET HTTP://A.example:80?q HTTP/1.1", b"Host: a.EXAMPLE:80"),
    request(b"CONNECT a.example:443 HTTP/1.1", b"Host: a.example:443"),
    request(b"GET / HTTP/1.0"),
    request(b"GET / HTTP/1.0", HOST, b"Connection: keep-alive") + request(b"GET /b HTTP/1.0", HOST),
    request(b"GET / HTTP/1.1", HOST, b"Connection: close") + OTHER,
    request(b"GET / HTTP/1.1", b"Host: [::1]:8080", b"Connection: keep-alive, TE", b"TE: trailers"),
    request(b"POST /p HTTP/1.1", HOST, b"Content-Length: 5", body=b"hello"),
    request(b"POST /p HTTP/1.1", HOST, b"Content-Length: 0"),
    request(b"PUT /p HTTP/1.1", HOST, b"Content-Length: 007", b"Content-Type: text/plain", body=b"0\r\n\r\nGE"),
    request(b"PATCH /p HTTP/1.0", b"Content-Length: 2", b"Connection: Keep-Alive", body=b"{}") + request(b"GET / HTTP/1.0"),
    request(b"GET /with-body HTTP/1.1", HOST, b"Content-Length: 26", body=b"GET /body HTTP/1.1\r\nHost: ") + OTHER,
    request(b"POST /p HTTP/1.1", HOST, TE, body=chunked(b"hello", b"world, this is longer than fifteen")),
    request(b"POST /p HTTP/1.1", HOST, TE, body=chunked(last=b"000\r\n\r\n")) + OTHER,
    request(b"POST /p HTTP/1.1", HOST, TE, body=b"A\r\n0123456789\r\n00a\r\n0\r\n\r\n56789\r\n0\r\n\r\n") + OTHER,
    request(b"POST /p HTTP/1.1", HOST, TE, body=b'1;a\r\nx\r\n1;b=c;d="e;\\"f"\r\ny\r\n0;z\r\n\r\n') + OTHER,
    request(b"POST /p HTTP/1.1", HOST, TE, body=chunked(b"x", last=b"0\r\nX-Sum: 1\r\nContent-Length: 5\r\n\r\n")) + OTHER,
    request(b"POST /p HTTP/1.1", HOST, b"Expect: 100-continue", b"Content-Length: 2", body=b"ab") + OTHER,
    request(b"POST /p HTTP/1.1", HOST, b"Expect: 100-continue", TE, body=chunked(b"ab")) + OTHER,
    request(
        b"GET /v1/subscribe HTTP/1.1", HOST, b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ),
    request(b"POST / HTTP/1.1", HOST, b"Upgrade: h2c", b"Connection: upgrade", b"Content-Length: 1", body=b"x"),
    request(b"GET / HTTP/1.1", HOST, "X-Name: café \U0001f514".encode(), b"X-Latin: caf\xe9 \xa0\x85"),
    request(b"GET / HTTP/1.1", HOST, b"Cookie: a=b; c=d", b"Cookie: e=f", b"Authorization: Bearer a.b.c"),
    request(b"GET / HTTP/1.1", HOST, *(b"X-%d: %d" % (each, each) for each in range(30))),
    GET + GET + OTHER,
    CRLF + GET + CRLF + OTHER,
]

# Shapes that parsers have disagreed about, after the bug lists of the HTTP Garden and the cases of http-desync-guardian.
SHAPES = [
    request(b"POST / HTTP/1.1", HOST, b"Content-Length: 5", TE, body=b"0\r\n\r\n") + OTHER,
    request(b"POST / HTTP/1.1", HOST, TE, b"Content-Length: 5", body=b"0\r\n\r\n") + OTHER,
    request(b"POST / HTTP/1.1", HOST, b"Content-Length: 0", b"Content-Length: 44", body=OTHER),
    request(b"POST / HTTP/1.1", HOST, b"Content-Length: ", b"Content-Length: 44", body=OTHER),
    request(b"POST / HTTP/1.1", HOST, b"Content-Length: 3, 3", body=b"abc"),
    request(b"POST / HTTP/1.1", HOST, b"Content-Length: +1_0", body=b"0123456789"),
    request(b"POST / HTTP/1.1", HOST, b"Content-Length : 44", body=OTHER),
    request(b"POST / HTTP/1.1", HOST, b"Content-Length\x85: 10", body=b"0123456789"),
    request(b"POST / HTTP/1.1", HOST, b"Content-Length: 010", body=b"01234567") + OTHER,
    request(b"POST / HTTP/1.1", HOST, b"Transfer-Encoding: ,chunked", b"Content-Length: 5", body=b"0\r\n\r\n"),
    request(b"POST / HTTP/1.1", HOST, b"Transfer-Encoding: \xa0chunked\xa0", body=b"0\r\n\r\n"),
    request(b"POST / HTTP/1.1", HOST, b"Transfer-\r\nEncoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"),
    request(b"POST / HTTP/1.1", HOST, b"Transfer-Encoding: chunked\t", b"Upgrade: x", b"Connection: upgrade", body=b"0\r\n\r\n") + OTHER,
    request(b"POST / HTTP/1.1", HOST, TE, TE, body=b"0\r\n\r\n"),
    request(b"POST / HTTP/1.1", HOST, b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"),
    request(b"POST / HTTP/1.0", HOST, b"Connection: keep-alive", TE, body=b"0\r\n\r\n") + OTHER,
    request(b"POST / HTTP/1.1", HOST, TE, body=b"0_2e\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    request(b"POST / HTTP/1.1", HOST, TE, body=b"5\r\r;ABCD\r\n34\r\nE\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n0\r\n\r\n"),
    request(b"POST / HTTP/1.1", HOST, TE, body=b"2;\nxx\r\n4c\r\n0\r\n\r\n" + OTHER + b"0\r\n\r\n"),
    request(b"POST / HTTP/1.1", HOST, TE, body=b'1;a="\r\nx\r\n0\r\n\r\n"\r\n') + OTHER,
    request(b"POST / HTTP/1.1", HOST, TE, body=b"\r\n\r\n") + OTHER,
    request(b"POST / HTTP/1.1", HOST, TE, body=b"0\r\nX:POST / HTTP/1.1\r\n\r\n") + OTHER,
    request(b"POST / HTTP/1.1", HOST, TE, body=b"5\r\nhelloXX0\r\n\r\n") + OTHER,
    request(b"POST / HTTP/1.1", HOST, TE, body=b"a\r\n0123456789\n0\r\n\r\n"),
    request(b"GET / HTTP/1.1", HOST, b"Useless:\n\nGET / HTTP/1.1"),
    request(b"GET / HTTP/1.1", HOST, b"Visible: :/\rSmuggled: :)"),
    request(b"GET / HTTP/1.1", HOST, b"Test: test\x00THESE BYTES", b"Connection: close"),
    request(b"GET / HTTP/1.1", HOST, b": ignored"),
    request(b"GET / HTTP/1.1", HOST, b"\rZGET /evil: HTTP/1.1", HOST),
    request(b"GET / HTTP/1.1", HOST, b"Folded: a", b" b"),
    request(b"GET / HTTP/1.1", HOST, b"Host: b.example"),
    request(b"GET http://b.example/ HTTP/1.1", HOST),
    request(b"CONNECT a.example:443 HTTP/1.1", b"Host: a.example:443", b"Content-Length: 44", body=OTHER),
    request(b"GET / HTTP/1.0", b"Connection: keep-alive, close") + OTHER,
    b"GET /\nHTTP/1.1\r\n\r\n",
    b"GET /test HTTP/1.32\r\nHost: a\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


def fixtures() -> list[bytes]:
    """The golden cases of the Swift tests, but for the long ones of the limits."""
    found = [path.read_bytes() for path in sorted(FIXTURES.rglob("*.http"))]
    if len(found) < 250:
        raise FileNotFoundError(f"only {len(found)} cases under {FIXTURES}")
    return [data for data in found if len(data) < 3000]


class Corpus:
    """`inputs(count)` gives so many inputs: the seeds first, then changed seeds."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.seeds = VALID + SHAPES + fixtures()
        self.changes = [
            self.change_line_end, self.change_space, self.add_space, self.double_line, self.swap_lines, self.change_size,
            self.change_chunk, self.add_field, self.change_field, self.change_byte, self.insert_byte, self.remove_byte, self.flip_case,
            self.change_line, self.cut, self.append,
        ]

    def inputs(self, count: int) -> Iterator[bytes]:
        yield from self.seeds[:count]
        for _ in range(count - len(self.seeds)):
            # Changes of what is valid reach further than changes of what is refused anyway.
            data = self.random.choice(VALID if self.random.random() < 0.75 else self.seeds)
            if self.random.random() < 0.25:
                data += self.random.choice(VALID)
            for _ in range(self.random.choice([1, 1, 1, 2, 3])):
                data = self.random.choice(self.changes)(data)
            yield data

    def replace(self, data: bytes, pattern: bytes, choices: list[bytes]) -> bytes:
        """One match of `pattern`, wherever it is, becomes one of `choices`."""
        places = [match.span() for match in re.finditer(pattern, data, re.IGNORECASE)]
        if not places:
            return data
        start, end = self.random.choice(places)
        return data[:start] + self.random.choice(choices) + data[end:]

    def change_line_end(self, data: bytes) -> bytes:
        return self.replace(data, rb"\r\n", [
            b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n\r\n", b"", b"\r\n ", b"\r\n\t", b" \r\n", b"\t\r\n", b"\x0b\r\n",
            b"\x00\r\n", b"\r\x00\n",
            b"\r \n", b"\xc2\x85", b"\r\n\n", b"\r\n\r",
        ])

    def change_space(self, data: bytes) -> bytes:
        return self.replace(data, rb" ", [
            b"  ", b"\t", b"", b"\x0b", b"\x0c", b"\xa0", b"\x85", b"\r", b"\n", b"\x00", b" \t ", b"\xc2\xa0",
        ])

    def add_space(self, data: bytes) -> bytes:
        place = self.random.choice([
            rb"(?=:)", rb"(?<=:)", rb"(?=\r\n)", rb"(?<=\r\n)", rb"(?=;)", rb"(?<=;)", rb"(?=,)", rb"(?<=,)", rb"(?==)",
        ])
        return self.replace(data, place, [b" ", b"\t", b"  ", b" \t", b"\x0b", b"\x0c", b"\x00", b"\xa0", b"\r", b"\n"])

    def double_line(self, data: bytes) -> bytes:
        lines = data.split(CRLF)
        line = self.random.choice(lines)
        if self.random.random() < 0.3:
            line = line.swapcase()
        lines.insert(self.random.randrange(len(lines) + 1), line)
        return CRLF.join(lines)

    def swap_lines(self, data: bytes) -> bytes:
        lines = data.split(CRLF)
        one, two = self.random.randrange(len(lines)), self.random.randrange(len(lines))
        lines[one], lines[two] = lines[two], lines[one]
        return CRLF.join(lines)

    def change_size(self, data: bytes) -> bytes:
        """A Content-Length, or a line that looks like a chunk's size."""
        size = rb"(?:Content-Length: *|\r\n)([0-9a-fA-F]{1,16})(?=[\r;,])"
        places = [match.span(1) for match in re.finditer(size, data, re.IGNORECASE)]
        if not places:
            return data
        start, end = self.random.choice(places)
        size = data[start:end]
        number = int(size, 16)
        forms = [
            b"+" + size, b"-" + size, b" " + size, b"0" + size, b"00000" + size, b"0x" + size, size + b" ", size + b"\t", size + b"_0",
            size + b",", size + b", " + size, size + b"," + size, size + b".0", b'"' + size + b'"', size + b"e0", size + b"\x00",
            b"", b" ",
            size + b"\xb2", b"%d" % (number + 1), b"%d" % max(0, number - 1),
            b"%x" % (number + 1), size.upper(), size.lower(), size + b"h",
            b"0" * 15 + size, b"0" * 30 + size, b"ffffffffffffffff", b"8000000000000000", b"18446744073709551616",
            b"9223372036854775808",
            b"4294967296", b"100000005", b"99999999999999999999999999", size + b";", size + b"\x0b", b"\xef\xbc\x95",
        ]
        return data[:start] + self.random.choice(forms) + data[end:]

    def change_chunk(self, data: bytes) -> bytes:
        """Behind a line that looks like a chunk's size: an extension; before it or behind a last chunk: something else."""
        if self.random.random() < 0.5:
            return self.replace(data, rb"(?<=\r\n)[0-9a-f]{1,4}(?=[\r;])", [
                b"1;a", b"5;a=b", b'5;a="b"', b'5;a="b;c\\"d"', b"5;", b"5;;a", b"5;=b", b"5;a=", b"5 ;a", b"5; a", b"5;a =b",
                b"5;a= b",
                b'5;a="b', b"5;a=b\x00", b"5;a\xe9", b"5;a\n", b"5;a\r", b'5;a="b\xe9"', b'5;a="b"c', b"5;a/b", b'5;"a"=b',
                b"5\t", b"5 ",
                b"5\n;a", b"0;a", b'5;a="\t"', b'5;a="";b', b"5;a=b;c=d;e", b"5,", b"5:", b'5;a="\\', b"5;" + b"x" * 100,
            ])
        return self.replace(data, rb"(?<=\r\n)0+\r\n", [
            b"0\r\nX: y\r\n", b"0\r\nHost: evil\r\n", b"0\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n",
            b"0\r\nX:y\r\n\tz\r\n",
            b"0\r\nX : y\r\n", b"0\r\n: y\r\n", b"0\r\nX\r\n", b"0\r\nX: \xe9\t \r\n", b"0\r\nX: \x00\r\n", b"0\r\n\n",
            b"0\n\r\n", b"00\r\n",
            b"0\r\nX:\r\nY:\r\n", b"0\r\nX: a\rb\r\n", b"0\r\n X: y\r\n", b"1\r\nx\r\n0\r\n",
            b"0\r\nConnection: close\r\n", b"0\r\nConnection: upgrade\r\nUpgrade: x\r\n", b"0\r\nConnection: keep-alive\r\n", b"-0\r\n",
            b"0x0\r\n",
        ])

    def add_field(self, data: bytes) -> bytes:
        return self.replace(data, rb"(?<=\r\n)(?=[a-z-]+:)", [field + CRLF for field in FIELDS])

    def change_field(self, data: bytes) -> bytes:
        """The value of a field of framing or connection, or the name of any."""
        kind = self.random.randrange(5)
        if kind == 0:
            return self.replace(data, rb"(?<=Transfer-Encoding:)[^\r]*", ENCODINGS)
        if kind == 1:
            return self.replace(data, rb"(?<=Connection:)[^\r]*", CONNECTIONS)
        if kind == 2:
            return self.replace(data, rb"(?<=Host:)[^\r]*", HOSTS)
        if kind == 3:
            return self.replace(data, rb"(?<=:)[^\r\n]*", [
                b" ", b"", b" \xe9", b" a\tb", b" \x85a\xa0", b" \xff", b" \xc3", b" \x7f", b" \x01",
            ])
        return self.replace(data, rb"(?<=\r\n)[a-z-]+(?=:)", [
            b"X", b"x_y", b"X Y", b"", b"Content_Length", b"Transfer_Encoding", b"!#$%&'*+-.^_`|~", b"(x)",
        ])

    def change_line(self, data: bytes) -> bytes:
        """A part of a request line."""
        kind = self.random.randrange(3)
        if kind == 0:
            return self.replace(data, rb"HTTP/1\.[01](?=\r)", [
                b"HTTP/1.0", b"HTTP/1.1", b"HTTP/1.2", b"HTTP/1.10", b"HTTP/01.1", b"http/1.1", b"HTTP/1,1", b"HTTP/2.0",
                b"HTTP/0.9", b"HTTP/1",
                b"HTTP/ 1.1", b"HTTP /1.1", b"HTTP/1.1 ", b"", b"HTTP/+1.1", b"RTSP/1.0", b"ICE/1.0", b"HTTP/3.1", b"HTTPS/1.1",
            ])
        if kind == 1:
            return self.replace(data, rb"\b[A-Z]+(?= \S+ HTTP/)", [
                b"GET", b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"TRACE", b"get", b"G", b"G@T", b"FOO", b"M-SEARCH",
                b"PROPFIND", b"", b"G=\"",
                b"GET\x00", b"SOURCE", b"QUERY", b"PRI", b"GET\x85", b"DESCRIBE", b"GETX",
            ])
        return self.replace(data, rb"(?<= )\S+(?= HTTP/)", TARGETS)

    def change_byte(self, data: bytes) -> bytes:
        if not data:
            return data
        place = self.random.randrange(len(data))
        return data[:place] + bytes([self.random.randrange(256)]) + data[place + 1:]

    def insert_byte(self, data: bytes) -> bytes:
        place = self.random.randrange(len(data) + 1)
        byte = bytes([self.random.randrange(256)]) if self.random.random() < 0.5 else self.random.choice(SPECIAL)
        return data[:place] + byte + data[place:]

    def remove_byte(self, data: bytes) -> bytes:
        if not data:
            return data
        place = self.random.randrange(len(data))
        return data[:place] + data[place + 1:]

    def flip_case(self, data: bytes) -> bytes:
        """Of a name, or of a word anywhere."""
        words = [match.span() for match in re.finditer(rb"[A-Za-z-]{2,}", data)]
        if not words:
            return data
        start, end = self.random.choice(words)
        return data[:start] + data[start:end].swapcase() + data[end:]

    def cut(self, data: bytes) -> bytes:
        return data[: self.random.randrange(len(data) + 1)]

    def append(self, data: bytes) -> bytes:
        return data + self.random.choice([
            GET, OTHER, CRLF, CRLF + CRLF, b"\n", b"\r", b" ", b"\x00", b"GET", b"0\r\n\r\n", CRLF + GET, b"\n" + GET,
        ])


SPECIAL = [b"\r", b"\n", b"\x00", b"\t", b" ", b":", b";", b",", b"\x0b", b"\x0c", b"\x7f", b"\x80", b"\xff", b'"', b"\\", b"0", b"#"]

ENCODINGS = [
    b" chunked", b"chunked", b"\tchunked", b" chunked\t", b" chunked ", b" CHUNKED", b" Chunked", b" xchunked", b" chunkedx",
    b" chunk", b" chunked,",
    b" ,chunked", b" chunked, chunked", b" chunked,identity", b" identity", b" identity, chunked", b" gzip", b" gzip, chunked",
    b" chunked, gzip",
    b" chunked;a=b", b' "chunked"', b" 'chunked'", b" chun ked", b"\x0bchunked", b" chunked\x0b", b" chunked\x00",
    b" \xa0chunked", b" chunked\x85",
    b" \xffchunked", b"", b" ", b" cow", b" chunked\x0c", b"\r\n chunked", b" chunked\r\n x", b" x\nchunked", b" trailers, chunked",
]

CONNECTIONS = [
    b" close", b" keep-alive", b" Close", b" KEEP-ALIVE", b" close, keep-alive", b" keep-alive, close", b" keep-alive,close",
    b" close ,x",
    b" upgrade", b" Upgrade, keep-alive", b" x, close", b" closex", b" xclose", b" close x", b' "close"', b"", b" ,", b" ,close",
    b" close,",
    b" close;q=1", b"\tclose", b" close\t", b" te, close", b" Transfer-Encoding", b" Content-Length, close", b" clo se",
    b" close\xe9", b" keep-alivex",
    b" keep -alive", b" keep-alive\t,close",
]

HOSTS = [
    b" a.example", b" a.example:80", b" A.EXAMPLE", b" b.example", b"", b" ", b" a.example,b.example", b" a.example b",
    b" user@a.example",
    b" a.example/", b" http://a.example", b" [::1]", b" [::1", b" ::1", b" a.example:", b" a.example:x", b" a.example:99999",
    b" \xe9", b" a%2eb",
    b" a_b", b" a.example\x00", b" a.example\t", b"\ta.example", b" a.example#", b" a.example?x", b" 127.0.0.1:1",
]

TARGETS = [
    b"/", b"*", b"/a?b#c", b"/#", b"/\xe9", b"/%", b"/%00", b"//a.example/x", b"/\\", b'/"<>^`{|}', b"a", b"?", b"a.example:443",
    b"a.example",
    b"http://a.example", b"http://a.example/", b"https://a.example/x?y", b"http://a.example?x", b"http://b.example/",
    b"http://a.example:80/",
    b"http://u@a.example/", b"http:///x", b"http:/a.example/", b"ftp://a.example/", b"HTTP://A.EXAMPLE/", b"http://[::1]/",
    b"/ /", b"/\t", b"/\x00",
    b"/;a=b?c=d&e=[]", b"!", b"/a/../b", b"http://a.example/a/../b", b"http://a.example\\@b/", b"ws://a.example/", b"urn:a:b",
    b"**", b"/\x7f", b"",
]

LENGTHS = [b"0", b"1", b"5", b"05", b"5, 5", b"-1", b"+5", b"5 5", b"5;", b"", b"abc", b"\t5", b"5\t", b"4294967301"]

FIELDS = (
    [b"Transfer-Encoding:" + value for value in ENCODINGS]
    + [b"Connection:" + value for value in CONNECTIONS]
    + [b"Host:" + value for value in HOSTS]
    + [b"Content-Length: " + value for value in LENGTHS]
    + [b"Expect: " + value for value in (b"100-continue", b"100-Continue", b"100-continue, x", b"y 100-continue", b"x", b"")]
    + [b"Upgrade: " + value for value in (b"websocket", b"h2c", b"foo/1, bar", b"")]
    + [
        b"X: y", b"X:", b"X", b":", b" X: y", b"\tX: y", b"X : y", b"X\t: y", b"X\x00: y", b"X: \x00", b"X: y\r", b"X: y\n",
        b"X: a\rb", b"X: a\nb",
        b"X: a\r\n b", b"Content_Length: 5", b"Transfer_Encoding: chunked", b"Content-Length\x00: 5", b"Content-Length : 5",
        b"Proxy-Connection: close",
        b"Transfer-Encoding : chunked", b"Transfer-Encoding\x0b: chunked", b"Content-Length5", b"Keep-Alive: timeout=5",
        b"Trailer: X",
        b"Tran\xc5\xbffer-Encoding: chunked", b"X: " + b"y" * 500, b"Content-Length", b"HTTP2-Settings: AAMAAABkAAQAAP__",
        b"X: \xe9\xff", b"x: \xf0\x9f",
    ]
)
