package import NotificationCore
package import NotificationStore
package import Webhooks

// What the processes of one server say to each other, over a pair of sockets between the main process, which has the log, and each
// worker, which serves clients. Both ends are the same program; a server that takes another one over speaks it with that one, too, if both
// have the same `LinkFrame.formNumber`. A worker may be killed in the midst of a write, so nothing is taken for granted of what comes.
//
//     frame       4 bytes  length of what follows, little-endian, 1 to `bytesMax`
//                 1 byte   kind
//                 fields; numbers are varints, texts a length and bytes (`ByteCoding.swift`)
//
//     main process                                       worker
//       welcome, channels …                        ──>     what a loop has to know of the log as it is now
//                                                  <──     ready (or failed)
//       batch … : every commit since then          ──>
//                                                  <──     append, acknowledge, refusals
//       appended, acknowledged                     ──>     after the batch that has it
//       status: once a second                      ──>
//       ticketKeys, reload, drain                  ──>
//       question, reply: from another worker       <─>     to another worker
//       presence                                   <─>     `PresenceMessage`

/// One thing that is said on the link between the main process and a worker.
package enum LinkFrame: Sendable {
    /// The first word to a worker. So many channels follow.
    case welcome(Welcome)
    case channels([LogPreload.Channel])
    /// - Parameter takenNanoseconds: of `LogBatch`.
    case batch([Notification], takenNanoseconds: Int64)
    case appended([Appended])
    case acknowledged(number: UInt64, AcknowledgeOutcome)
    case status(Status)
    /// Random bytes of each key, the newest first.
    case ticketKeys([[UInt8]])
    /// Certificates are to be read again.
    case reload
    /// The server goes down.
    case drain
    case ready
    case failed(String)
    case append(number: UInt64, AppendRequest)
    case acknowledge(number: UInt64, Acknowledge)
    /// Connections that a worker has refused since the last time.
    case refusals([RefusalBook.Report])
    /// To a worker: `process` asks. From a worker: `process` is asked. The number 0: no reply is wanted.
    case question(process: Int, number: UInt64, [UInt8])
    /// nil: that process is not there.
    case reply(process: Int, number: UInt64, [UInt8]?)
    /// A `PresenceMessage`.
    case presence([UInt8])

    package struct Welcome: Sendable, Equatable {
        package var process: Int
        package var port: Int
        package var tlsPort: Int?
        /// The log's file.
        package var path: String
        /// The folder that goes with the server, if the log is to be forgotten then.
        package var folder: String?
        package var epoch: LogEpoch
        package var pastEpochs: [LogEpoch: UInt64]
        package var head: UInt64
        package var channelCount: Int
    }

    package struct Status: Sendable, Equatable {
        package var fault: StoreFault?
        package var statistics = StoreStatistics()
        /// Workers that run.
        package var processes = 0
        /// Workers that were started because one had ended.
        package var restarts = 0
        /// What the main process has to say of webhooks, for `/metrics`.
        package var webhooks = ""
    }

    package struct Appended: Sendable, Equatable {
        package var number: UInt64
        package var outcomes: [AppendOutcome]
    }

    package struct Acknowledge: Sendable, Equatable {
        package var user: FieldText
        package var channel: ChannelName
        package var ranges: [ClosedRange<UInt64>]
        package var isDismissed: Bool
    }

    /// The form of all frames, and of what neighbours say in them. One more whenever any of it changes: a test notices.
    package static let formNumber = 2

    /// Enough for the largest publish request (16 MiB) with every character escaped in JSON where it was not before.
    package static let bytesMax = 128 << 20

    fileprivate enum Kind: UInt8 {
        case refusals = 64
        case welcome = 1
        case channels, batch, appended, acknowledged, status, ticketKeys, reload, drain, ready, failed, append, acknowledge, question, reply
        case presence
    }
}

// MARK: - Out

extension LinkFrame {
    /// The whole frame.
    package var bytes: [UInt8] {
        var out: [UInt8] = []
        append(to: &out)
        return out
    }

    package func append(to out: inout [UInt8]) {
        let start = out.count
        out.append(contentsOf: [0, 0, 0, 0])
        appendBody(to: &out)
        let length = out.count - start - 4
        precondition(length <= Self.bytesMax, "a frame of \(length) bytes")
        out.withUnsafeMutableBytes { $0.storeBytes(of: UInt32(length).littleEndian, toByteOffset: start, as: UInt32.self) }
    }

