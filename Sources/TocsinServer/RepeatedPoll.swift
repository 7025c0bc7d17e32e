import Glibc
import HTTP1Codec
import NotificationCore
import Transports

/// The poll of a client that asks again on the same HTTP/1.1 connection with the same words, but for the position.
///
///     request ──the same, from where the answer before it ended──> parked again: its subscriber has stayed in the hub, stopped
///        └────anything else──> read, routed and subscribed anew
///
/// So between an answer and the next poll nothing is allocated, and no request is taken apart.
final class RepeatedPoll {
    /// The request without the log number in its position, and where that stood.
    private(set) var text: [UInt8] = []
    private var cut = 0
    /// Its subscriber stays.
    let poll: ParkedPoll
    /// What its answers say of the session; empty: there is none.
    let sessionText: [UInt8]
    /// Where its last answer ended; nil while it is parked, or if the next poll has to be read.
    var offset: UInt64?
    /// Who may do what was looked up when this stood; after a change it is looked up again.
    let accessGeneration: Int

    init(_ poll: ParkedPoll, sessionText: [UInt8], accessGeneration: Int) {
        self.poll = poll
        self.sessionText = sessionText
        self.accessGeneration = accessGeneration
    }

    var subscriber: SubscriberID { poll.subscribers[0] }

    /// Longer requests are read each time: each connection keeps its own.
    static let textBytesMax = 2048
    private static let digitsMax = 20

    /// Keeps the bytes of the request.
    ///
    /// - Returns: whether its position stands in them as `after=EPOCH.NUMBER`, and nowhere else.
    func remember(_ bytes: UnsafeRawBufferPointer, epoch: LogEpoch) -> Bool {
        guard bytes.count <= Self.textBytesMax, let lineEnd = bytes.firstIndex(of: UInt8(ascii: "\r")) else { return false }
        let line = bytes[..<lineEnd]
        let name = Array("after=".utf8)
        let places = line.indices.filter { line[$0...].starts(with: name) }
        let start = Array("after=\(epoch).".utf8)
        guard places.count == 1, line[places[0]...].starts(with: start),
            line[places[0] - 1] == UInt8(ascii: "?") || line[places[0] - 1] == UInt8(ascii: "&")
        else { return false }
        cut = places[0] + start.count
        let rest = line[cut...].drop { Self.isDigit($0) }
        guard rest.startIndex > cut, let next = rest.first, next == UInt8(ascii: "&") || next == UInt8(ascii: " ") else { return false }
        text = Array(bytes[..<cut]) + Array(bytes[rest.startIndex...])
        return true
    }

    /// The log number in a request that is otherwise the same; nil: it is another one.
    func offset(in bytes: UnsafeRawBufferPointer) -> UInt64? {
        let count = bytes.count - text.count
        guard !text.isEmpty, (1...Self.digitsMax).contains(count) else { return nil }
        let isSame = text.withUnsafeBytes { text in
            UnsafeRawBufferPointer(rebasing: bytes[..<cut]).isEqual(to: UnsafeRawBufferPointer(rebasing: text[..<cut]))
                && UnsafeRawBufferPointer(rebasing: bytes[(cut + count)...]).isEqual(to: UnsafeRawBufferPointer(rebasing: text[cut...]))
        }
        guard isSame, count == 1 || bytes[cut] != UInt8(ascii: "0") else { return nil }
        var number: UInt64 = 0
        for byte in bytes[cut..<cut + count] {
            guard Self.isDigit(byte) else { return nil }
            let (product, isTooLarge) = number.multipliedReportingOverflow(by: 10)
            let (sum, isTooLargeNow) = product.addingReportingOverflow(UInt64(byte - UInt8(ascii: "0")))
            if isTooLarge || isTooLargeNow { return nil }
            number = sum
        }
        return number
    }

    private static func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }
}

extension Connection {
    // MARK: the request

    /// Parks the poll again that was answered last, if these bytes are it.
    ///
    /// - Returns: false if they have to be read.
    func repeatPoll(_ exchange: HTTP1Exchange, _ repeated: RepeatedPoll, _ bytes: UnsafeRawBufferPointer) -> Bool {
        if exchange.isAnswering { return false }
        guard let offset = repeated.offset, repeated.offset(in: bytes) == offset, exchange.parser.isBetweenRequests, heldBytes == 0,
            isOpen, pendingBytes == 0, !closesWhenDrained, !isLeaving, loop.hub.isCurrent(repeated.subscriber)
        else { return false }
        let poll = repeated.poll
        if let token = poll.token, loop.isNear(token, waitSeconds: poll.waitSeconds) { return false }
        if repeated.accessGeneration != loop.server.accessGeneration { return false }
        repeated.offset = nil
        if !isOwn { loop.counters.requests += 1 }
        exchange.serial &+= 1
        exchange.isAnswering = true
        exchange.beginPollAgain()
        poll.dueTick = loop.tick + loop.ticks(seconds: poll.waitSeconds) + 1
        exchange.poll = poll
        clearDeadline()
        look(at: poll.dueTick)
        if let session = poll.session { loop.keep(session, poll, self) }
        let id = repeated.subscriber
        loop.setParked(true, id)
        if !loop.hub.restart(id) { loop.readOn(id) }
        return true
    }

