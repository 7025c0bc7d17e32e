package import HTTPTypes
import TLSEngine

/// Publishes over one connection, one request after the other.
package actor Publisher {
    private let configuration: ClientConfiguration
    private let tls: TLSContext?
    private var channel: ClientChannel?
    private var events: AsyncStream<ClientEvent>.AsyncIterator?

    package init(_ configuration: ClientConfiguration) throws {
        self.configuration = configuration
        tls = try configuration.makeTLSContext()
    }

    /// - Returns: the status and the body of the answer.
    package func post(_ path: String, contentType: String, fields: HTTPFields = [:], body: [UInt8]) async throws -> (Int, [UInt8]) {
        var request = HTTPRequest(
            method: .post, scheme: configuration.address.scheme, authority: configuration.address.authority, path: path
        )
        request.headerFields = fields
        request.headerFields[.contentType] = contentType
        let isReused = channel != nil
        do {
            return try await exchange(request, body)
        } catch let fault as ClientFault where isReused && !fault.isFinal {
            // A server may close an idle connection at any moment: once more on a new one.
            return try await exchange(request, body)
        }
    }

    private func exchange(_ request: HTTPRequest, _ body: [UInt8]) async throws -> (Int, [UInt8]) {
        if channel == nil {
            let opened = try await ClientChannel.open(configuration, tls)
            channel = opened
            events = opened.events.makeAsyncIterator()
        }
        channel?.send(request, body: body)
        var status = 0
        var answer: [UInt8] = []
        while let event = await next() {
            switch event {
            case .head(let head): status = head.status.code
            case .body(let bytes): answer += bytes
            case .end: return (status, answer)
            case .webSocket: break
            case .closed(let fault):
                channel = nil
                events = nil
                throw fault ?? ClientFault("the server closed the connection")
            }
        }
        channel = nil
        events = nil
        throw ClientFault("the connection is closed")
    }

    private func next() async -> ClientEvent? {
        guard var iterator = events else { return nil }
        let event = await iterator.next(isolation: self)
        events = iterator
        return event
    }

    package func close() {
        channel?.close()
        channel = nil
    }
}
