"""Attacks on TLS: renegotiation, old versions, early data, handshakes that are broken, and floods of them."""

import contextlib
import re
import ssl

import pytest

from support import connect, read_to_end
from tls_wire import client_hello, handshake, in_records_of, openssl, record


def test_a_client_cannot_renegotiate(server):
    said = openssl(server.tls_port, "-tls1_2", "-msg", text="R\nR\n")
    assert "RENEGOTIATING" in said, f"the client did not try:\n{said[-2000:]}"
    hellos = len(re.findall(r"<<< TLS 1\.\d, Handshake \[length [0-9a-f]+\], ServerHello$", said, re.MULTILINE))
    assert hellos == 1, f"{hellos} handshakes"
    assert re.search(r"no_renegotiation|no renegotiation|close_notify|unexpected_message", said, re.IGNORECASE), said[-2000:]


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1", "-ssl3"])
def test_old_versions_are_refused(server, version):
    if version == "-ssl3":
        # A ClientHello of SSL 3.0, which no program speaks any more.
        hello = bytearray(client_hello())
        hello[1:3] = hello[9:11] = b"\x03\x00"
        with connect(server.tls_port) as raw:
            raw.sendall(bytes(hello))
            data, _ = read_to_end(raw, 2)
        assert not data or data[0] in (21, 22), data[:20]
        return
    said = openssl(server.tls_port, version, "-cipher", "ALL:@SECLEVEL=0")
    assert "Cipher is (NONE)" in said and "alert protocol version" in said, said[-1500:]


@pytest.mark.parametrize("cipher", [
    "AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "AES128-GCM-SHA256", "NULL-SHA256", "ADH-AES128-SHA256", "DES-CBC3-SHA"])
def test_ciphers_without_forward_secrecy_or_authentication_are_refused(server, cipher):
    said = openssl(server.tls_port, "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0")
    assert "Cipher is (NONE)" in said or "no cipher match" in said.lower(), said[-1500:]


def test_no_early_data_is_taken_and_nothing_is_compressed(server, tmp_path):
    """A replayed request would publish twice."""
    session = tmp_path / "session"
    first = openssl(server.tls_port, "-tls1_3", "-sess_out", str(session), text="GET /healthz HTTP/1.0\n\n")
    assert "Max Early Data: 0" in first, first[-2000:]
    assert "Compression: NONE" in first
    early = tmp_path / "early"
    early.write_bytes(b"POST /v1/channels/attacked.early HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1")
    again = openssl(server.tls_port, "-tls1_3", "-sess_in", str(session), "-early_data", str(early))
    assert "Early data was accepted" not in again
    with handshake(server.tls_port) as tls:
        tls.sendall(b"GET /v1/channels/attacked.early HTTP/1.0\r\nHost: a\r\n\r\n")
        assert tls.recv(100).startswith(b"HTTP/1.1 404")


def broken():
    hello = client_hello()
    return {
        "nothing": b"", "a request": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "a record of 65535 bytes": b"\x16\x03\x01\xff\xff" + b"x" * 65535, "an empty handshake record": record(22, b""),
        "empty records without end": record(22, b"", 0x0301) * 2000, "a record of an unknown kind": record(99, b"x"),
        "application data first": record(23, b"x" * 100), "a finished message first": record(22, b"\x14\0\0\x0c" + b"x" * 12),
        "a change of ciphers first": record(20, b"\x01"), "changes of ciphers without end": hello + record(20, b"\x01") * 500,
        "a fatal alert": record(21, b"\x02\x28"), "warnings without end": record(21, b"\x01\x5a") * 500,
        "warnings behind the hello": hello + record(21, b"\x01\x5a") * 500,
        "a hello of 16 MiB": record(22, b"\x01\xff\xff\xff" + b"\x03\x03" + b"x" * 16000) + record(22, b"x" * 16384) * 20,
        "a hello twice": hello + hello, "a hello cut off": hello[:-10] + b"\0" * 10, "half a hello": hello[:len(hello) // 2],
        "a length beyond the record": hello[:6] + b"\0\xff\xff" + hello[9:], "SSL 2.0": b"\x80\x2e\x01\x00\x02" + b"\0" * 42,
        "a heartbeat": hello + record(24, b"\x01\xff\xff"),
    }


@pytest.mark.parametrize("name", broken())
def test_a_broken_handshake_ends_its_connection(server, name):
    with connect(server.tls_port) as raw:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            raw.sendall(broken()[name])
            raw.shutdown(1)
        data, closed = read_to_end(raw, 8)
    assert closed, "the connection goes on"
    assert not data or data[0] in (20, 21, 22, 23), f"not TLS: {data[:40]}"
    assert b"HTTP/" not in data


def test_a_hello_in_records_of_one_byte_is_understood(server):
    with connect(server.tls_port) as raw:
        raw.sendall(in_records_of(client_hello(), 1))
        assert raw.recv(5)[:1] == b"\x16", "no ServerHello"


def test_the_close_of_one_side_in_the_middle_of_a_record_is_survived(server):
    with handshake(server.tls_port) as tls:
        tls.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n")
        raw = connect(server.tls_port)
        raw.close()
        with connect(server.tls_port) as other:
            other.sendall(client_hello() + b"\x17\x03\x03\x40\x00half")
    server.answers()


# Floods.

def test_handshakes_as_fast_as_they_go_do_not_hold_up_the_others(server, besiege):
    def attack(server, deadline):
        count = 0
        while not deadline.over or not count:
            with handshake(server.tls_port, [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3][count % 2]):
                count += 1
        return f"{count} handshakes"

    besiege(server, attack, name="TLS handshakes", growth_mib=24)


def test_hellos_that_are_not_followed_up_do_not_hold_up_the_others(server, besiege):
    """The server has the work of a signature for each, the attacker none."""
    hello = client_hello()

    def attack(server, deadline):
        count = 0
        while not deadline.over or not count:
            with contextlib.ExitStack() as stack:
                sockets = [stack.enter_context(connect(server.tls_port)) for _ in range(20)]
                for raw in sockets:
                    raw.sendall(hello)
                for raw in sockets:
                    assert raw.recv(1) == b"\x16"
                count += len(sockets)
        return f"{count} hellos"

    besiege(server, attack, name="TLS hellos alone", growth_mib=24)


def test_broken_handshakes_in_a_row_leave_nothing_behind(server, besiege):
    some = [data for data in broken().values() if data]

    def attack(server, deadline):
        count = 0
        while not deadline.over or count < len(some):
            with connect(server.tls_port) as raw:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    raw.sendall(some[count % len(some)])
            count += 1
        return f"{count} broken handshakes"

    besiege(server, attack, name="TLS broken handshakes", growth_mib=24)


def test_records_of_one_byte_do_not_hold_up_the_others(server, besiege, channel):
    """A record for each byte: 22 bytes of cipher and a call of OpenSSL for one of text."""
    def attack(server, deadline):
        count = 0
        while not deadline.over or not count:
            with handshake(server.tls_port) as tls:
                tls.sendall(f"POST /v1/channels/{channel} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n".encode())
                for _ in range(5000):
                    if deadline.over and count:
                        break
                    tls.send(b"1")
                    count += 1
        return f"{count} records"

    besiege(server, attack, name="TLS records of a byte", growth_mib=16)
