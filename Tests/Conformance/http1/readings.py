"""What a parser makes of all that one client sends, in a form that all parsers share."""

import base64
import json
import struct
import subprocess
from dataclasses import dataclass, field

import h11
import httptools


@dataclass
class Request:
    method: str
    # As the parser gives it: Tocsin has split an absolute target into authority and path, the others have not.
    target: str
    version: str
    headers: list[tuple[str, bytes]]
    body: bytes = b""
    keep_alive: bool = True
    # Tocsin only: Host, or the authority of an absolute target.
    authority: str | None = None


@dataclass
class Reading:
    requests: list[Request] = field(default_factory=list)
    # A request whose head is complete and that is not complete itself.
    partial: Request | None = None
    # "complete": nothing is unfinished; "incomplete"; "refused: why".
    end: str = "complete"

    @property
    def refused(self) -> bool:
        return self.end.startswith("refused")


class OracleFailed(Exception):
    """The oracle ended early, or did not answer every input."""


def read_with_oracle(path: str, inputs: list[bytes], seconds: float = 300) -> list[tuple[Reading, Reading]]:
    """What Tocsin's parser and NIO's read in each input."""
    fed = b"".join(struct.pack(">I", len(data)) + data for data in inputs)
    result = subprocess.run([path], input=fed, stdout=subprocess.PIPE, timeout=seconds, check=False)
    lines = result.stdout.splitlines()
    if result.returncode != 0 or len(lines) != len(inputs):
        raise OracleFailed(f"{path} ended with {result.returncode} after {len(lines)} of {len(inputs)} inputs")
    return [(_reading(answer["tocsin"]), _reading(answer["nio"])) for answer in map(json.loads, lines)]


def _reading(answer: dict) -> Reading:
    partial = answer["partial"]
    return Reading([_request(each) for each in answer["requests"]], partial and _request(partial), answer["end"])


def _request(answer: dict) -> Request:
    return Request(
        method=answer["method"],
        target=answer["target"],
        version=answer["version"],
        headers=[(name, value.encode("latin-1")) for name, value in answer["headers"]],
        body=base64.b64decode(answer["body"]),
        keep_alive=answer["keepAlive"],
        authority=answer["authority"],
    )


def read_with_h11(data: bytes) -> Reading:
    """What h11 reads when it answers every request with 400, which is how it goes on to the next one."""
    reading = Reading()
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    # No bytes would be the end of the connection.
    if not data:
        return reading
    connection.receive_data(data)
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                break
            if isinstance(event, h11.Request):
                reading.partial = Request(
                    method=event.method.decode("latin-1"),
                    target=event.target.decode("latin-1"),
                    version=event.http_version.decode("latin-1"),
                    headers=[(name.decode("latin-1"), bytes(value)) for name, value in event.headers],
                )
            elif isinstance(event, h11.Data):
                reading.partial.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                request, reading.partial = reading.partial, None
                request.keep_alive = _start_next_cycle(connection)
                reading.requests.append(request)
                if not request.keep_alive:
                    return reading
    except h11.RemoteProtocolError as error:
        reading.end = f"refused: {error}"
        return reading
    unread, _ = connection.trailing_data
    if reading.partial or unread:
        reading.end = "incomplete"
    return reading


def _start_next_cycle(connection: h11.Connection) -> bool:
    """Answers, and says whether the connection goes on. Behind an upgrade this refuses it."""
    connection.send(h11.Response(status_code=400, headers=[("Content-Length", "0")]))
    connection.send(h11.EndOfMessage())
    if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
        return False
    connection.start_next_cycle()
    return True


class _Collector:
    """The callbacks of httptools."""

    def __init__(self) -> None:
        self.reading = Reading()
        self.parser = httptools.HttpRequestParser(self)
        self.under_way = False
        self.target = b""
        self.headers: list[tuple[str, bytes]] = []

    def on_message_begin(self) -> None:
        self.under_way = True
        self.target = b""
        self.headers = []

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes | None) -> None:
        # Behind the head it is a trailer.
        if self.reading.partial is None:
            self.headers.append((name.decode("latin-1").lower(), value or b""))

    def on_headers_complete(self) -> None:
        self.reading.partial = Request(
            method=self.parser.get_method().decode("latin-1"),
            target=self.target.decode("latin-1"),
            version=self.parser.get_http_version(),
            headers=self.headers,
            keep_alive=self.parser.should_keep_alive(),
        )

    def on_body(self, body: bytes) -> None:
        self.reading.partial.body += body

    def on_message_complete(self) -> None:
        self.reading.requests.append(self.reading.partial)
        self.reading.partial = None
        self.under_way = False


def read_with_httptools(data: bytes) -> Reading:
    """What httptools (llhttp) reads. Behind a request for another protocol it reads nothing."""
    collector = _Collector()
    reading = collector.reading
    try:
        if data:
            collector.parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        reading.end = f"refused: {error}"
        return reading
    if collector.under_way:
        reading.end = "incomplete"
    return reading