    /// Another request has been read, or the connection ends: the subscriber of the poll before it goes.
    func forgetPoll(_ exchange: HTTP1Exchange) {
        guard let repeated = exchange.repeated else { return }
        exchange.repeated = nil
        // A parked one is the poll's.
        if exchange.poll == nil { loop.detachLater(repeated.subscriber, self) }
    }

    /// The bytes of the request that has just been taken: all of them, and nothing else, if `isWhole`.
    func rememberPoll(_ exchange: HTTP1Exchange, _ bytes: UnsafeRawBufferPointer, isWhole: Bool) {
        guard let repeated = exchange.repeated, repeated.text.isEmpty else { return }
        if !isWhole || !repeated.remember(bytes, epoch: loop.epoch) { forgetPoll(exchange) }
    }

    // MARK: the answer

    /// - Parameters:
    ///   - bytes: of an answer to a poll, in which what it says of the session stands at `place`.
    ///   - offset: where it ends; nil if the next poll has to be read.
    func answerRepeated(
        _ exchange: HTTP1Exchange, _ repeated: RepeatedPoll, _ bytes: [UInt8], place: Int, session: [UInt8], offset: UInt64?
    ) {
        let head = loop.pollHead(waitSeconds: repeated.poll.waitSeconds, crossOrigin: exchange.crossOrigin)
        let length = bytes.count + session.count
        if head.count + length + 32 <= loop.answerMemory.count {
            var end = 0
            let memory = loop.answerMemory
            func add(_ part: ArraySlice<UInt8>) {
                part.withUnsafeBytes { UnsafeMutableRawBufferPointer(rebasing: memory[end...]).copyMemory(from: $0) }
                end += part.count
            }
            add(head[...])
            end += DecimalText.write(length, to: UnsafeMutableRawBufferPointer(rebasing: memory[end...]))
            memory.storeBytes(of: (0x0d0a_0d0a as UInt32).bigEndian, toByteOffset: end, as: UInt32.self)
            end += 4
            add(bytes[..<place])
            add(session[...])
            add(bytes[place...])
            write(UnsafeRawBufferPointer(rebasing: memory[..<end]))
        } else {
            write(head + Array("\(length)\r\n\r\n".utf8) + bytes[..<place] + session + bytes[place...])
        }
        exchange.poll = nil
        exchange.head = nil
        exchange.isAnswering = false
        setDeadline(seconds: loop.server.configuration.idleSecondsMax)
        if let offset {
            repeated.offset = offset
            loop.setParked(false, repeated.subscriber)
        } else {
            exchange.repeated = nil
            loop.detachLater(repeated.subscriber, self)
        }
        if heldBytes > 0 || isInputClosed { loop.afterFanOut { self.resume() } }
    }
}

extension ServerLoop {
    /// A subscriber of polls waits, or stays for the next poll.
    func setParked(_ isParked: Bool, _ id: SubscriberID) {
        outlets.places[Int(id.index)].kind = isParked ? .longPoll : .none
        if outlets.places[Int(id.index)].isOwn { return }
        counters.subscribers[LoopCounters.index(.longPoll)] += isParked ? 1 : -1
    }

    /// The head of an answer to a poll, up to the length. The last one is kept, as the next is likely to be the same.
    func pollHead(waitSeconds: Int, crossOrigin: String?) -> [UInt8] {
        if lastPollHead.waitSeconds == waitSeconds, lastPollHead.date == dateField, lastPollHead.crossOrigin == crossOrigin {
            return lastPollHead.bytes
        }
        var bytes: [UInt8] = []
        HTTP1ResponseEncoder.head(
            Connection.dated(
                LongPollAnswer.response(waitSeconds: waitSeconds), date: dateField, crossOrigin: crossOrigin,
                takesCookies: crossOrigin.map { server.takesCookies(of: $0) } ?? false
            ),
            framing: .length(0), keepAlive: true, requestMinorVersion: 1, into: &bytes
        )
        // The length and two ends of lines.
        bytes.removeLast(5)
        lastPollHead = PollHead(waitSeconds: waitSeconds, date: dateField, crossOrigin: crossOrigin, bytes: bytes)
        return bytes
    }

    struct PollHead {
        var waitSeconds = -1
        var date = ""
        var crossOrigin: String?
        var bytes: [UInt8] = []
    }
}

enum DecimalText {
    /// - Returns: how many digits there are.
    static func write(_ number: Int, to memory: UnsafeMutableRawBufferPointer) -> Int {
        var count = 1
        var rest = number / 10
        while rest > 0 {
            count += 1
            rest /= 10
        }
        rest = number
        for at in (0..<count).reversed() {
            memory[at] = UInt8(ascii: "0") + UInt8(rest % 10)
            rest /= 10
        }
        return count
    }
}

extension UnsafeRawBufferPointer {
    fileprivate func isEqual(to other: UnsafeRawBufferPointer) -> Bool {
        count == other.count && (count == 0 || memcmp(baseAddress!, other.baseAddress!, count) == 0)
    }
}
