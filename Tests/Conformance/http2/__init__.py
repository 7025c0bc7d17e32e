"""HTTP/2 conformance of a server: the cases of h2spec, numbered as h2spec 2.6 numbers them, and cases for RFC 8441.

    pip install -r requirements.txt            (in Tests/Conformance)
    python3 -m http2 --url http://127.0.0.1:8080/
    python3 -m http2 --url https://127.0.0.1:8443/ --tls --only http2/6.5.2 --only hpack

Suites: `generic` (44 cases), `http2` (94, and 5.4.1/2, which h2spec runs only with --strict), `hpack` (8), `rfc8441`.
What a case accepts is what h2spec accepts: where the RFC asks for a certain error code, a closed connection will do as well.
With `--exact` it will not, and neither will a GOAWAY with another code.

The server has to answer `GET` and `POST` of the URL's path with 200 and a body of some bytes. For `rfc8441` it also needs
a WebSocket echo at `/echo`, and the API of Tocsin (`/v1/subscribe`, `/v1/channels/`).

h2spec was written for RFC 7540; the sections named here are those of RFC 9113, where it has them.
"""
