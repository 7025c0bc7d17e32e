import AsyncHTTPClient
import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Synchronization

/// Requests of this server to others: for keys of tokens, and to the product's own endpoint. On a thread of its own, which there is only
/// once something is asked.
///
/// No redirect is followed, an answer has at most so many bytes, and each request has a deadline that covers all of it.
final class OutgoingHTTP: Sendable {
    struct Answer: Sendable {
        var status: Int
        var cacheControl: [String]
        var body: [UInt8]
    }

    enum Fault: Error, CustomStringConvertible {
        case closed
        case tooLate
        case failed(String)

        var description: String {
            switch self {
            case .closed: "the server goes down"
            case .tooLate: "no answer in time"
            case .failed(let words): words
            }
        }
    }

    private struct State {
        var client: HTTPClient?
        var group: MultiThreadedEventLoopGroup?
        var isClosed = false
    }

    private let state = Mutex(State())
    /// Authorities that are trusted, a PEM file; nil: the system's.
    private let authorityFile: String?

    init(authorityFile: String?) {
        self.authorityFile = authorityFile
    }

    private func open() throws(Fault) -> HTTPClient {
        let client: HTTPClient? = state.withLock { state in
            if state.isClosed { return nil }
            if let client = state.client { return client }
            var configuration = HTTPClient.Configuration(redirectConfiguration: .disallow)
            configuration.httpVersion = .http1Only
            configuration.timeout.connect = .seconds(2)
            // The deadline of a request is the one that counts; a connection that cannot be made is told of at once.
            configuration.connectionPool.retryConnectionEstablishment = false
            if let authorityFile {
                var tls = NIOSSL.TLSConfiguration.makeClientConfiguration()
                tls.trustRoots = .file(authorityFile)
                configuration.tlsConfiguration = tls
            }
            let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
            let client = HTTPClient(eventLoopGroupProvider: .shared(group), configuration: configuration)
            state.client = client
            state.group = group
            return client
        }
        guard let client else { throw .closed }
        return client
    }

    /// - Parameter json: sent by POST; nil: it is a GET.
    /// - Throws: `Fault`, without anything of the URL but its host.
    func ask(
        _ url: String, json: [UInt8]? = nil, bearer: String? = nil, timeoutMilliseconds: Int, bytesMax: Int
    ) async throws(Fault) -> Answer {
        var request = HTTPClientRequest(url: url)
        request.headers.add(name: "Accept", value: "application/json")
        request.headers.add(name: "User-Agent", value: "tocsin")
        if let json {
            request.method = .POST
            request.headers.add(name: "Content-Type", value: "application/json")
            request.body = .bytes(ByteBuffer(bytes: json))
        }
        if let bearer { request.headers.add(name: "Authorization", value: "Bearer \(bearer)") }
        return try await send(request, timeoutMilliseconds: timeoutMilliseconds) { response in
            let body = try await response.body.collect(upTo: bytesMax)
            return Answer(
                status: Int(response.status.code), cacheControl: response.headers[canonicalForm: "Cache-Control"].map { String($0) },
                body: Array(body.readableBytesView)
            )
        }
    }

    /// - Parameter read: what is wanted of the answer; the deadline covers it, too.
    func send<Value: Sendable>(
        _ request: HTTPClientRequest, timeoutMilliseconds: Int,
        _ read: @escaping @Sendable (HTTPClientResponse) async throws -> Value
    ) async throws(Fault) -> Value {
        let client = try open()
        do {
            return try await withThrowingTaskGroup(of: Value.self) { group in
                group.addTask {
                    try await read(try await client.execute(request, timeout: .milliseconds(Int64(timeoutMilliseconds))))
                }
                group.addTask {
                    try await Task.sleep(for: .milliseconds(timeoutMilliseconds))
                    throw Fault.tooLate
                }
                defer { group.cancelAll() }
                guard let first = try await group.next() else { throw Fault.closed }
                return first
            }
        } catch let fault as Fault {
            throw fault
        } catch let error as HTTPClientError where error == .deadlineExceeded || error == .connectTimeout {
            throw .tooLate
        } catch let error as HTTPClientError {
            throw .failed(error.shortDescription)
        } catch is NIOTooManyBytesError {
            throw .failed("the answer is too long")
        } catch {
            throw .failed("\(error)")
        }
    }

    /// What is under way fails.
    func shutDown() async {
        let (client, group) = state.withLock { state in
            defer { (state.client, state.group, state.isClosed) = (nil, nil, true) }
            return (state.client, state.group)
        }
        try? await client?.shutdown()
        try? await group?.shutdownGracefully()
    }
}
