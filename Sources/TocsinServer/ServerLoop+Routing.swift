import HTTP2Session
import HTTPTypes
import Identity
import NIOCore
import NotificationCore
import Transports

/// A loop, to be reached from other threads: its value can be had only on the loop itself.
typealias LoopReference = NIOLoopBound<ServerLoop>

extension ServerLoop {
    func bind<Value>(_ value: Value) -> NIOLoopBound<Value> { NIOLoopBound(value, eventLoop: eventLoop) }

    /// Every request comes here, whichever version of HTTP brought it.
    ///
    /// - Parameter upgrade: HTTP/1.1: the tokens of `Upgrade`, if `Connection` lists it.
    func route(_ request: HTTPRequest, body: [UInt8], upgrade: String?, _ handle: RequestHandle) {
        if let canary = server.canary, canary.isAsking(request) { return subscribe(canary, request, upgrade, handle) }
        counters.requests += 1
        var handle = handle
        if server.logsRequests { handle.trace = RequestTrace(request) }
        do throws(Problem) {
            let target = RequestTarget(request.path ?? "/")
            guard let segments = target.segments, var items = target.items else {
                throw .badParameter("request target", "it is not percent-encoded UTF-8")
            }
            handle.crossOrigin = nil
            try checkLimits(handle)
            try checkHost(request)
            let isPublic = segments.first != "v1" && server.pages["/" + segments.joined(separator: "/")]?.isPublic == true
            handle.crossOrigin = isPublic ? "*" : try allowedCrossOrigin(request)
            if request.method == .options, handle.crossOrigin != nil { return answerPreflight(handle) }
            guard segments.first == "v1" else { return try route(request, segments, items, body, upgrade, handle) }
            let shown = try shownToken(request, segments, &items, handle)
            try identify(shown, handle) { [items, handle] loop, identity throws(Problem) in
                var handle = handle
                handle.identity = identity
                handle.isOneUse = shown?.place == .ticket
                try loop.route(request, segments, items, body, upgrade, handle)
            }
        } catch {
            answer(handle, error)
        }
    }

    private func route(
        _ request: HTTPRequest, _ segments: [String], _ items: QueryItems, _ body: [UInt8], _ upgrade: String?, _ handle: RequestHandle
    ) throws(Problem) {
        switch segments {
        case ["v1", "subscribe"]:
            try subscribe(request, items, body, upgrade, handle)
        case ["v1", "publish"]:
            guard request.method == .post else { throw .methodNotAllowed("POST") }
            try publishBatch(request, body, handle)
        case _ where segments.count == 3 && segments[0] == "v1" && segments[1] == "channels":
            let channel = try channelName(segments[2])
            switch request.method {
            case .post: try publish(request, channel, items, body, handle)
            case .get, .head:
                try whenReadable(channel, handle) { loop throws(Problem) in try loop.info(channel, handle) }
            default: throw .methodNotAllowed("GET, POST")
            }
        case _ where segments.count == 4 && segments[0] == "v1" && segments[1] == "channels" && segments[3] == "history":
            guard request.method == .get else { throw .methodNotAllowed("GET") }
            let channel = try channelName(segments[2])
            try whenReadable(channel, handle) { loop throws(Problem) in try loop.history(channel, items, handle) }
        case _ where segments.count == 4 && segments[0] == "v1" && segments[1] == "channels" && segments[3] == "snapshot":
            guard request.method == .get else { throw .methodNotAllowed("GET") }
            let channel = try channelName(segments[2])
            try whenReadable(channel, handle) { loop throws(Problem) in try loop.snapshot(channel, handle) }
        case _ where segments.count == 4 && segments[0] == "v1" && segments[1] == "channels" && segments[3] == "presence":
            guard request.method == .get else { throw .methodNotAllowed("GET") }
            let channel = try channelName(segments[2])
            try whenPermitted(.presence, [ChannelPattern(channel)], handle) { loop throws(Problem) in
                try loop.answerPresence(channel, items, handle)
            }
        case _ where segments.count == 3 && segments[0] == "v1" && segments[1] == "sessions":
            guard request.method == .post else { throw .methodNotAllowed("POST") }
            try command(segments[2], body, handle)
        case ["v1", "acks"]:
            guard request.method == .post else { throw .methodNotAllowed("POST") }
            try acknowledge(items, body, handle)
        case ["v1", "inbox"]:
            guard request.method == .get else { throw .methodNotAllowed("GET") }
            try whenCaughtUp(handle) { loop throws(Problem) in try loop.inbox(items, handle) }
        case ["v1", "tickets"]:
            guard request.method == .post else { throw .methodNotAllowed("POST") }
            try ticket(handle)
        case ["v1", "admin", "revocations"]:
            guard request.method == .post else { throw .methodNotAllowed("POST") }
            try revoke(body, handle)
        case ["v1", "admin", "drain"]:
            try drain(request, items, handle)
        case ["healthz"]:
            try plain(request, "ok\n", handle)
        case ["readyz"]:
            if server.isDraining { throw server.drainProblem }
            if let fault = server.log.fault {
                throw Problem(
                    "store-failed", "The log cannot be written", status: 503, detail: "\(fault)", retryAfterSeconds: 2
                )
            }
            if let fault = server.canary?.fault {
                throw Problem("delivery-stopped", "Messages are not delivered", status: 503, detail: fault, retryAfterSeconds: 2)
            }
            try plain(request, "ready\n", handle)
        case ["metrics"]:
            guard request.method == .get else { throw .methodNotAllowed("GET") }
            metrics(handle)
        case ["echo"] where server.configuration.isConformanceDoorOpen:
            try echo(request, body, upgrade, handle)
        case [""] where server.configuration.isConformanceDoorOpen, [] where server.configuration.isConformanceDoorOpen:
            answer(handle, status: .ok, "text/plain; charset=utf-8", Self.conformanceBody)
        default:
            try page(request, "/" + segments.joined(separator: "/"), handle)
        }
    }

