"""HTTP/2 by hand (RFC 9113): frames as they are wanted, right or wrong, and a connection that notes what the server says to them."""

import collections
import contextlib
import select
import struct
import time

from support import connect

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
ALTSVC, ORIGIN, PRIORITY_UPDATE = 10, 12, 16
END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR = range(7)
REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = 7, 8, 9, 10, 11


def frame(kind, flags, stream, payload=b""):
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def setting(number, value):
    return struct.pack("!HI", number, value)


def integer(value, bits, first=0):
    """An HPACK integer (RFC 7541, section 5.1)."""
    limit = (1 << bits) - 1
    if value < limit:
        return bytes([first | value])
    out = [first | limit]
    value -= limit
    while value >= 128:
        out.append(0x80 | value & 0x7F)
        value >>= 7
    return bytes([*out, value])


def text(value):
    """An HPACK string, not Huffman coded (section 5.2)."""
    value = value.encode() if isinstance(value, str) else value
    return integer(len(value), 7) + value


def literal(name, value):
    """A field that is not put into the table (section 6.2.2)."""
    return b"\x00" + text(name) + text(value)


def request(method="GET", path="/healthz", *fields):
    """A header block of literals and of the static table alone, so that it is good on every stream."""
    start = {"GET": b"\x82", "POST": b"\x83"}.get(method) or b"\x02" + text(method)
    return start + b"\x86" + b"\x04" + text(path) + b"\x01" + text("localhost") + b"".join(literal(*field) for field in fields)


def headers(stream, block, end=True):
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block)


class Peer:
    """A connection by prior knowledge. One that is deaf does not read until it is told to."""

    def __init__(self, port, settings=b"", is_deaf=False, receive_buffer=None):
        self.raw = connect(port, receive_buffer)
        self.raw.setblocking(False)
        self.is_deaf = is_deaf
        self.data = bytearray()
        self.is_closed = False
        self.goaway = None
        self.resets = collections.Counter()
        self.kinds = collections.Counter()
        self.received = 0
        # The server's settings by number; the first header block of each stream; streams whose answer is complete.
        self.settings = {}
        self.blocks = {}
        self.ended = set()
        self.pings = []
        self.next_stream = 1
        self.send(PREFACE + frame(SETTINGS, 0, 0, settings))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.raw.close()

    def take_stream(self):
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        return stream

    def send(self, data, seconds=5.0):
        """Sends all, and reads what comes meanwhile; false if the server closed, or took nothing for so long."""
        view = memoryview(data)
        while view and not self.is_closed:
            poll = select.poll()
            poll.register(self.raw, select.POLLOUT | (0 if self.is_deaf else select.POLLIN))
            ready = poll.poll(seconds * 1000)
            if not ready:
                return False
            events = ready[0][1]
            if events & select.POLLIN:
                self._receive()
            if events & (select.POLLOUT | select.POLLERR | select.POLLHUP):
                try:
                    view = view[self.raw.send(view):]
                except BlockingIOError:
                    pass
                except OSError:
                    self._at_end()
        return not view

    def _at_end(self):
        """The server closed: what it said before is read."""
        while not self.is_closed:
            try:
                self._receive()
            except BlockingIOError:
                self.is_closed = True

    def read(self, seconds, until=lambda peer: False):
        """Reads until the condition holds or the server closes; answers whether that came in time."""
        deadline = time.monotonic() + seconds
        while not (self.is_closed or until(self)):
            poll = select.poll()
            poll.register(self.raw, select.POLLIN)
            if not poll.poll(max(0, deadline - time.monotonic()) * 1000):
                return until(self)
            self._receive()
        return True

    def _receive(self):
        try:
            piece = self.raw.recv(65536)
        except BlockingIOError:
            raise
        except OSError:
            piece = b""
        if not piece:
            self.is_closed = True
            return
        self.received += len(piece)
        self.data += piece
        place = 0
        while len(self.data) - place >= 9:
            size = int.from_bytes(self.data[place:place + 3], "big")
            if len(self.data) - place - 9 < size:
                break
            stream = int.from_bytes(self.data[place + 5:place + 9], "big")
            self._note(self.data[place + 3], self.data[place + 4], stream, bytes(self.data[place + 9:place + 9 + size]))
            place += 9 + size
        del self.data[:place]

    def _note(self, kind, flags, stream, payload):
        self.kinds[kind] += 1
        if kind == GOAWAY:
            self.goaway = int.from_bytes(payload[4:8], "big") if self.goaway in (None, NO_ERROR) else self.goaway
        elif kind == RST_STREAM:
            self.resets[int.from_bytes(payload, "big")] += 1
            self.ended.add(stream)
        elif kind == SETTINGS and not flags & ACK:
            self.settings.update(struct.iter_unpack("!HI", payload))
        elif kind == PING and flags & ACK:
            self.pings.append(payload)
        elif kind == HEADERS:
            self.blocks.setdefault(stream, payload)
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            self.ended.add(stream)

    def is_alive(self, seconds=5.0):
        """Whether the connection still answers a PING."""
        self.is_deaf = False
        count = len(self.pings)
        self.send(frame(PING, 0, 0, b"anybody?"))
        self.read(seconds, lambda peer: len(peer.pings) > count)
        return len(self.pings) > count


def flood(server, deadline, kinds, chunks_max, **options):
    """Connects and sends what a kind makes (`chunk(peer)`) until the server ends the connection; then another kind, until each had its
    turn and the time is over.

    Every connection has to be told to calm down before it has taken `chunks_max` pieces. Answers words for the report.
    """
    count = 0
    while not (deadline.over and count >= len(kinds)):
        name, chunk = list(kinds.items())[count % len(kinds)]
        with Peer(server.port, **options) as peer:
            taken = 0
            while taken < chunks_max and peer.goaway is None and not peer.is_closed and peer.send(chunk(peer)):
                taken += 1
            assert peer.read(5, lambda peer: peer.goaway is not None), (
                f"{name}: the server took {taken} pieces and does not end the connection; it sent {dict(peer.kinds)}")
            assert peer.goaway == ENHANCE_YOUR_CALM, f"{name}: ended by {peer.goaway} after {taken} pieces"
            count += 1
    return f"{count} connections told to calm down"


def status_of(block):
    """The status that a header block begins with, for those that the static table or a literal gives."""
    import hpack
    with contextlib.suppress(Exception):
        return int(dict(hpack.Decoder().decode(block))[":status"])
    return None
