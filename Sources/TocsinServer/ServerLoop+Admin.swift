import HTTPTypes
import Limits
import Logging
import NIOCore
import NotificationCore
import Transports

/// What only who runs the server may ask for: `/v1/admin/…`.
extension ServerLoop {
    /// Nobody waits longer than an hour.
    private static let drainMillisecondsMax = 3_600_000

    /// `POST /v1/admin/drain?over=60s`: everybody goes now, and comes back at a time of their own within that; nobody new is taken until
    /// the process ends, or `DELETE` says that it is over.
    func drain(_ request: HTTPRequest, _ items: QueryItems, _ handle: RequestHandle) throws(Problem) {
        try checkAdministrator(request, handle)
        let milliseconds: Int?
        switch request.method {
        case .post:
            if let other = items.pairs.first(where: { $0.name != "over" }) {
                throw .badParameter(other.name, "is not known here; known is over")
            }
            guard let over = Self.milliseconds(items["over"] ?? "\(server.configuration.drainSeconds)s"),
                over <= Self.drainMillisecondsMax
            else { throw .badParameter("over", "a time is wanted, at most an hour: 500ms, 60s, 5m") }
            milliseconds = over
        case .delete: milliseconds = nil
        default: throw .methodNotAllowed("POST, DELETE")
        }
        server.drain(overMilliseconds: milliseconds)
        server.neighbours?.drain(overMilliseconds: milliseconds)
        let text = milliseconds.map { #"{"draining":true,"over_ms":\#($0)}"# } ?? #"{"draining":false}"#
        answer(handle, status: milliseconds == nil ? .ok : .accepted, "application/json", Array((text + "\n").utf8))
    }

    /// An API key that may, or from this host without a token.
    private func checkAdministrator(_ request: HTTPRequest, _ handle: RequestHandle) throws(Problem) {
        if let identity = handle.identity { return try checkAdministrator(identity) }
        guard isFromThisHost(request, handle) else {
            throw Problem(
                "not-an-administrator", "Only from this host", status: 403,
                detail: "ask from the host itself, without a proxy in between", rule: "admin"
            )
        }
    }

    /// By itself: not for somebody else who asks a proxy or a browser on this host.
    private func isFromThisHost(_ request: HTTPRequest, _ handle: RequestHandle) -> Bool {
        let others = ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via", "Origin", "Sec-Fetch-Site"]
        return handle.connection.address.isLoopback && !others.contains { request.headerFields[HTTPField.Name($0)!] != nil }
    }

    /// `500ms`, `60s`, `5m`; a number alone is seconds.
    static func milliseconds(_ text: String) -> Int? {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        guard let number = Int(digits), digits.count <= 9 else { return nil }
        switch text.dropFirst(digits.count) {
        case "ms": return number
        case "s", "": return number * 1000
        case "m": return number * 60_000
        default: return nil
        }
    }
}

extension ServerState {
    /// - Parameter milliseconds: nil: it takes clients again.
    func drain(overMilliseconds milliseconds: Int?) {
        guard let milliseconds else {
            endDraining()
            return logger.info("takes clients again")
        }
        logger.info("draining", metadata: ["over_ms": "\(milliseconds)"])
        beginDraining(overMilliseconds: milliseconds)
        for reference in loops { reference.eventLoop.execute { reference.value.leave(spreadMilliseconds: milliseconds) } }
    }
}
