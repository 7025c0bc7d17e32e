import HTTP1Codec
import HTTPTypes
import Identity
import Limits
import Logging
import NIOCore
import NotificationCore
import Transports
import WebSocketCodec

/// How a connection begins, if it does not simply begin: behind a proxy that first says whose it is, or only to be told that it is refused.
///
///     accepted ──from a PROXY source──> header ──whole──> admitted ──> sniffing, TLS
///        │                                │                  │
///        │                                └──malformed──> closed
///        └──over a limit, see Acceptor────────────────────┴──> refused: 429 or 503, unasked; over TLS to the first request
final class ConnectionOpening {
    /// What came of a PROXY header; nil: none is wanted.
    var header: [UInt8]?
    /// Told to every request.
    var refusal: Problem?
    /// What the listener has found.
    let found: LimitRefusal?

    init(header: [UInt8]? = nil, refusal: Problem? = nil, found: LimitRefusal? = nil) {
        self.header = header
        self.refusal = refusal
        self.found = found
    }
}

extension Connection {
    /// The connection is there, and nothing has come yet.
    func beginAdmission() {
        if loop.server.limits.wantsProxyHeader(address) {
            opening = ConnectionOpening(header: [])
        } else {
            let found = opening?.found
            opening = nil
            admit(found)
        }
    }

    /// - Parameter refusal: what the listener found, which has made room for the answer.
    private func admit(_ refusal: LimitRefusal?) {
        if let refusal { return tell(refusal, loop.server.limits.refuse(refusal, address)) }
        if let canary = loop.server.canary, loop.server.limits.countsConnections, canary.isOwn(PeerAddress(context?.remoteAddress)) {
            return
        }
        if let refusal = loop.server.limits.enter(address) { return refuse(refusal) }
        isCounted = true
    }

    /// Tells it, if there is room for that, or ends it at once.
    private func refuse(_ refusal: LimitRefusal) {
        let limits = loop.server.limits
        let problem = limits.refuse(refusal, address)
        if limits.mayTell(refusal, isSecret: tls != nil) { return tell(refusal, problem) }
        if descriptor >= 0 { SystemCall.resetWhenClosed(descriptor) }
        close()
    }

    /// Over TLS the handshake comes first, and the answer to the first request.
    private func tell(_ refusal: LimitRefusal, _ problem: Problem) {
        loop.server.limits.beginRefusing()
        opening = ConnectionOpening(refusal: problem)
        guard tls == nil else { return }
        var out: [UInt8] = []
        let body = problem.json
        HTTP1ResponseEncoder.head(
            dated(problem.response), framing: .length(body.count), keepAlive: false, requestMinorVersion: 1, into: &out
        )
        write(out + body)
        closeWhenDrained()
    }

    func endAdmission() {
        if isCounted { loop.server.limits.leave(address) }
        if opening?.refusal != nil { loop.server.limits.endRefusing() }
        isCounted = false
        opening = nil
    }

    /// The beginning of a connection from a PROXY source: everything else comes after the header, TLS too.
    func receiveHeader(_ opening: ConnectionOpening, _ bytes: UnsafeMutableRawBufferPointer) {
        var all = (opening.header ?? []) + bytes
        opening.header = all
        do throws(ProxyHeaderFault) {
            guard let (header, length) = try ProxyHeader.parse(all) else { return }
            self.opening = nil
            if let source = header.source {
                address = source
                if let refusal = loop.server.limits.refusal(of: source) { refuse(refusal) } else { admit(nil) }
            } else {
                admit(nil)
            }
            all.removeFirst(length)
            if isOpen, !all.isEmpty { all.withUnsafeMutableBytes { receive($0) } }
        } catch {
            loop.counters.faults["proxy", default: 0] += 1
            loop.server.logger.debug("no PROXY header", metadata: ["address": "\(address)", "detail": "\(error)"])
            close()
        }
    }

    fileprivate func leaveHTTP2() {
        guard case .http2(let exchange) = state else { return }
        leaveHTTP2(exchange)
        flushHTTP2()
    }

