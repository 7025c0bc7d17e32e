package import HTTPTypes

/// A request up to its empty line, and what the fields say about the connection.
package struct HTTP1RequestHead: Equatable, Sendable {
    /// The request as one router for all HTTP versions sees it.
    ///
    /// - `method`: as received; any token.
    /// - `scheme`: nil; the connection knows it.
    /// - `authority`: Host as received, or of an absolute target; nil only in HTTP/1.0 without Host.
    /// - `path`: origin-form (`/path?query`) or `*`, as received; of an absolute target the part behind the authority. Nil for CONNECT.
    /// - `headerFields`: as received and in order, without Host.
    package var request: HTTPRequest
    /// 0 or 1.
    package var minorVersion: Int
    /// Whether the client can send another request on this connection (RFC 9112 section 9.3). Never behind CONNECT.
    package var keepAlive: Bool
    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 section 10.1.1).
    package var expectsContinue: Bool
    package var body: HTTP1BodyFraming
    /// The protocols of Upgrade, in lower case, with `, ` between, if Connection lists `upgrade` and this is HTTP/1.1
    /// (RFC 9110 section 7.8). `websocket` for a WebSocket.
    package var upgrade: String?

    package init(
        request: HTTPRequest,
        minorVersion: Int = 1,
        keepAlive: Bool = true,
        expectsContinue: Bool = false,
        body: HTTP1BodyFraming = .none,
        upgrade: String? = nil
    ) {
        self.request = request
        self.minorVersion = minorVersion
        self.keepAlive = keepAlive
        self.expectsContinue = expectsContinue
        self.body = body
        self.upgrade = upgrade
    }
}
