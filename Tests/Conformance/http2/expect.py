"""What a case waits for, in the words of h2spec. Each of these returns what was seen, or raises `Unmet`."""

from __future__ import annotations

from collections.abc import Callable

from hyperframe import frame as frames

from .connection import Closed, Connection, Event, Silence, Unmet, describe
from .wire import ErrorCode, error_name


def wait_for(conn: Connection, expected: str, is_it: Callable[[Event], bool]) -> Event:
    """Reads until `is_it` is true of something, at the latest until nothing more comes."""
    last: Event | None = None
    while True:
        event = conn.next_event()
        if is_it(event):
            return event
        if isinstance(event, (Closed, Silence)):
            before = f" after {describe(last)}" if last is not None else ""
            raise Unmet(f"expected {expected}; got {describe(event)}{before}")
        last = event


def _names(codes: tuple[ErrorCode, ...]) -> str:
    return " or ".join(error_name(code) for code in codes)


def _error(conn: Connection, what: str, kinds: tuple[type[frames.Frame], ...], codes: tuple[ErrorCode, ...]) -> str:
    wrong: str | None = None

    def is_error(event: Event) -> bool:
        nonlocal wrong
        if isinstance(event, Closed):
            return not conn.target.exact
        if not isinstance(event, kinds):
            return False
        if event.error_code not in codes:
            wrong = describe(event)
        return event.error_code in codes

    try:
        seen = describe(wait_for(conn, f"{what} {_names(codes)}", is_error))
    except Unmet as unmet:
        raise Unmet(f"{unmet}, with {wrong}" if wrong else str(unmet)) from None
    return f"{wrong}, then {seen}" if wrong else seen


def connection_error(conn: Connection, *codes: ErrorCode) -> str:
    """GOAWAY with one of the codes, or the end of the connection (RFC 9113, 5.4.1)."""
    return _error(conn, "connection error", (frames.GoAwayFrame,), codes)


def stream_error(conn: Connection, *codes: ErrorCode) -> str:
    """RST_STREAM or GOAWAY with one of the codes, or the end of the connection (RFC 9113, 5.4.2)."""
    return _error(conn, "stream error", (frames.GoAwayFrame, frames.RstStreamFrame), codes)


def connection_close(conn: Connection) -> str:
    return describe(wait_for(conn, "the connection to be closed", lambda event: isinstance(event, Closed)))


def stream_close(conn: Connection) -> str:
    """The end of an answer: END_STREAM, or RST_STREAM with NO_ERROR (RFC 9113, 8.1)."""

    def ends(event: Event) -> bool:
        match event:
            case frames.DataFrame() | frames.HeadersFrame():
                return "END_STREAM" in event.flags
            case frames.RstStreamFrame():
                return event.error_code == ErrorCode.NO_ERROR
        return False

    return describe(wait_for(conn, "the end of the answer", ends))


def answer(conn: Connection, stream: int = 1) -> str:
    """The first HEADERS that come are on this stream."""
    event = wait_for(conn, f"HEADERS on stream {stream}", lambda event: isinstance(event, frames.HeadersFrame))
    assert isinstance(event, frames.HeadersFrame)
    if event.stream_id != stream:
        raise Unmet(f"expected HEADERS on stream {stream}; got {describe(event)}")
    return f"status {conn.status()}"


def data_of(conn: Connection, length: int | None = None) -> str:
    """The first DATA that comes has this many bytes; any number of them if `length` is None."""
    event = wait_for(conn, "DATA", lambda event: isinstance(event, frames.DataFrame))
    assert isinstance(event, frames.DataFrame)
    if length is not None and event.flow_controlled_length != length:
        raise Unmet(f"expected DATA of {length} bytes; got {describe(event)}")
    return describe(event)


def settings_ack(conn: Connection) -> str:
    """The first SETTINGS that come are an acknowledgement."""
    event = wait_for(conn, "SETTINGS with ACK", lambda event: isinstance(event, frames.SettingsFrame))
    assert isinstance(event, frames.SettingsFrame)
    if "ACK" not in event.flags:
        raise Unmet(f"expected SETTINGS with ACK; got {describe(event)}")
    return describe(event)


def _is_pong(event: Event, payload: bytes) -> bool:
    return isinstance(event, frames.PingFrame) and "ACK" in event.flags and event.opaque_data == payload


def ping_ack(conn: Connection, payload: bytes = bytes(8)) -> str:
    """The first PING that comes is the acknowledgement of this one."""
    event = wait_for(conn, "PING with ACK", lambda event: isinstance(event, frames.PingFrame))
    assert isinstance(event, frames.PingFrame)
    if not _is_pong(event, payload):
        raise Unmet(f"expected PING with ACK and {payload!r}; got {describe(event)} with {event.opaque_data!r}")
    return describe(event)


def ping_ack_or_close(conn: Connection, payload: bytes = bytes(8)) -> str:
    expected = "PING with ACK, or the connection to be closed"
    return describe(wait_for(conn, expected, lambda event: isinstance(event, Closed) or _is_pong(event, payload)))


def goaway(conn: Connection, *codes: ErrorCode) -> str:
    """The first GOAWAY that comes has one of these codes; any code if there are none."""
    event = wait_for(conn, f"GOAWAY {_names(codes)}".rstrip(), lambda event: isinstance(event, frames.GoAwayFrame))
    assert isinstance(event, frames.GoAwayFrame)
    if codes and event.error_code not in codes:
        raise Unmet(f"expected GOAWAY {_names(codes)}; got {describe(event)}")
    return describe(event)


def rst_stream(conn: Connection, stream: int, code: ErrorCode) -> str:
    """The first RST_STREAM that comes is on this stream, with this code."""
    event = wait_for(conn, f"RST_STREAM {code.name}", lambda event: isinstance(event, frames.RstStreamFrame))
    assert isinstance(event, frames.RstStreamFrame)
    if event.stream_id != stream or event.error_code != code:
        raise Unmet(f"expected RST_STREAM {code.name} on stream {stream}; got {describe(event)}")
    return describe(event)


def body_of_at_least(conn: Connection, count: int) -> None:
    """Asks for the target's path on a connection of its own. A case about DATA cannot be tried without a body."""
    received = 0
    with Connection(conn.target) as other:
        other.handshake()
        other.request()

        def ends(event: Event) -> bool:
            nonlocal received
            if isinstance(event, frames.DataFrame):
                received += len(event.data)
            return isinstance(event, (frames.DataFrame, frames.HeadersFrame)) and "END_STREAM" in event.flags

        wait_for(other, "the whole answer", ends)
    if received < count:
        raise Unmet(f"cannot be tried: the answer has a body of {received} bytes, and needs {count}")
