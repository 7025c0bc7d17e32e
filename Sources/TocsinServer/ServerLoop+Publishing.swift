import HTTPTypes
import Identity
import JSONCodec
import NIOCore
import NotificationCore
import Transports

extension ServerLoop {
    // MARK: publish

    func publish(
        _ request: HTTPRequest, _ channel: ChannelName, _ items: QueryItems, _ body: [UInt8], _ handle: RequestHandle
    ) throws(Problem) {
        try spend(.publishes, 1, handle)
        try whenPermitted(.publish, [ChannelPattern(channel)], handle, bytes: body.count) { loop throws(Problem) in
            try loop.publishPermitted(request, channel, items, body, handle)
        }
    }

    private func publishPermitted(
        _ request: HTTPRequest, _ channel: ChannelName, _ items: QueryItems, _ body: [UInt8], _ handle: RequestHandle
    ) throws(Problem) {
        var fields = PublicationReader.Fields()
        for (name, value) in items.pairs {
            guard name != "traceparent", try fields.take(name, value) else {
                throw .badParameter(name, "is not known here; known are event, key, priority, ttl, replaces, change")
            }
        }
        fields.trace = Self.trace(request)
        let key = try idempotencyKey(request)
        let publisher = Self.publisher(handle)
        try parse(body, handle) { [fields, payloadBytesMax] body throws(Problem) in
            var fields = fields
            let payload = try PublishBody.payload(request, body)
            if fields.event == nil { fields.event = payload.event }
            guard payload.data.count <= payloadBytesMax else { throw Self.payloadTooLarge(payload.data.count, payloadBytesMax) }
            let publication = PublicationReader.publication(channel, data: payload.data, isBase64: payload.isBase64, fields)
            var append = AppendRequest([publication], idempotencyKey: key)
            if key != nil { (append.fingerprint, append.publisher) = (Fingerprint([publication]).value, publisher) }
            return append
        } then: { loop, append in
            let bound = loop.bind((loop, handle))
            loop.server.log.append(append, from: loop) { outcomes in
                let (loop, handle) = bound.value
                loop.answerPublish(handle, outcomes[0])
            }
        }
    }

    private var payloadBytesMax: Int { server.configuration.payloadBytesMax }

    private func answerPublish(_ handle: RequestHandle, _ outcome: AppendOutcome) {
        switch outcome {
        case .appended(let receipt):
            counters.published += 1
            answer(handle, status: .created, "application/json", PublishAnswer.receipt(receipt, epoch) + [UInt8(ascii: "\n")])
        case .repeated(let receipt):
            answer(handle, status: .ok, "application/json", PublishAnswer.receipt(receipt, epoch) + [UInt8(ascii: "\n")])
        case .refused(let refusal):
            answer(handle, PublishRefusal.problem(refusal))
        }
    }

    func publishBatch(_ request: HTTPRequest, _ body: [UInt8], _ handle: RequestHandle) throws(Problem) {
        let isNDJSON: Bool
        switch PublishBody.mediaType(request) {
        case "application/json", "": isNDJSON = false
        case "application/x-ndjson", "application/ndjson", "application/jsonl": isNDJSON = true
        case let other:
            throw PublishBody.unsupported(other, "application/json (an array) or application/x-ndjson")
        }
        let key = try idempotencyKey(request)
        let (gate, identity) = (server.gate, handle.identity)
        if gate != nil, identity == nil {
            throw .unauthorized("token-missing", "A token is wanted", "to publish, send Authorization: Bearer …")
        }
        let trace = Self.trace(request)
        try parse(body, handle) { [payloadBytesMax] body throws(Problem) in
            var batch = try PublicationBatch(body, isNDJSON: isNDJSON)
            batch.refuse { _, publication in
                do throws(Problem) {
                    try gate?.permit(.publish, ChannelPattern(publication.channel), identity)
                } catch {
                    return error
                }
                let bytes = publication.data.count
                return bytes > payloadBytesMax ? Self.payloadTooLarge(bytes, payloadBytesMax) : nil
            }
            if let trace { batch.setTrace(trace) }
            return (batch: batch, fingerprint: key == nil ? 0 : Fingerprint(batch.publications).value)
        } then: { loop, parsed throws(Problem) in
            try loop.spend(.publishes, parsed.batch.publications.count, handle)
            try loop.askHook(parsed.batch, handle) { loop, batch in
                for (_, problem) in batch.problems { loop.server.note(problem) }
                let answer = BatchAnswer(count: batch.count, problems: batch.problems)
                if batch.publications.isEmpty { return loop.answerBatch(handle, answer, []) }
                let bound = loop.bind((loop, handle))
                var append = AppendRequest(batch.publications, idempotencyKey: key, fingerprint: parsed.fingerprint)
                append.publisher = Self.publisher(handle)
                loop.server.log.append(append, from: loop) { outcomes in
                    let (loop, handle) = bound.value
                    loop.answerBatch(handle, answer, outcomes)
                }
            }
        }
    }