    private func appendBody(to out: inout [UInt8]) {
        out.append(kind.rawValue)
        switch self {
        case .welcome(let welcome): welcome.append(to: &out)
        case .channels(let channels):
            out.appendNumber(channels.count)
            for channel in channels { out.append(channel) }
        case .batch(let notifications, let taken):
            out.appendZigzag(taken)
            out.appendNumber(notifications.count)
            for notification in notifications { out.append(notification) }
        case .appended(let answers):
            out.appendNumber(answers.count)
            for answer in answers {
                out.appendVarint(answer.number)
                out.appendNumber(answer.outcomes.count)
                for outcome in answer.outcomes { out.append(outcome) }
            }
        case .acknowledged(let number, let outcome):
            out.appendVarint(number)
            out.append(outcome.rawValue)
        case .status(let status): status.append(to: &out)
        case .ticketKeys(let keys):
            out.appendNumber(keys.count)
            for key in keys { out.appendSlice(key) }
        case .reload, .drain, .ready: break
        case .failed(let text): out.appendLengthAndBytes(of: text)
        case .append(let number, let request):
            out.appendVarint(number)
            out.append(request)
        case .acknowledge(let number, let acknowledge):
            out.appendVarint(number)
            out.appendLengthAndBytes(of: acknowledge.user.string)
            out.appendLengthAndBytes(of: acknowledge.channel.string)
            out.append(acknowledge.isDismissed ? 1 : 0)
            out.appendNumber(acknowledge.ranges.count)
            for range in acknowledge.ranges {
                out.appendVarint(range.lowerBound)
                out.appendVarint(range.upperBound)
            }
        case .refusals(let reports):
            out.appendNumber(reports.count)
            for report in reports { out.append(report) }
        case .question(let process, let number, let body):
            out.appendNumber(process)
            out.appendVarint(number)
            out.appendSlice(body)
        case .reply(let process, let number, let body):
            out.appendNumber(process)
            out.appendVarint(number)
            out.append(body == nil ? 0 : 1)
            if let body { out.appendSlice(body) }
        case .presence(let body): out.appendSlice(body)
        }
    }

    private var kind: Kind {
        switch self {
        case .refusals: .refusals
        case .welcome: .welcome
        case .channels: .channels
        case .batch: .batch
        case .appended: .appended
        case .acknowledged: .acknowledged
        case .status: .status
        case .ticketKeys: .ticketKeys
        case .reload: .reload
        case .drain: .drain
        case .ready: .ready
        case .failed: .failed
        case .append: .append
        case .acknowledge: .acknowledge
        case .question: .question
        case .reply: .reply
        case .presence: .presence
        }
    }
}

extension LinkFrame.Welcome {
    fileprivate func append(to out: inout [UInt8]) {
        out.appendNumber(process)
        out.appendNumber(port)
        out.appendNumber(tlsPort.map { $0 + 1 } ?? 0)
        out.appendLengthAndBytes(of: path)
        out.appendOptional(folder)
        out.appendVarint(epoch.bits)
        out.appendNumber(pastEpochs.count)
        for (epoch, offset) in pastEpochs.sorted(by: { $0.value < $1.value }) {
            out.appendVarint(epoch.bits)
            out.appendVarint(offset)
        }
        out.appendVarint(head)
        out.appendNumber(channelCount)
    }

    fileprivate init(_ reader: inout ByteReader) throws(ByteReader.Damage) {
        process = try reader.count(upTo: 255)
        port = try reader.count(upTo: 65_535)
        let tls = try reader.count(upTo: 65_536)
        tlsPort = tls == 0 ? nil : tls - 1
        path = try reader.text()
        folder = try reader.optionalText()
        epoch = LogEpoch(random: try reader.varint())
        pastEpochs = [:]
        for _ in 0..<(try reader.count(upTo: 10_000)) {
            let past = LogEpoch(random: try reader.varint())
            pastEpochs[past] = try reader.varint()
        }
        head = try reader.varint()
        channelCount = try reader.count(upTo: Int(Int32.max))
    }
}

extension LinkFrame.Status {
    fileprivate func append(to out: inout [UInt8]) {
        if let fault { out.append(fault) } else { out.append(0) }
        for number in [
            statistics.commits, statistics.entries, statistics.fileBytes, statistics.walBytes, statistics.pagesCached,
            statistics.cachedBytes, statistics.idempotencyKeys, statistics.idempotencyBytes, statistics.idempotencyForgotten, processes,
            restarts,
        ] { out.appendNumber(number) }
        out.appendLengthAndBytes(of: webhooks)
    }

    fileprivate init(_ reader: inout ByteReader) throws(ByteReader.Damage) {
        fault = try reader.storeFault()
        statistics.commits = try reader.count(upTo: .max)
        statistics.entries = try reader.count(upTo: .max)
        statistics.fileBytes = try reader.count(upTo: .max)
        statistics.walBytes = try reader.count(upTo: .max)
        statistics.pagesCached = try reader.count(upTo: .max)
        statistics.cachedBytes = try reader.count(upTo: .max)
        statistics.idempotencyKeys = try reader.count(upTo: .max)
        statistics.idempotencyBytes = try reader.count(upTo: .max)
        statistics.idempotencyForgotten = try reader.count(upTo: .max)
        processes = try reader.count(upTo: .max)
        restarts = try reader.count(upTo: .max)
        webhooks = try reader.text()
    }
}

// MARK: - In

