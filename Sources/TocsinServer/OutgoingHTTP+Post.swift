import AsyncHTTPClient
import NIOCore
import NIOHTTP1

extension OutgoingHTTP {
    /// What is wanted of an answer that nobody reads.
    struct Reply: Sendable {
        var status: Int
        var retryAfter: String?
    }

    /// Sends something, and reads the answer so far that the connection can be used again.
    ///
    /// - Parameters:
    ///   - fields: besides those that each request has.
    ///   - bytesMax: of the answer's body; of a longer one the rest is not read, and its connection is closed.
    /// - Throws: `Fault`, without anything of the URL but its host.
    func post(
        _ url: String, fields: [(name: String, value: String)], json: [UInt8], timeoutMilliseconds: Int, bytesMax: Int
    ) async throws(Fault) -> Reply {
        var request = HTTPClientRequest(url: url)
        request.method = .POST
        request.headers.add(name: "User-Agent", value: "tocsin")
        request.headers.add(name: "Content-Type", value: "application/json")
        for field in fields { request.headers.add(name: field.name, value: field.value) }
        request.body = .bytes(ByteBuffer(bytes: json))
        return try await send(request, timeoutMilliseconds: timeoutMilliseconds) { response in
            var left = bytesMax
            for try await piece in response.body {
                left -= piece.readableBytes
                if left < 0 { break }
            }
            return Reply(status: Int(response.status.code), retryAfter: response.headers.first(name: "Retry-After"))
        }
    }
}
