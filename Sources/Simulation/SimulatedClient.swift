import EventStreamCodec
import JSONCodec
import NotificationCore
import WebSocketCodec

/// A subscriber: it keeps the position of the last message that it has dealt with, and comes back with it on any transport.
final class SimulatedClient {
    struct Wanted {
        var transport: SimulatedConnection.Transport
        var patterns: [ChannelPattern]
        var start: StartPoint?
        var user: FieldText?
        var rateMilliseconds: Int64?
        var isDigest = false
        var waitMilliseconds: Int64 = 0
    }

    let name: String
    let run: Run
    let account: Account
    private let patterns: [ChannelPattern]
    private let user: FieldText?
    private let rateMilliseconds: Int64?
    private let isDigest: Bool
    private let start: StartPoint?
    let isSlow: Bool
    private(set) var position = ""
    private(set) var connection: SimulatedConnection?
    private var webSocket = WebSocketDecoder(role: .client)
    private var eventStream = EventStreamDecoder(bytesMax: 0)
    private var chunks = ChunkReader()
    private var body: [UInt8] = []

    init(number: Int, run: Run) {
        self.run = run
        name = "client \(number)"
        let wildcards = [
            ["alerts.>"], ["dashboards.*"], ["scores.>", "plain.p"], ["*.x", "alerts.a"], [">"], ["plain.*", "dashboards.x"],
        ]
        let exact = [["alerts.a"], ["dashboards.x"], ["scores.m"], ["plain.p"], ["dashboards.y", "scores.n"], ["alerts.b", "plain.q"]]
        patterns = (run.chance.happens(50) ? run.chance.one(of: wildcards) : run.chance.one(of: exact)).map { ChannelPattern($0)! }
        user = run.chance.happens(35) ? FieldText(run.chance.one(of: Run.users)) : nil
        rateMilliseconds = run.chance.happens(25) ? run.chance.milliseconds(50...700) : nil
        isDigest = run.chance.happens(25)
        start = run.chance.one(of: [nil, nil, .latest, .earliest])
        isSlow = run.chance.happens(30)
        account = Account(name: name, patterns: patterns, user: user?.string)
    }

    var words: String {
        var words = "\(name): \(patterns.map(\.string).joined(separator: " ")) from \(start.map { "\($0)" } ?? "nothing")"
        if let user { words += " user \(user)" }
        if let rateMilliseconds { words += " every \(rateMilliseconds) ms" }
        if isDigest { words += " digest" }
        return words + (isSlow ? " slow" : "")
    }

    func connect() {
        guard connection == nil else { return }
        guard run.server.isUp else { return retry() }
        let from = position.isEmpty ? start : StartPoint(position)
        if !position.isEmpty, from == nil { return run.oracle.fail("positions are read back", "\(position) is refused") }
        let wanted = Wanted(
            transport: run.chance.one(of: SimulatedConnection.Transport.allCases), patterns: patterns, start: from, user: user,
            rateMilliseconds: rateMilliseconds, isDigest: isDigest,
            waitMilliseconds: run.chance.milliseconds(300...900) + 2 * (rateMilliseconds ?? 0)
        )
        webSocket = WebSocketDecoder(role: .client, limits: WebSocketLimits(messageBytesMax: 1 << 20))
        eventStream = EventStreamDecoder(bytesMax: 1 << 20)
        chunks = ChunkReader()
        body = []
        let loop = run.chance.one(of: run.server.loops)
        run.note("\(name) connects to loop \(loop.number) by \(wanted.transport) after \(position.isEmpty ? "nothing" : position)")
        loop.open(self, wanted) { [self] in connection = $0 }
    }

    private func retry() {
        run.after(run.chance.milliseconds(5...300)) { [unowned self] in connect() }
    }

    /// The connection breaks: a part of what was under way still comes.
    func lose(_ connection: SimulatedConnection) {
        if connection.isCut { return }
        let count = run.chance.number(0...connection.underWay.count)
        let piece = Array(connection.underWay.prefix(count))
        let rest = connection.underWay.count - count
        connection.underWay = []
        if !piece.isEmpty { receive(piece, connection, isWhole: rest == 0) }
        connection.isCut = true
        if self.connection === connection { self.connection = nil }
        run.note("\(name) is cut off, \(rest) bytes are lost; it has \(position.isEmpty ? "nothing" : position)")
        retry()
    }

