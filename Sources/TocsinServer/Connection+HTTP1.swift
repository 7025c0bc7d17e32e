import HTTP1Codec
import HTTP2Session
import HTTPTypes
import NotificationCore
import Transports

extension Connection {
    /// The peer asks and does not read: no further request is answered until it does.
    var isClogged: Bool { pendingBytes > loop.server.configuration.backlogBytesMax }

    /// - Returns: how many bytes were taken. The rest comes again when the request behind which they stand has been answered.
    func receiveHTTP1(_ exchange: HTTP1Exchange, _ bytes: UnsafeRawBufferPointer) -> Int {
        var consumed = 0
        while case .http1(let current) = state, current === exchange, !closesWhenDrained {
            var taken = 0
            let rest = UnsafeRawBufferPointer(rebasing: bytes[consumed...])
            do throws(HTTP1Fault) {
                let event = try exchange.parser.next(rest, consumed: &taken)
                consumed += taken
                guard let event else { break }
                handle(event, exchange, rest)
                if case .end = event, exchange.isAnswering || isClogged || !loop.turns.mayGoOn { break }
            } catch {
                refuse(error)
                return bytes.count
            }
        }
        switch state {
        case .http1 where closesWhenDrained: return bytes.count
        case .http1(let current) where current === exchange:
            if !exchange.isAnswering, exchange.head == nil, exchange.parser.headStarted {
                // The head deadline runs from the first byte of the head, the idle one from the end of the last answer.
                if !exchange.isHeadDeadlineSet { setDeadline(seconds: loop.server.configuration.headSecondsMax) }
                exchange.isHeadDeadlineSet = true
            }
            return consumed
        case .webSocket: return consumed
        default: return bytes.count
        }
    }

    private func handle(_ event: HTTP1RequestEvent, _ exchange: HTTP1Exchange, _ input: UnsafeRawBufferPointer) {
        switch event {
        case .head(let head):
            forgetPoll(exchange)
            exchange.head = head
            exchange.body = []
            exchange.isHeadDeadlineSet = false
            exchange.serial &+= 1
            setDeadline(seconds: loop.server.configuration.bodySecondsMax)
            if case .length(let length) = head.body, length > exchange.bodyBytesMax { return refuse(.bodyTooLong) }
            if head.expectsContinue { write(HTTP1ResponseEncoder.continueResponse) }
        case .body(let range):
            guard loop.mayPark(range.count) else { return refuseHTTP1(.tooManyBodies) }
            loop.parkedBytes += range.count
            exchange.body.append(contentsOf: input[range])
        case .end:
            guard let head = exchange.head else { preconditionFailure("the end of no request") }
            exchange.isAnswering = true
            clearDeadline()
            let body = exchange.body
            loop.parkedBytes -= body.count
            exchange.body = []
            let handle = RequestHandle(
                connection: self, stream: 0, serial: exchange.serial, isHead: head.request.method == .head
            )
            loop.route(head.request, body: body, upgrade: head.upgrade, handle)
        }
    }

    private func refuse(_ fault: HTTP1Fault) {
        let type =
            switch fault.status {
            case 413: "body-too-large"
            case 414: "target-too-long"
            case 431: "head-too-large"
            default: "bad-request"
            }
        refuseHTTP1(Problem(type, "The request is not served", status: fault.status, detail: fault.detail))
    }

    /// Answers what cannot be read on from, and ends the connection.
    private func refuseHTTP1(_ problem: Problem) {
        var out: [UInt8] = []
        let body = problem.json
        HTTP1ResponseEncoder.head(
            dated(problem.response), framing: .length(body.count), keepAlive: false, requestMinorVersion: 1, into: &out
        )
        out.append(contentsOf: body)
        write(out)
        fail("http1", problem.detail)
    }

    private static let allowCredentials = HTTPField.Name("Access-Control-Allow-Credentials")!
    private static let exposeHeaders = HTTPField.Name("Access-Control-Expose-Headers")!

    /// - Parameter stream: of HTTP/2; else 0.
    func dated(_ response: HTTPResponse, stream: Int32 = 0) -> HTTPResponse {
        let other = crossOrigin(stream)
        return Self.dated(
            response, date: loop.dateField, crossOrigin: other, takesCookies: other.map { loop.server.takesCookies(of: $0) } ?? false
        )
    }

    func crossOrigin(_ stream: Int32) -> String? {
        switch state {
        case .http1(let exchange): exchange.crossOrigin
        case .http2(let exchange): exchange.streams[stream]?.crossOrigin
        default: nil
        }
    }

    static func dated(_ response: HTTPResponse, date: String, crossOrigin: String?, takesCookies: Bool) -> HTTPResponse {
        var response = response
        response.headerFields[.date] = date
        response.headerFields[.xContentTypeOptions] = "nosniff"
        if let crossOrigin {
            response.headerFields[.accessControlAllowOrigin] = crossOrigin
            response.headerFields[exposeHeaders] = "Retry-After"
            if takesCookies { response.headerFields[allowCredentials] = "true" }
            response.headerFields[.vary] = (response.headerFields[.vary].map { $0 + ", " } ?? "") + "Origin"
        }
        return response
    }