extension LinkFrame {
    /// - Parameters:
    ///   - body: a frame without its length.
    ///   - names: of the channels that are known, by number; notifications of a new one bring its name along.
    package init(
        _ body: UnsafeRawBufferPointer, name: (ChannelID) -> ChannelName?
    ) throws(ByteReader.Damage) {
        var reader = ByteReader(body)
        guard let kind = Kind(rawValue: try reader.byte()) else { throw ByteReader.Damage() }
        switch kind {
        case .welcome: self = .welcome(try Welcome(&reader))
        case .channels:
            var channels: [LogPreload.Channel] = []
            for _ in 0..<(try reader.count(upTo: body.count)) { channels.append(try reader.channel()) }
            self = .channels(channels)
        case .batch:
            let taken = try reader.zigzag()
            self = .batch(try reader.notifications(upTo: body.count, name: name), takenNanoseconds: taken)
        case .appended:
            var answers: [Appended] = []
            for _ in 0..<(try reader.count(upTo: body.count)) {
                let number = try reader.varint()
                var outcomes: [AppendOutcome] = []
                for _ in 0..<(try reader.count(upTo: body.count)) { outcomes.append(try reader.outcome()) }
                answers.append(Appended(number: number, outcomes: outcomes))
            }
            self = .appended(answers)
        case .acknowledged:
            let number = try reader.varint()
            guard let outcome = AcknowledgeOutcome(rawValue: try reader.byte()) else { throw ByteReader.Damage() }
            self = .acknowledged(number: number, outcome)
        case .status: self = .status(try Status(&reader))
        case .ticketKeys:
            var keys: [[UInt8]] = []
            for _ in 0..<(try reader.count(upTo: 16)) { keys.append([UInt8](try reader.slice())) }
            self = .ticketKeys(keys)
        case .reload: self = .reload
        case .drain: self = .drain
        case .ready: self = .ready
        case .failed: self = .failed(try reader.text())
        case .append:
            let number = try reader.varint()
            self = .append(number: number, try reader.appendRequest())
        case .acknowledge:
            let number = try reader.varint()
            guard let user = FieldText(try reader.text()), let channel = ChannelName(try reader.text()) else { throw ByteReader.Damage() }
            let isDismissed = try reader.byte() == 1
            var ranges: [ClosedRange<UInt64>] = []
            for _ in 0..<(try reader.count(upTo: body.count)) {
                let (lower, upper) = (try reader.varint(), try reader.varint())
                guard lower <= upper else { throw ByteReader.Damage() }
                ranges.append(lower...upper)
            }
            self = .acknowledge(number: number, Acknowledge(user: user, channel: channel, ranges: ranges, isDismissed: isDismissed))
        case .refusals:
            var reports: [RefusalBook.Report] = []
            for _ in 0..<(try reader.count(upTo: body.count)) { reports.append(try reader.refusal()) }
            self = .refusals(reports)
        case .question:
            let process = try reader.count(upTo: 255)
            self = .question(process: process, number: try reader.varint(), [UInt8](try reader.slice()))
        case .reply:
            let process = try reader.count(upTo: 255)
            let number = try reader.varint()
            self = .reply(process: process, number: number, try reader.byte() == 0 ? nil : [UInt8](try reader.slice()))
        case .presence: self = .presence([UInt8](try reader.slice()))
        }
        guard reader.isAtEnd else { throw ByteReader.Damage() }
    }
}

/// A frame that the other process cannot have meant so.
package typealias LinkDamage = ByteReader.Damage

/// Takes a link's bytes apart.
package struct LinkFrameReader {
    private var bytes: [UInt8] = []
    private var start = 0

    package init() {}

    /// Bytes that wait for the rest of their frame.
    package var heldBytes: Int { bytes.count - start }

    package mutating func feed(_ more: some Collection<UInt8>) {
        if start > 64 << 10, start * 2 > bytes.count {
            bytes.removeFirst(start)
            start = 0
        }
        bytes.append(contentsOf: more)
    }

    /// The next frame; nil: more bytes are wanted.
    package mutating func next(name: (ChannelID) -> ChannelName?) throws(LinkDamage) -> LinkFrame? {
        guard bytes.count - start >= 4 else { return nil }
        let length = (0..<4).reduce(0) { $0 | Int(bytes[start + $1]) << (8 * $1) }
        guard length >= 1, length <= LinkFrame.bytesMax else { throw ByteReader.Damage() }
        guard bytes.count - start - 4 >= length else { return nil }
        let from = start + 4
        start = from + length
        let result: Result<LinkFrame, ByteReader.Damage> = bytes.withUnsafeBytes { all in
            do throws(ByteReader.Damage) {
                return .success(try LinkFrame(UnsafeRawBufferPointer(rebasing: all[from..<from + length]), name: name))
            } catch {
                return .failure(error)
            }
        }
        if start == bytes.count {
            bytes.removeAll(keepingCapacity: bytes.count < 1 << 20)
            start = 0
        }
        return try result.get()
    }
}