    /// What the hook says of each item of a batch.
    private func askHook(
        _ batch: PublicationBatch, _ handle: RequestHandle, then: @escaping (ServerLoop, PublicationBatch) -> Void
    ) throws(Problem) {
        guard let hook = server.hook else { return then(self, batch) }
        let identity = handle.identity
        let questions = batch.publications.map { hook.questions(.publish, [ChannelPattern($0.channel)], identity) }
        let all = Array(Set(questions.joined()))
        if all.isEmpty { return then(self, batch) }
        let bytes = batch.publications.reduce(0) { $0 + $1.data.count }
        try park(bytes)
        let (bound, eventLoop) = (bind((self, handle, then)), eventLoop)
        hook.ask(all) { answers in
            eventLoop.execute {
                let (loop, handle, then) = bound.value
                loop.parkedBytes -= bytes
                guard loop.isPending(handle) else { return }
                do throws(Problem) {
                    try loop.checkStillGood(handle)
                    then(loop, try loop.decided(batch, questions, answers))
                } catch {
                    loop.answer(handle, error)
                }
            }
        }
    }

    /// - Throws: if something is not decided: nothing of the batch is stored then, so that all of it can be tried again.
    private func decided(
        _ batch: PublicationBatch, _ questions: [[Hook.Question]], _ answers: Hook.Answers
    ) throws(Problem) -> PublicationBatch {
        guard let hook = server.hook else { return batch }
        var problems: [Int: Problem] = [:]
        for (place, questions) in questions.enumerated() {
            do throws(Problem) {
                try hook.check(questions, answers)
            } catch {
                if error.status == 503 { throw error }
                problems[place] = error
            }
        }
        var decided = batch
        decided.refuse { place, _ in problems[place] }
        return decided
    }

    /// What the answer to a batch needs beside the outcomes of the publications.
    private struct BatchAnswer {
        var count: Int
        var problems: [(index: Int, problem: Problem)]
    }

    private func answerBatch(_ handle: RequestHandle, _ batch: BatchAnswer, _ outcomes: [AppendOutcome]) {
        var out = Array(#"{"results":["#.utf8)
        out.reserveCapacity(128 * batch.count)
        var problems = batch.problems[...]
        var next = 0
        var appended = 0
        var repeated = 0
        for index in 0..<batch.count {
            if index > 0 { out.append(UInt8(ascii: ",")) }
            let problem: Problem
            if problems.first?.index == index {
                problem = problems.removeFirst().problem
            } else {
                defer { next += 1 }
                switch outcomes[next] {
                case .appended(let receipt):
                    appended += 1
                    PublishAnswer.append(receipt, epoch, to: &out)
                    continue
                case .repeated(let receipt):
                    repeated += 1
                    PublishAnswer.append(receipt, epoch, to: &out)
                    continue
                case .refused(let refusal):
                    problem = PublishRefusal.problem(refusal)
                }
            }
            out.append(contentsOf: #"{"error":"#.utf8)
            problem.appendObject(to: &out)
            out.append(UInt8(ascii: "}"))
        }
        out.append(contentsOf: "]}\n".utf8)
        counters.published += appended
        if appended == 0, repeated == 0, outcomes.first == .refused(.idempotencyKeyReused) {
            return answer(handle, PublishRefusal.problem(.idempotencyKeyReused))
        }
        if !outcomes.isEmpty, outcomes.allSatisfy({ $0 == .refused(.storeFailed) }) {
            return answer(handle, PublishRefusal.problem(.storeFailed))
        }
        let status: HTTPResponse.Status = appended > 0 || batch.count == 0 ? .created : repeated > 0 ? .ok : .badRequest
        answer(handle, status: status, "application/json", out)
    }

    private static func payloadTooLarge(_ count: Int, _ max: Int) -> Problem {
        Problem(
            "body-too-large", "Payload too large", status: 413,
            detail: "the payload has \(count) bytes, \(max) are allowed", rule: "bytes of a payload",
            configurationKey: "payload_bytes_max"
        )
    }

    /// One that is not well-formed is as good as none (W3C Trace Context, section 3.2.2).
    private static func trace(_ request: HTTPRequest) -> TraceParent? {
        let values = request.headerFields[values: .traceparent]
        return values.count == 1 ? TraceParent(values[0]) : nil
    }

    private func idempotencyKey(_ request: HTTPRequest) throws(Problem) -> FieldText? {
        let texts = request.headerFields[values: .idempotencyKey]
        guard texts.count < 2 else { throw .badParameter("Idempotency-Key", "is there \(texts.count) times: which one counts?") }
        guard let text = texts.first else { return nil }
        guard let key = FieldText(text) else { throw .badParameter("Idempotency-Key", "1 to 255 bytes without control characters") }
        return key
    }

    /// Whose idempotency keys these are. What one has published under a key is nothing to another.
    private static func publisher(_ handle: RequestHandle) -> String {
        switch handle.identity?.principal {
        case .user(let name): "user \(name)"
        case .key(let name): "key \(name)"
        case nil: ""
        }
    }
}

/// What a publish is answered with.
enum PublishAnswer {
    static func receipt(_ receipt: AppendReceipt, _ epoch: LogEpoch) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(128)
        append(receipt, epoch, to: &out)
        return out
    }

    static func append(_ receipt: AppendReceipt, _ epoch: LogEpoch, to out: inout [UInt8]) {
        out.append(contentsOf: #"{"channel":""#.utf8)
        out.append(contentsOf: receipt.channel.string.utf8)
        out.append(contentsOf: #"","sequence":"#.utf8)
        appendDecimal(receipt.sequence, to: &out)
        out.append(contentsOf: #","position":""#.utf8)
        Position.append(epoch: epoch, offset: receipt.offset, to: &out)
        out.append(contentsOf: "\"}".utf8)
    }
}
