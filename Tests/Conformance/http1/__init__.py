"""Differential test of Tocsin's HTTP/1.1 request parser against NIO's, h11 and httptools (`python3 -m http1 --help`)."""