    /// So long a connection on which a client polls stays open for the next poll when clients are let go.
    private static let leavingPollSeconds = 2

    /// Answers the request that is being answered.
    ///
    /// - Parameter isPoll: the client comes again with its next poll at once: when clients are let go, it is that one which gets a slot.
    func answerHTTP1(_ exchange: HTTP1Exchange, _ response: HTTPResponse, _ body: [UInt8], isHead: Bool, isPoll: Bool = false) {
        guard let head = exchange.head else { preconditionFailure("an answer to no request") }
        let keepAlive = head.keepAlive && (isPoll || !isLeaving)
        var out: [UInt8] = []
        out.reserveCapacity(256 + body.count)
        HTTP1ResponseEncoder.head(
            dated(response), framing: .length(body.count), keepAlive: keepAlive, requestMinorVersion: head.minorVersion, into: &out
        )
        if !isHead { out.append(contentsOf: body) }
        write(out)
        exchange.head = nil
        exchange.isAnswering = false
        guard keepAlive else { return closeWhenDrained() }
        setDeadline(seconds: isLeaving ? Self.leavingPollSeconds : loop.server.configuration.idleSecondsMax)
        loop.afterFanOut { self.resume() }
    }

    func onHTTP1Deadline(_ exchange: HTTP1Exchange) {
        if exchange.head != nil || exchange.parser.headStarted {
            refuseHTTP1(Problem("request-timeout", "Request timeout", status: 408, detail: "the request did not come in time"))
        } else {
            close()
        }
    }

    // MARK: parked polls

    func poll(_ stream: Int32) -> ParkedPoll? {
        switch state {
        case .http1(let exchange): exchange.poll
        case .http2(let exchange): exchange.streams[stream]?.poll
        default: nil
        }
    }

    /// The answer to a poll only waits for the count of unread alerts.
    func beginCounting(_ stream: Int32) {
        switch state {
        case .http1(let exchange): exchange.poll?.isCounting = true
        case .http2(let exchange): exchange.streams[stream]?.poll?.isCounting = true
        default: break
        }
    }

    /// The fan-out, or its deadline, ends a poll.
    func answerPoll(stream: Int32, body: [UInt8]) {
        switch state {
        case .http1(let exchange):
            guard let poll = exchange.poll else { return }
            if let repeated = exchange.repeated, !isLeaving {
                let offset = loop.hub.pause(repeated.subscriber)
                return answerRepeated(exchange, repeated, body, place: 0, session: [], offset: offset)
            }
            exchange.repeated = nil
            exchange.poll = nil
            for id in poll.subscribers { loop.detachLater(id, self) }
            if poll.closes { exchange.head?.keepAlive = false }
            answerHTTP1(exchange, LongPollAnswer.response(waitSeconds: poll.waitSeconds), body, isHead: false, isPoll: true)
        case .http2(let exchange):
            guard let poll = exchange.streams[stream]?.poll else { return }
            for id in poll.subscribers { loop.detachLater(id, self) }
            exchange.streams[stream]?.poll = nil
            respond(stream, exchange, LongPollAnswer.response(waitSeconds: poll.waitSeconds), body)
            if loop.isFanningOut { wantFlush(exchange) } else { flushHTTP2() }
        default: break
        }
    }

    /// The fan-out has something for a poll.
    ///
    /// - Returns: false if it is more than goes into one answer.
    func answerPoll(stream: Int32, _ answer: FramedBatch.LongPoll) -> Bool {
        if case .http1(let exchange) = state, let repeated = exchange.repeated, exchange.poll != nil, !isLeaving {
            guard answer.bytes.count <= repeated.poll.room.bytes else { return false }
            answerRepeated(
                exchange, repeated, answer.bytes, place: answer.place, session: repeated.sessionText, offset: answer.offset
            )
            return true
        }
        guard let poll = poll(stream), answer.bytes.count <= poll.room.bytes else { return false }
        let session = sessionText(poll.session)
        answerPoll(
            stream: stream,
            body: session.isEmpty ? answer.bytes : Array(answer.bytes[..<answer.place]) + session + answer.bytes[answer.place...]
        )
        return true
    }

    func sessionText(_ id: SessionID?) -> [UInt8] {
        var text: [UInt8] = []
        if let id { LongPollAnswer.append(session: id, network: network, to: &text) }
        return text
    }

    func lookAtPoll(_ exchange: HTTP1Exchange) -> UInt32 {
        guard let poll = exchange.poll else { return .max }
        guard loop.tick >= poll.dueTick else { return poll.dueTick }
        return loop.endPoll(poll, self, 0) ?? .max
    }
}
