"""Floods on WebSocket, clients that do not read, and bombs."""

import contextlib
import json
import socket
import time

from siege import Deadline
from support import RawWebSocket, publish, publish_many, query
from websocket_wire import CONTINUATION, PING, TEXT, ExtendedWebSocket, bomb, deflated, masked, part

BROKEN_RULE, TOO_BIG = 1008, 1009


def push(raw, data, seconds):
    """Sends without reading; false if the server takes nothing for so long, or has closed."""
    raw.settimeout(seconds)
    try:
        raw.sendall(data)
        return True
    except TimeoutError:
        return False
    except OSError:
        return False


def test_a_flood_of_pings_is_answered_or_ended_and_costs_the_others_nothing(server, besiege):
    """Not each of them has to be answered: the latest is enough (RFC 6455, section 5.5.3)."""
    piece = masked(PING, b"x" * 125) * 200

    def attack(server, deadline):
        sent = 0
        while True:
            with RawWebSocket(server.port) as client:
                client.texts(1)
                client.raw.setblocking(False)
                while not deadline.over:
                    with contextlib.suppress(BlockingIOError):
                        sent += client.raw.send(piece) // 131
                    try:
                        if not client.raw.recv(1 << 20):
                            break
                    except BlockingIOError:
                        time.sleep(0.0005)
                    except OSError:
                        break
                if deadline.over:
                    return f"{sent} pings"

    besiege(server, attack, name="pings on WebSocket", growth_mib=16)


UNREAD = {
    "pings": masked(PING, b"x" * 125) * 200,
    "commands": masked(TEXT, json.dumps({"id": "x" * 60, "type": "ping"})) * 200,
    "refused commands": masked(TEXT, json.dumps({"id": 1, "type": "subscribe", "channel": "a..b"})) * 200,
}


def test_a_client_that_asks_and_does_not_read_is_soon_taken_nothing_more_from(server, besiege):
    """Its connection is ended, or the server stops reading it: the answers that wait are bounded."""
    def attack(server, deadline):
        total = 0
        with contextlib.ExitStack() as stack:
            clients = [(name, stack.enter_context(RawWebSocket(server.port, receive_buffer=4096))) for name in UNREAD]
            patience = Deadline(8)
            while clients:
                assert not patience.over, f"the server goes on taking {clients[0][0]} whose answers are not read"
                taken = [(name, client) for name, client in clients if push(client.raw, UNREAD[name], 0.1)]
                total += sum(len(UNREAD[name]) for name, _ in taken)
                clients = taken
            deadline.wait()
        return f"{total >> 10} KiB taken"

    besiege(server, attack, name="WebSocket answers not read", growth_mib=16)


def test_fragments_without_end_are_ended(server, besiege):
    kinds = [part(CONTINUATION) * 500, part(CONTINUATION, b" ") * 500, (part(CONTINUATION) + masked(PING)) * 500]

    def attack(server, deadline):
        ended = 0
        while not (deadline.over and ended >= len(kinds)):
            with RawWebSocket(server.port) as client:
                client.texts(1)
                push(client.raw, part(TEXT), 5)
                for _ in range(20):
                    if not push(client.raw, kinds[ended % len(kinds)], 5):
                        break
                code = client.close_code()
                # The pings in between may be too many for themselves.
                assert code == TOO_BIG or code == BROKEN_RULE and ended % len(kinds) == 2, code
                ended += 1
        return f"{ended} connections closed"

    besiege(server, attack, name="fragments without end", growth_mib=16)


def test_half_messages_that_are_parked_are_bounded_by_the_limit_of_a_message(server, besiege):
    """Each client sends almost a whole message and stops."""
    clients = 100

    def attack(server, deadline):
        with contextlib.ExitStack() as stack:
            for number in range(clients):
                client = stack.enter_context(RawWebSocket(server.port))
                client.raw.sendall(part(TEXT, b" " * 60_000) if number % 2 else masked(TEXT, b" " * 64_000)[:-1])
            deadline.wait()
        return f"{clients} half messages"

    besiege(server, attack, name="half messages", growth_mib=clients * 2 * 64 / 1024 + 8)