    // MARK: rates

    func ensureSpending() -> ConnectionSpending {
        if let spending { return spending }
        let new = ConnectionSpending()
        spending = new
        return new
    }

    func charge(bytes: Int) {
        guard let limit = loop.server.limits.configuration.bytesPerConnection else { return }
        ensureSpending().bytes.charge(bytes, of: limit, nowNanoseconds: Clock.monotonicNanoseconds())
    }

    /// - Throws: what to answer if the connection has sent more than it may.
    func checkBytes() throws(Problem) {
        guard let limit = loop.server.limits.configuration.bytesPerConnection, let spending else { return }
        let wait = spending.bytes.wait(for: limit, nowNanoseconds: Clock.monotonicNanoseconds())
        guard wait > 0 else { return }
        throw loop.server.limits.refuse(LimitRefusal(.bytesPerConnection, nanoseconds: wait), address)
    }

    /// What has just come on a WebSocket counts.
    ///
    /// - Parameter messages: how many commands there were.
    /// - Returns: false if it is too much; then the session is ended.
    func spend(_ session: WebSocketSession, messages: Int, _ actions: [WebSocketAdapter.Action]) -> Bool {
        let limits = loop.server.limits
        let user = session.token?.identity.subject
        let publications = actions.reduce(0) { sum, action in
            switch action {
            case .command(.publish): sum + 1
            case .undecided(let command): sum + (command.isPublish ? 1 : 0)
            default: sum
            }
        }
        do throws(Problem) {
            try checkBytes()
            // One by one: they came one by one.
            if limits.hasRates {
                for _ in 0..<messages { try limits.spend(.commands, 1, self, user: user) }
                for _ in 0..<publications { try limits.spend(.publishes, 1, self, user: user) }
            }
            return true
        } catch {
            end(session, milliseconds: 1000 * (error.retryAfterSeconds ?? 1), .policyViolation, error.type)
            return false
        }
    }

    /// Asks a WebSocket's client to come back later, and ends it.
    func end(_ session: WebSocketSession, milliseconds: Int, _ code: WebSocketCloseCode, _ reason: String) {
        var out: [UInt8] = []
        session.adapter.shape.append(
            control: ControlObject.goingAway(retryAfterMilliseconds: milliseconds), event: "going-away", to: &out
        )
        session.adapter.close(code, reason, &out)
        send(session, out)
        close(session, awaitsPeer: true)
    }
}

extension ServerLoop {
    /// What a request is refused for before anybody looks what it wants.
    func checkLimits(_ handle: RequestHandle) throws(Problem) {
        let connection = handle.connection
        if let refusal = connection.opening?.refusal {
            switch connection.state {
            case .http1(let exchange): exchange.head?.keepAlive = false
            case .http2:
                // As soon as it has its answer.
                let bound = bind(connection)
                eventLoop.execute { bound.value.leaveHTTP2() }
            default: break
            }
            throw refusal
        }
        try connection.checkBytes()
    }

    /// Publications, or commands, of a request count.
    func spend(_ what: ServerLimits.Spending, _ count: Int, _ handle: RequestHandle) throws(Problem) {
        try server.limits.spend(what, count, handle.connection, user: handle.identity?.subject)
    }

    /// A place for the subscription of a request.
    func place(_ request: HTTPRequest, _ handle: RequestHandle) throws(Problem) -> CountedPlace? {
        let configuration = server.limits.configuration
        var forwarded: NetworkAddress?
        if configuration.trustedProxies.contains(handle.connection.address) {
            let name = HTTPField.Name(configuration.forwardedField.rawValue)!
            let client = configuration.forwardedField.client(
                peer: handle.connection.address, lines: request.headerFields[values: name], trusted: configuration.trustedProxies
            )
            if client != handle.connection.address { forwarded = client }
        }
        return try server.limits.place(user: handle.identity?.subject, forwarded: forwarded)
    }
}
