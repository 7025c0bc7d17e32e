/// What one peer may make a parser read and hold.
package struct HTTP1Limits: Equatable, Sendable {
    /// The longest request line or status line in bytes, without its CRLF. Above it: 414.
    ///
    /// 8192: RFC 9112 section 3 asks for at least 8000. A subscription to a hundred channels fits.
    package var startLineBytesMax: Int

    /// The longest head in bytes, from the first byte of the start line to the last of the empty line. Above it: 431.
    ///
    /// 16384: the start line at its limit, and as much again for the fields, of which the largest are a cookie (browsers: 4096) and a
    /// bearer token (1 to 4 KiB). It bounds what a half-sent head can park here.
    package var headBytesMax: Int

    /// The largest number of field lines in a head, and of trailer lines after a body. Above it: 431.
    ///
    /// 100: a browser sends 15 to 25, a chain of proxies adds some ten; Apache's default is 100.
    package var fieldsMax: Int

    /// The bytes of chunk extensions of one body, over all its chunks. Above it: 400.
    ///
    /// 1024: nobody sends any. Counted over the body and not per chunk, because a long extension on each of many small chunks makes a
    /// server read far more than the body's limit says.
    package var chunkExtensionBytesMax: Int

    /// The bytes of a trailer section. Above it: 431.
    ///
    /// 4096: trailers are dropped, so this is only what we are ready to read for nothing; a checksum or a signature fits.
    package var trailerBytesMax: Int

    /// The bytes of one body, without chunk framing. Above it: 413. `Int.max` is no limit, for a client that reads an endless stream.
    ///
    /// 16 MiB: a batch of 1000 publications of 16 KiB each.
    package var bodyBytesMax: Int

    /// - Parameters:
    ///   - startLineBytesMax: at least 1.
    ///   - headBytesMax: 1 to 16 MiB.
    ///   - fieldsMax: 0 to 65000 (`HTTPFields` holds less than 65535).
    ///   - chunkExtensionBytesMax: 0 to 16 MiB.
    ///   - trailerBytesMax: 0 to 16 MiB.
    ///   - bodyBytesMax: at least 0.
    package init(
        startLineBytesMax: Int = 8192,
        headBytesMax: Int = 16384,
        fieldsMax: Int = 100,
        chunkExtensionBytesMax: Int = 1024,
        trailerBytesMax: Int = 4096,
        bodyBytesMax: Int = 16 << 20
    ) {
        let countsMax = 16 << 20
        precondition(startLineBytesMax >= 1, "a start line limit below one lets nothing through")
        precondition((1...countsMax).contains(headBytesMax), "head limit out of range")
        precondition((0...65000).contains(fieldsMax), "field limit out of range")
        precondition((0...countsMax).contains(chunkExtensionBytesMax), "chunk extension limit out of range")
        precondition((0...countsMax).contains(trailerBytesMax), "trailer limit out of range")
        precondition(bodyBytesMax >= 0, "a body limit below zero")
        self.startLineBytesMax = startLineBytesMax
        self.headBytesMax = headBytesMax
        self.fieldsMax = fieldsMax
        self.chunkExtensionBytesMax = chunkExtensionBytesMax
        self.trailerBytesMax = trailerBytesMax
        self.bodyBytesMax = bodyBytesMax
    }
}