    /// A read of a channel goes on when who asks may have it, and this loop has what was stored before.
    private func whenReadable(
        _ channel: ChannelName, _ handle: RequestHandle, _ body: @escaping (ServerLoop) throws(Problem) -> Void
    ) throws(Problem) {
        try whenPermitted(.subscribe, [ChannelPattern(channel)], handle) { loop throws(Problem) in
            try loop.whenCaughtUp(handle, body)
        }
    }

    /// Goes on as soon as this loop has applied all that the log has given out: whoever was told that a message is stored finds it in
    /// what is read next, on any connection.
    func whenCaughtUp(_ handle: RequestHandle, _ body: @escaping (ServerLoop) throws(Problem) -> Void) throws(Problem) {
        let head = server.log.head
        if hub.head >= head { return try body(self) }
        readsAhead.append((head, handle, body))
    }

    /// A batch was applied: some reads may go on. They stand in the order of what they wait for.
    func resumeReads() {
        func isDue() -> Bool { readsAhead.first.map { $0.head <= hub.head } ?? false }
        guard isDue() else { return }
        _ = turns.slice {
            repeat {
                let (_, handle, body) = readsAhead.removeFirst()
                if isPending(handle) { do throws(Problem) { try body(self) } catch { answer(handle, error) } }
            } while isDue() && turns.mayGoOn
        }
        if isDue() { turns.add(.readsAhead) }
    }

    /// Of 32 KiB on, a body is taken apart away from the loop: it may take longer than a slice.
    private static let largeBodyBytes = 32 << 10

    /// Takes a body apart, and goes on with what it makes of it.
    func parse<Value: Sendable>(
        _ body: [UInt8], _ handle: RequestHandle, _ make: @escaping @Sendable ([UInt8]) throws(Problem) -> Value,
        then: @escaping (ServerLoop, Value) throws(Problem) -> Void
    ) throws(Problem) {
        if body.count < Self.largeBodyBytes { return try then(self, try make(body)) }
        // It counts among the parked ones until then, which bounds what waits for the worker.
        parkedBytes += body.count
        let (bound, count, eventLoop) = (bind((self, handle, then)), body.count, eventLoop)
        server.worker.execute {
            let result: Result<Value, Problem>
            do throws(Problem) { result = .success(try make(body)) } catch { result = .failure(error) }
            eventLoop.execute {
                let (loop, handle, then) = bound.value
                loop.parkedBytes -= count
                do throws(Problem) { try then(loop, try result.get()) } catch { loop.answer(handle, error) }
            }
        }
    }

    /// 128 KiB: above any window that a suite sets.
    private static let conformanceBody = [UInt8](repeating: UInt8(ascii: "."), count: 128 << 10)

    private func channelName(_ text: String) throws(Problem) -> ChannelName {
        guard let name = ChannelName(text) else { throw .badChannel(text) }
        return name
    }

    private func checkHost(_ request: HTTPRequest) throws(Problem) {
        guard let names = server.hosts, let authority = request.authority else { return }
        // Without the port; an address of version 6 stands in brackets.
        let end =
            authority.hasPrefix("[") ? authority.firstIndex(of: "]").map { authority.index(after: $0) } : authority.firstIndex(of: ":")
        let name = authority[..<(end ?? authority.endIndex)].lowercased()
        guard !names.contains(name) else { return }
        throw Problem(
            "host-not-allowed", "Host not allowed", status: 421, detail: "this server is not called \(name.prefix(100))", rule: "host",
            configurationKey: "allowed_hosts (--allow-host)"
        )
    }

