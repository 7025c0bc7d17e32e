"""Thousands of subscribers in one thread, on raw sockets: WebSocket, SSE over HTTP/1.1 and HTTP/2, long-polling.

Each goes on where it was, comes back when it was told to, and counts what it misses, gets twice, or is refused.
"""

import errno
import heapq
import re
import selectors
import socket
import struct
import time

SEQUENCE = re.compile(rb'"type":"notification"[^{]*?"sequence":(\d+),"position":"([^"]*)"')
GOING = re.compile(rb'"type":"going-away","retry_after_ms":(\d+)')
POSITION = re.compile(rb'"position":"([^"]*)"')
CHANNEL = "load.a"


class Subscriber:
    """One subscription, whatever carries it."""

    def __init__(self, transport, counts):
        self.transport = transport
        self.counts = counts
        self.last = None
        self.position = None
        self.is_live = False

    def query(self):
        after = self.position.decode() if self.position else "latest"
        return f"/v1/subscribe?channel={CHANNEL}&after={after}"

    def see(self, data):
        """Checks all messages in some whole pieces of text."""
        for match in SEQUENCE.finditer(data):
            sequence = int(match[1])
            if self.last is not None:
                if sequence <= self.last:
                    self.counts["repeated"] += 1
                    continue
                self.counts["lost"] += sequence - self.last - 1
            self.last, self.position = sequence, match[2]
            self.counts["delivered"] += 1
        if b'"type":"gap"' in data:
            self.counts["gaps"] += 1
        if self.position is None and (match := POSITION.search(data)):
            self.position = match[1]


class Line:
    """A connection, and those that it carries."""

    def __init__(self, load, subscribers):
        self.load = load
        self.subscribers = subscribers
        self.socket = None
        self.out = b""
        self.is_returning = False
        self.is_back = False

    @property
    def first(self):
        return self.subscribers[0]

    def connect(self):
        self.data = b""
        self.is_greeted = False
        self.slot = None
        self.socket = socket.socket()
        self.socket.setblocking(False)
        code = self.socket.connect_ex(("127.0.0.1", self.load.port))
        if code not in (0, errno.EINPROGRESS):
            return self.fail(errno.errorcode.get(code, str(code)))
        self.out = self.request()
        self.load.selector.register(self.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, self)

    def send(self, data):
        self.out += data
        self.write()

    def write(self):
        try:
            while self.out:
                self.out = self.out[self.socket.send(self.out):]
        except BlockingIOError:
            pass
        except OSError as error:
            return self.fail(errno.errorcode.get(error.errno, "?"))
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.out else 0)
        self.load.selector.modify(self.socket, wanted, self)

    def read(self):
        try:
            data = self.socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError as error:
            return self.end(errno.errorcode.get(error.errno, "?"))
        if not data:
            return self.end("end")
        self.take(data)

    def greeted(self):
        self.is_greeted = True
        for subscriber in self.subscribers:
            subscriber.is_live = True

    def told(self, milliseconds):
        """The server wants it to come back later."""
        self.load.note_going()
        if self.slot is None:
            self.slot = time.monotonic() + milliseconds / 1000

    def end(self, how):
        """The connection is over: as it was told, or not."""
        if self.slot is None:
            return self.fail(how)
        self.close()
        self.is_returning = True
        self.load.later(self.slot, self)

    def fail(self, how):
        name = "refused" if not self.is_greeted else "dropped"
        self.load.counts[name] += 1
        self.load.faults[f"{self.first.transport}: {name}, {how}"] = self.load.faults.get(f"{self.first.transport}: {name}, {how}", 0) + 1
        self.close()
        self.load.later(time.monotonic() + 0.2, self)

    def close(self):
        for subscriber in self.subscribers:
            subscriber.is_live = False
        if self.socket is not None:
            try:
                self.load.selector.unregister(self.socket)
            except (KeyError, ValueError):
                pass
            self.socket.close()
            self.socket = None

    def is_past(self, status):
        """Whether the head of an answer is here and good."""
        if b"\r\n\r\n" not in self.data:
            return False
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 %d " % status):
            self.load.counts["answers"] += 1
            if match := re.search(rb"(?i)retry-after: *(\d+)", head):
                self.told(1000 * int(match[1]))
            self.end(head.split(b"\r\n")[0].decode("latin-1"))
            return False
        self.greeted()
        return True