    /// The server is gone.
    func loseConnection() {
        guard let connection else { return }
        connection.isDetached = true
        lose(connection)
    }

    /// The server notices later.
    func cut() {
        guard let connection else { return }
        let life = run.server.life
        lose(connection)
        run.after(run.chance.happens(50) ? 0 : run.chance.milliseconds(1...400)) { [unowned run] in
            if run.server.life == life { connection.loop.detach(connection) }
        }
    }

    // MARK: bytes

    func receive(_ bytes: [UInt8], _ connection: SimulatedConnection, isWhole: Bool = true) {
        guard self.connection === connection else { return }
        switch connection.transport {
        case .webSocket: receiveFrames(bytes)
        case .eventStream: receiveEvents(bytes)
        case .chunkedEventStream:
            guard let body = chunks.feed(bytes) else { return run.oracle.fail("well-formed bytes", "\(name) got a broken chunk") }
            receiveEvents(body)
        case .longPoll:
            body += bytes
            if connection.isAnswered, connection.underWay.isEmpty, isWhole { receiveAnswer(connection) }
        }
    }

    private func receiveFrames(_ bytes: [UInt8]) {
        var bytes = bytes
        bytes.withUnsafeMutableBytes { buffer in
            var consumed = 0
            do {
                while let event = try webSocket.next(UnsafeMutableRawBufferPointer(rebasing: buffer[consumed...]), consumed: &consumed) {
                    guard case .text(let text) = event, let message = checked(text) else { continue }
                    handle(message)
                    if let token = message["position"]?.string() { position = token }
                }
            } catch {
                run.oracle.fail("well-formed bytes", "\(name): \(error)")
            }
        }
    }

    private func receiveEvents(_ bytes: [UInt8]) {
        do {
            let events = try bytes.withUnsafeBytes { try eventStream.feed($0) }
            for event in events {
                guard let message = checked(Array(event.data.utf8)) else { continue }
                handle(message)
                if !event.lastEventID.isEmpty { position = event.lastEventID }
            }
        } catch {
            run.oracle.fail("well-formed bytes", "\(name): \(error)")
        }
    }

    private func receiveAnswer(_ connection: SimulatedConnection) {
        connection.isCut = true
        self.connection = nil
        guard let answer = checked(body) else { return }
        for message in answer["messages"]?.elementList ?? [] { handle(message) }
        position = answer["position"]?.string() ?? ""
        if run.oracle.violation == nil { run.note("\(name) is answered, and has \(position)") }
        run.after(run.chance.milliseconds(0...30)) { [unowned self] in connect() }
    }

    private func checked(_ text: [UInt8]) -> JSONSlice? {
        var minified: [UInt8] = []
        if (try? text.withUnsafeBytes { try JSONText.minify($0, into: &minified) }) != nil { return JSONSlice(minified[...]) }
        run.oracle.fail("well-formed bytes", "\(name) got what is not JSON: \(String(decoding: text.prefix(200), as: UTF8.self))")
        return nil
    }

    private func handle(_ message: JSONSlice) {
        if run.oracle.violation != nil { return }
        let text = String(decoding: message.bytes.prefix(150), as: UTF8.self)
        if message["type"]?.string() != "unread" { run.note("\(name) got \(text)") }
        run.oracle.received(message, by: account)
    }
}

/// The body of an answer in chunks (RFC 9112, section 7.1).
struct ChunkReader {
    private var rest: [UInt8] = []

    /// - Returns: what became whole; nil if it is no chunk. A chunk that is not whole is kept.
    mutating func feed(_ bytes: [UInt8]) -> [UInt8]? {
        rest += bytes
        var out: [UInt8] = []
        while let end = rest.firstIndex(of: UInt8(ascii: "\r")), rest.count > end + 1 {
            guard let size = Int(String(decoding: rest[..<end], as: UTF8.self), radix: 16), rest[end + 1] == UInt8(ascii: "\n") else {
                return nil
            }
            let start = end + 2
            guard rest.count >= start + size + 2 else { break }
            guard rest[start + size] == UInt8(ascii: "\r") else { return nil }
            out += rest[start..<start + size]
            rest.removeFirst(start + size + 2)
        }
        return out
    }
}
