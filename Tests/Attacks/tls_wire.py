"""TLS by hand: first flights that stop half way, and the openssl program as a client that does what Python's does not."""

import os
import socket
import ssl
import struct
import subprocess

from support import trusting_context


def client_hello():
    """The record that a client begins with, as OpenSSL writes it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = trusting_context(["h2", "http/1.1"]).wrap_bio(incoming, outgoing, server_hostname="localhost")
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def record(kind, payload, version=0x0303):
    return struct.pack("!BHH", kind, version, len(payload)) + payload


def in_records_of(hello, size):
    """The same handshake message in records of so many bytes each."""
    message = hello[5:]
    return b"".join(record(22, message[at:at + size], 0x0301) for at in range(0, len(message), size))


def handshake(port, version=None, socket_timeout=10):
    """A whole handshake; the socket, still open."""
    context = trusting_context()
    if version:
        context.minimum_version = context.maximum_version = version
    raw = socket.create_connection(("127.0.0.1", port), socket_timeout)
    return context.wrap_socket(raw, server_hostname="localhost")


def openssl(port, *arguments, text="", seconds=15):
    """`openssl s_client`: lines of `text` are typed with a moment between them; answers all that it said."""
    process = subprocess.Popen(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "localhost", *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "OPENSSL_CONF": os.devnull})
    try:
        said = b""
        for line in text.splitlines(keepends=True):
            try:
                process.communicate(timeout=0.4) if process.poll() is not None else process.wait(0.4)
            except subprocess.TimeoutExpired:
                pass
            if process.poll() is None:
                process.stdin.write(line.encode())
                process.stdin.flush()
        try:
            process.wait(1.0 if text else 0)
        except subprocess.TimeoutExpired:
            pass
        if process.poll() is None:
            process.stdin.close()
            process.stdin = None
        said, _ = process.communicate(timeout=seconds)
        return said.decode("utf-8", "replace")
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
