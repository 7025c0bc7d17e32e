"""What makes an HTTP/2 server reset a stream, or end the connection, by itself (MadeYouReset, CVE-2025-8671)."""

from dataclasses import dataclass
from typing import Callable

from http2_wire import (
    DATA, END_STREAM, ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, HAS_PRIORITY, HEADERS, PRIORITY, PROTOCOL_ERROR,
    STREAM_CLOSED, WINDOW_UPDATE, frame, headers, literal, request, text)

PARKED = request("GET", "/v1/subscribe?channel=attacked.provoked&after=latest")
POSTING = request("POST", "/v1/channels/attacked.provoked", ("content-length", "5"))
BODILESS = b"\x82\x86\x01\x01a"
# Goes into the table as its newest entry, which 0xbe refers to.
BIG_FIELD = b"\x40" + text("x") + text("y" * 3000)


@dataclass
class Trigger:
    """`one(peer)` opens a stream and makes the server end it. `codes` are those that the connection may be ended with: with
    ENHANCE_YOUR_CALM after many; with any other, a connection error, at once."""

    one: Callable
    codes: set


def after_request(block, *rest, end=True):
    """Opens a stream with a request, and sends frames on it: each (kind, flags, payload)."""
    def one(peer):
        stream = peer.take_stream()
        return headers(stream, block, end) + b"".join(frame(kind, flags, stream, payload) for kind, flags, payload in rest)
    return one


def self_dependent(peer):
    stream = peer.take_stream()
    return headers(stream, PARKED) + frame(PRIORITY, 0, stream, stream.to_bytes(4, "big") + b"\x10")


def self_dependent_headers(peer):
    stream = peer.take_stream()
    return frame(HEADERS, 0x4 | HAS_PRIORITY | END_STREAM, stream, stream.to_bytes(4, "big") + b"\x10" + PARKED)


def one_too_many(peer):
    """128 streams stay open; those above are refused."""
    first = b"".join(headers(peer.take_stream(), PARKED) for _ in range(128)) if peer.next_stream == 1 else b""
    return first + headers(peer.take_stream(), PARKED)


CALM = {ENHANCE_YOUR_CALM}
TRIGGERS = {
    "a window that grows by nothing": Trigger(after_request(PARKED, (WINDOW_UPDATE, 0, bytes(4))), CALM | {PROTOCOL_ERROR}),
    "a window that overflows": Trigger(after_request(PARKED, (WINDOW_UPDATE, 0, b"\x7f\xff\xff\xff")), CALM),
    "data after the end": Trigger(after_request(PARKED, (DATA, 0, b"x")), CALM | {STREAM_CLOSED}),
    "headers after the end": Trigger(after_request(PARKED, (HEADERS, 0x5, literal("x", "y"))), CALM | {STREAM_CLOSED}),
    "more data than announced": Trigger(after_request(POSTING, (DATA, 0, b"123456"), end=False), CALM),
    "less data than announced": Trigger(after_request(POSTING, (DATA, END_STREAM, b"1234"), end=False), CALM),
    "trailers that do not end": Trigger(after_request(POSTING, (HEADERS, 0x4, literal("x", "y")), end=False), CALM),
    "a pseudo field in trailers": Trigger(after_request(POSTING, (HEADERS, 0x5, b"\x82"), end=False), CALM),
    "a body that says it is too long": Trigger(
        after_request(request("POST", "/v1/channels/attacked.a", ("content-length", "99999999")), end=False), CALM),
    "no path": Trigger(after_request(BODILESS), CALM),
    "a name in upper case": Trigger(after_request(request("GET", "/healthz", ("Upper", "x"))), CALM),
    "a field of the connection": Trigger(after_request(request("GET", "/healthz", ("connection", "close"))), CALM),
    "a field with an empty name": Trigger(after_request(request("GET", "/healthz", ("", ""))), CALM),
    "a line break in a value": Trigger(after_request(request("GET", "/healthz", ("x", "a\r\nb"))), CALM),
    "hosts that differ": Trigger(after_request(request("GET", "/healthz", ("host", "other"))), CALM),
    "a length that is no number": Trigger(after_request(request("POST", "/healthz", ("content-length", "+1")), end=False), CALM),
    "fields far too large": Trigger(after_request(request() + BIG_FIELD + b"\xbe" * 30), CALM),
    "fields too large, answered early": Trigger(after_request(request("POST") + BIG_FIELD + b"\xbe" * 6, end=False), CALM),
    "a priority of itself": Trigger(self_dependent, CALM | {PROTOCOL_ERROR}),
    "a priority of itself with the request": Trigger(self_dependent_headers, CALM | {PROTOCOL_ERROR}),
    "a priority of four bytes": Trigger(after_request(PARKED, (PRIORITY, 0, bytes(4))), CALM | {FRAME_SIZE_ERROR}),
    "a reset of three bytes": Trigger(after_request(PARKED, (3, 0, bytes(3))), {FRAME_SIZE_ERROR}),
    "more streams than allowed": Trigger(one_too_many, CALM),
    "data on a stream that is gone": Trigger(
        after_request(PARKED, (3, 0, bytes(4)), (DATA, 0, b"x")), CALM | {STREAM_CLOSED, FLOW_CONTROL_ERROR}),
}