class EventStreamLine(Line):
    def request(self):
        return f"GET {self.first.query()} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode()

    def take(self, data):
        self.data += data
        if not self.is_greeted and not self.is_past(200):
            return
        whole, end, rest = self.data.rpartition(b"\n\n")
        if not end:
            return
        self.data = rest
        self.first.see(whole)
        if match := GOING.search(whole):
            self.told(int(match[1]))


class WebSocketLine(Line):
    def request(self):
        return (f"GET {self.first.query()} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n").encode()

    def take(self, data):
        self.data += data
        if not self.is_greeted and not self.is_past(101):
            return
        while len(self.data) >= 2:
            length, start = self.data[1] & 0x7f, 2
            if length == 126:
                if len(self.data) < 4:
                    return
                length, start = struct.unpack_from(">H", self.data, 2)[0], 4
            elif length == 127:
                if len(self.data) < 10:
                    return
                length, start = struct.unpack_from(">Q", self.data, 2)[0], 10
            if len(self.data) < start + length:
                return
            code, payload = self.data[0] & 0x0f, self.data[start:start + length]
            self.data = self.data[start + length:]
            if code == 1:
                self.first.see(payload)
                if match := GOING.search(payload):
                    self.told(int(match[1]))
            elif code == 9:
                self.send(bytes([0x8a, 0x80 | len(payload)]) + bytes(4) + payload)
            elif code == 8:
                return self.end("close")


class PollLine(Line):
    def request(self):
        return f"GET {self.first.query()} HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=20\r\n\r\n".encode()

    def connect(self):
        super().connect()
        self.first.is_live = True

    def take(self, data):
        self.data += data
        while self.socket is not None and b"\r\n\r\n" in self.data:
            head, _, rest = self.data.partition(b"\r\n\r\n")
            length = int(re.search(rb"(?i)content-length: *(\d+)", head)[1])
            if len(rest) < length:
                return
            body, self.data = rest[:length], rest[length:]
            status = head.split(b" ", 2)[1]
            if status != b"200":
                self.load.counts["answers"] += self.is_back and not self.is_greeted
                match = re.search(rb"(?i)retry-after: *(\d+)", head)
                if match:
                    self.told(1000 * int(match[1]))
                return self.end(status.decode())
            self.is_greeted = True
            self.first.see(body)
            if match := POSITION.match(body, body.find(b'"position"')):
                self.first.position = match[1]
            if re.search(rb"(?i)connection: *close", head):
                self.slot = time.monotonic()
                return self.end("close")
            self.send(self.request())