def test_handshakes_as_fast_as_they_go_leave_nothing_behind(server, besiege, channel):
    def attack(server, deadline):
        count = 0
        while not deadline.over or not count:
            with RawWebSocket(server.port, f"/v1/subscribe?{query(channel)}") as client:
                client.raw.sendall(masked(TEXT, json.dumps({"id": 1, "type": "subscribe", "channel": f"{channel}.{count}"})))
                if count % 2:
                    client.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            count += 1
        return f"{count} handshakes"

    besiege(server, attack, name="WebSocket handshakes", growth_mib=16)


def test_subscriptions_made_and_ended_without_end_leave_nothing_behind(server, besiege, channel):
    def attack(server, deadline):
        with RawWebSocket(server.port) as client:
            client.texts(1)
            count = 0
            while not deadline.over or not count:
                names = [f"{channel}.{count + number}.*" for number in range(50)]
                commands = [{"id": 1, "type": kind, "channel": name} for kind in ("subscribe", "unsubscribe") for name in names]
                client.raw.sendall(b"".join(masked(TEXT, json.dumps(command)) for command in commands))
                assert all("error" not in reply for reply in client.texts(len(commands)))
                count += len(names)
        return f"{count} subscriptions"

    besiege(server, attack, name="subscriptions", growth_mib=16)


def test_websockets_that_do_not_read_cost_little(server, besiege, channel):
    """Half of them want all that was ever published, half what comes."""
    clients = 40
    publish_many(server, [(channel, "x" * 100_000)] * 100)

    def attack(server, deadline):
        with contextlib.ExitStack() as stack:
            for number in range(clients):
                path = f"/v1/subscribe?{query(channel, after='earliest' if number % 2 else 'latest')}"
                stack.enter_context(RawWebSocket(server.port, path, receive_buffer=4096))
            publish(server, channel, "x" * 100_000)
            deadline.wait()
        return f"{clients} clients did not read 10 MB"

    # The messages are in memory, once for the log and once for each loop; not once for each client.
    besiege(server, attack, name="WebSockets not read", growth_mib=24)


@contextlib.contextmanager
def negotiated(server):
    with ExtendedWebSocket(server.port, "permessage-deflate") as client:
        assert client.extensions.startswith("permessage-deflate"), (
            f"permessage-deflate is not negotiated (the answer says {client.extensions!r}), so this attack cannot be made")
        client.frame()
        yield client


def test_deflate_bombs_are_refused_while_they_are_inflated(server, besiege):
    packed = masked(TEXT, bomb(60), first=0xC1)
    assert len(packed) < 64 << 10

    def attack(server, deadline):
        count = 0
        while not deadline.over or not count:
            with negotiated(server) as client:
                push(client.raw, packed, 5)
                assert client.close_code() == TOO_BIG
                count += 1
        return f"{count} bombs of 60 MiB"

    besiege(server, attack, attack, name="deflate bombs", growth_mib=16)


def test_compressed_messages_that_are_allowed_cost_no_more_than_their_limit(server, besiege):
    """64 KiB of spaces in 80 bytes: as much work for the server as may be had for little."""
    text = json.dumps({"id": 1, "type": "ping"}) + " " * 64_000
    piece = masked(TEXT, deflated(text.encode()), first=0xC1)

    def attack(server, deadline):
        count = 0
        with negotiated(server) as client:
            while not deadline.over or not count:
                client.raw.sendall(piece * 20)
                answered = 0
                while answered < 20:
                    opcode, _ = client.frame()
                    # The server asks now and then whether the client is still there.
                    assert opcode in (TEXT, PING), opcode
                    answered += opcode == TEXT
                count += 20
        return f"{count} messages of 64 KiB"

    besiege(server, attack, name="compressed messages", growth_mib=16)
