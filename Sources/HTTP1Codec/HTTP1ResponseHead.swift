package import HTTPTypes

/// A response up to its empty line, and what the fields say about the connection.
package struct HTTP1ResponseHead: Equatable, Sendable {
    package var response: HTTPResponse
    /// 0 or 1.
    package var minorVersion: Int
    /// Whether the connection can be used again after this response (RFC 9112 section 9.3).
    package var keepAlive: Bool
    package var body: HTTP1ResponseFraming

    package init(response: HTTPResponse, minorVersion: Int = 1, keepAlive: Bool = true, body: HTTP1ResponseFraming) {
        self.response = response
        self.minorVersion = minorVersion
        self.keepAlive = keepAlive
        self.body = body
    }
}