class HTTP2Line(Line):
    """Event streams of one connection; the headers of answers are not looked into but for what they begin with."""

    def connect(self):
        self.streams = {}
        self.texts = {}
        self.credit = 0
        self.to_greet = len(self.subscribers)
        super().connect()

    @staticmethod
    def frame(kind, flags, stream, payload):
        return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload

    @staticmethod
    def field(name, value):
        # Literal, not indexed, without Huffman coding (RFC 7541, section 6.2.2).
        def text(word):
            size = len(word)
            return (bytes([size]) if size < 127 else bytes([127, (size - 127) & 0x7f | (0x80 if size >= 255 else 0)])
                    + (bytes([(size - 127) >> 7]) if size >= 255 else b"")) + word
        return b"\x00" + text(name.encode()) + text(value.encode())

    def request(self):
        out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self.frame(4, 0, 0, struct.pack(">HI", 4, 1 << 24))
        out += self.frame(8, 0, 0, struct.pack(">I", 1 << 24))
        for place, subscriber in enumerate(self.subscribers):
            stream = 2 * place + 1
            self.streams[stream] = subscriber
            self.texts[stream] = b""
            fields = [(":method", "GET"), (":scheme", "http"), (":path", subscriber.query()), (":authority", "localhost"),
                      ("accept", "text/event-stream")]
            out += self.frame(1, 0x05, stream, b"".join(self.field(*field) for field in fields))
        return out

    def take(self, data):
        self.data += data
        answer = b""
        while len(self.data) >= 9:
            length = int.from_bytes(self.data[:3], "big")
            if len(self.data) < 9 + length:
                break
            kind, flags = self.data[3], self.data[4]
            stream = int.from_bytes(self.data[5:9], "big") & 0x7fffffff
            payload, self.data = self.data[9:9 + length], self.data[9 + length:]
            if kind == 4 and not flags & 1:
                answer += self.frame(4, 1, 0, b"")
            elif kind == 6 and not flags & 1:
                answer += self.frame(6, 1, 0, payload)
            elif kind == 1 and stream in self.streams:
                # 0x88 is :status 200 (RFC 7541, appendix A).
                if payload[:1] == b"\x88" or b"\x88" in payload[:4]:
                    self.to_greet -= 1
                    self.streams[stream].is_live = True
                    self.is_greeted = self.to_greet == 0
                else:
                    self.load.counts["answers"] += 1
            elif kind == 7 and self.slot is not None:
                return self.end("goaway")
            elif kind == 0 and stream in self.streams:
                self.credit += length
                self.texts[stream] += payload
                whole, end, rest = self.texts[stream].rpartition(b"\n\n")
                if end:
                    self.texts[stream] = rest
                    self.streams[stream].see(whole)
                    if match := GOING.search(whole):
                        self.told(int(match[1]))
        if self.credit > 1 << 22:
            answer += self.frame(8, 0, 0, struct.pack(">I", self.credit))
            self.credit = 0
        if answer and self.socket is not None:
            self.send(answer)


class Load:
    """All of them, and the times at which they come back."""

    streams_per_line = 5

    def __init__(self, port, count):
        self.port = port
        self.selector = selectors.DefaultSelector()
        self.counts = dict.fromkeys(("delivered", "lost", "repeated", "gaps", "refused", "dropped", "answers"), 0)
        self.faults = {}
        self.due = []
        self.number = 0
        # By transport: seconds since the first was told to go.
        self.returns = {}
        self.began = None
        quarter = count // 4
        self.subscribers = {name: [Subscriber(name, self.counts) for _ in range(quarter)] for name in
                            ("websocket", "sse", "sse-http2", "long-poll")}
        self.lines = [WebSocketLine(self, [one]) for one in self.subscribers["websocket"]]
        self.lines += [EventStreamLine(self, [one]) for one in self.subscribers["sse"]]
        self.lines += [PollLine(self, [one]) for one in self.subscribers["long-poll"]]
        some = self.subscribers["sse-http2"]
        self.lines += [HTTP2Line(self, some[start:start + self.streams_per_line]) for start in range(0, len(some), self.streams_per_line)]

    @property
    def all(self):
        return [one for some in self.subscribers.values() for one in some]

    def note_going(self):
        if self.began is None:
            self.began = time.monotonic()

    def later(self, moment, line):
        self.number += 1
        heapq.heappush(self.due, (moment, self.number, line))

    def start(self, per_second):
        now = time.monotonic()
        for place, line in enumerate(self.lines):
            self.later(now + place / per_second, line)

    def turn(self, seconds):
        """Does what is to be done for so long."""
        end = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            while self.due and self.due[0][0] <= now:
                line = heapq.heappop(self.due)[2]
                if line.is_returning:
                    line.is_returning, line.is_back = False, True
                    for subscriber in line.subscribers:
                        self.returns.setdefault(subscriber.transport, []).append(now - self.began)
                line.connect()
            if now >= end:
                return
            wait = min(end, self.due[0][0] if self.due else end) - now
            for key, mask in self.selector.select(max(0, wait)):
                line = key.data
                if mask & selectors.EVENT_WRITE and line.socket is not None:
                    line.write()
                if mask & selectors.EVENT_READ and line.socket is not None:
                    line.read()

    def until(self, condition, seconds):
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            self.turn(0.1)
        return True

    def close(self):
        for line in self.lines:
            line.close()