    /// A page of another origin may use the server only if the configuration says so. Browsers always name the origin on WebSockets
    /// and on requests that change something, so nobody's page can speak for a visitor unasked.
    ///
    /// - Returns: the other origin, if it is one that may.
    private func allowedCrossOrigin(_ request: HTTPRequest) throws(Problem) -> String? {
        guard let origin = request.headerFields[.origin] else { return nil }
        let host = request.authority ?? ""
        if origin == "http://" + host || origin == "https://" + host { return nil }
        let allowed = server.configuration.allowedOrigins
        if allowed.contains("*") || allowed.contains(origin) { return origin }
        throw Problem(
            "origin-not-allowed", "Origin not allowed", status: 403, detail: "pages of \(origin.prefix(100)) may not use this server",
            rule: "origin", configurationKey: "allowed_origins (--allow-origin)"
        )
    }

    /// A browser asks before it sends what a form could not (Fetch standard, CORS-preflight request).
    private func answerPreflight(_ handle: RequestHandle) {
        var response = HTTPResponse(status: .ok)
        response.headerFields[HTTPField.Name("Access-Control-Allow-Methods")!] = "GET, POST"
        response.headerFields[HTTPField.Name("Access-Control-Allow-Headers")!] =
            "Authorization, Content-Type, Last-Event-ID, Prefer, Idempotency-Key, Cache-Control"
        response.headerFields[HTTPField.Name("Access-Control-Max-Age")!] = "600"
        answer(handle, response, [])
    }

    private func plain(_ request: HTTPRequest, _ text: String, _ handle: RequestHandle) throws(Problem) {
        guard request.method == .get || request.method == .head else { throw .methodNotAllowed("GET") }
        answer(handle, status: .ok, "text/plain; charset=utf-8", Array(text.utf8))
    }

    private func page(_ request: HTTPRequest, _ path: String, _ handle: RequestHandle) throws(Problem) {
        guard let page = server.pages[path] else {
            throw .notFound("there is nothing at \(path.prefix(200)); the protocol's paths begin with /v1/")
        }
        guard request.method == .get || request.method == .head else { throw .methodNotAllowed("GET") }
        var response = HTTPResponse(status: .ok)
        response.headerFields[.contentType] = page.contentType
        response.headerFields[.cacheControl] = page.isPublic ? "public, max-age=300" : "no-cache"
        answer(handle, response, page.bytes)
    }

    private func metrics(_ handle: RequestHandle) {
        let bound = bind((self, handle))
        server.exposition(on: eventLoop).whenSuccess { text in
            let (loop, handle) = bound.value
            loop.answer(handle, status: .ok, "text/plain; version=0.0.4; charset=utf-8", Array(text.utf8))
        }
    }

    func currentCounters() -> LoopCounters {
        var counters = counters
        let canary = hub.canaryFigures
        counters.tailMessages = hub.tail.count - canary.messages
        counters.tailBytes = hub.tail.bytes - canary.bytes
        counters.channels = hub.tail.channelCount - hub.tail.reservedCount
        counters.acknowledgingUsers = hub.tail.usersOwnCount
        counters.patterns = hub.patternCount - canary.patterns
        counters.figures = takeFigures()
        if let presence { counters.presence = presence.figures }
        return counters
    }

    // MARK: answers

    func answer(_ handle: RequestHandle, _ problem: Problem) {
        server.note(problem)
        answer(handle, problem.response, problem.json)
    }

    func answer(_ handle: RequestHandle, status: HTTPResponse.Status, _ contentType: String, _ body: [UInt8]) {
        var response = HTTPResponse(status: status)
        response.headerFields[.contentType] = contentType
        answer(handle, response, body)
    }

    /// Answers a request, if it is still there.
    func answer(_ handle: RequestHandle, _ response: HTTPResponse, _ body: [UInt8]) {
        let connection = handle.connection
        handle.trace?.log("answered", ["status": "\(response.status.code)"], to: server.logger)
        switch connection.state {
        case .http1(let exchange) where handle.stream == 0 && handle.serial == exchange.serial && exchange.isAnswering:
            connection.answerHTTP1(exchange, response, body, isHead: handle.isHead)
        case .http2(let exchange) where exchange.streams[handle.stream] != nil:
            connection.respond(handle.stream, exchange, response, handle.isHead ? [] : body)
            if isFanningOut { connection.wantFlush(exchange) } else { connection.flushHTTP2() }
        default: break
        }
    }
}
