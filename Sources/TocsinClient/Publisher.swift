public import HTTPTypes
import TLSEngine

/// Sends requests over one connection that stays, and over others if several are asked for at once.
public actor Publisher {
    private let configuration: ClientConfiguration
    private let tls: TLSContext?
    private let tokens: TokenSource
    private var channel: ClientChannel?

    public init(_ configuration: ClientConfiguration) throws {
        try self.init(configuration, tls: configuration.makeTLSContext(), tokens: TokenSource(configuration.token))
    }

    init(_ configuration: ClientConfiguration, tls: TLSContext?, tokens: TokenSource) {
        self.configuration = configuration
        self.tls = tls
        self.tokens = tokens
    }

    /// - Returns: the status and the body of the answer.
    public func post(_ path: String, contentType: String, fields: HTTPFields = [:], body: [UInt8]) async throws -> (Int, [UInt8]) {
        let token = try await tokens.value()
        var request = HTTPRequest(
            method: .post, scheme: configuration.address.scheme, authority: configuration.address.authority, path: path
        )
        request.headerFields = fields
        request.headerFields[.contentType] = contentType
        if let token { request.headerFields[.authorization] = "Bearer \(token)" }
        let (status, answer) = try await exchangeAgain(request, body)
        guard status == 401, let token, let renewed = try await tokens.renew(rather: token) else { return (status, answer) }
        request.headerFields[.authorization] = "Bearer \(renewed)"
        return try await exchangeAgain(request, body)
    }

    /// A server may close an idle connection at any moment: once more on a new one.
    private func exchangeAgain(_ request: HTTPRequest, _ body: [UInt8]) async throws -> (Int, [UInt8]) {
        let isReused = channel != nil
        do {
            return try await exchange(request, body)
        } catch  where isReused {
            return try await exchange(request, body)
        }
    }

    private func exchange(_ request: HTTPRequest, _ body: [UInt8]) async throws -> (Int, [UInt8]) {
        let opened: ClientChannel
        if let channel { opened = channel } else { opened = try await ClientChannel.open(configuration, tls) }
        channel = nil
        do {
            opened.send(request, body: body)
            let answer = try await opened.answer()
            if answer.keepsAlive { channel = opened } else { opened.close() }
            return (answer.response.status.code, answer.body)
        } catch {
            opened.close()
            throw error
        }
    }

    public func close() {
        channel?.close()
        channel = nil
    }
}

/// A whole answer.
struct ClientAnswer: Sendable {
    var response: HTTPResponse
    var body: [UInt8] = []
    var keepsAlive: Bool
}

extension ClientChannel {
    /// An answer to a poll has about a mebibyte, or one message; an answer to a publisher is short.
    private static let answerBytesMax = 32 << 20

    /// - Parameter onBytes: called when a part of it comes.
    func answer(_ onBytes: () async -> Void = {}) async throws -> ClientAnswer {
        var answer: ClientAnswer?
        while let arrived = await next() {
            await onBytes()
            switch arrived.event {
            case .head(let response, let keepsAlive): answer = ClientAnswer(response: response, keepsAlive: keepsAlive)
            case .body(let bytes):
                answer?.body += bytes
                guard answer?.body.count ?? 0 <= Self.answerBytesMax else { throw ClientFault("the answer is too long") }
            case .end: if let answer { return answer }
            case .webSocket: break
            case .closed(let fault): throw fault ?? ClientFault("the server closed the connection")
            }
        }
        throw CancellationError()
    }
}
