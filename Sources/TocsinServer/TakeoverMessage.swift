import NotificationCore
import NotificationStore

// What two servers say to each other before one takes the other over, on the Unix socket beside the log.
//
//     message     4 bytes  length of what follows, little-endian, 1 to `bytesMax`
//                 1 byte   kind
//                 fields; numbers are varints, texts a length and bytes (`ByteCoding.swift`)
//
//     the new server                      the one that runs
//       hello                       ──>     who it is, and what it understands
//                                   <──     hello, or refused and why
//       take                        ──>     it has stopped writing when it answers
//                                   <──     given, and with it the descriptors
//     from here on `LinkFrame`:
//       welcome                     ──>     the log is open: what was held comes
//       batch, appended …           <─>     append, acknowledge, question …
//       drain                       ──>     it listens: go
//
// `hello` and `refused` never change their form, so that any two versions can tell each other why they do not fit.

/// One thing that is said before a link.
enum TakeoverMessage: Equatable {
    case hello(Hello)
    case refused(String)
    case take
    case given(Given)

    struct Hello: Equatable {
        /// Of `LinkFrame`.
        var form: Int
        /// Of the log's tables.
        var schema: Int
        /// For the log of the other one.
        var version: String
        /// Over which the clients of the server that runs are to come.
        var drainMilliseconds: Int

        static func own(version: String, drainMilliseconds: Int) -> Hello {
            Hello(
                form: LinkFrame.formNumber, schema: NotificationStore.schemaVersion, version: version, drainMilliseconds: drainMilliseconds
            )
        }

        /// Why these two cannot; nil: they can.
        func reasonAgainst(_ other: Hello) -> String? {
            if form != other.form {
                return "it speaks form \(form) of the link between processes (version \(version)), the other server form \(other.form) "
                    + "(version \(other.version))"
            }
            if schema != other.schema {
                return "it has schema \(schema) of the log (version \(version)), the other server schema \(other.schema) "
                    + "(version \(other.version))"
            }
            return nil
        }
    }

    struct Given: Equatable {
        /// The numbers that its sessions and tickets have begin there.
        var place: Int
        var epoch: LogEpoch
        var head: UInt64
        var channelCount: Int
        /// In the order of their descriptors, which come behind those of the lock and of the shared number.
        var listeners: [Listener]
    }

    struct Listener: Equatable {
        /// As it was configured.
        var host: String
        /// The one that it has.
        var port: Int
        var isTLS: Bool
    }

    static let bytesMax = 64 << 10
    private static let magic = "tocsin takeover"
    /// A server listens to a plain port and to one of TLS.
    static let listenersMax = 8

    private enum Kind: UInt8 {
        case hello = 1
        case refused, take, given
    }

    var bytes: [UInt8] {
        var out: [UInt8] = [0, 0, 0, 0]
        switch self {
        case .hello(let hello):
            out.append(Kind.hello.rawValue)
            out.appendLengthAndBytes(of: Self.magic)
            out.appendNumber(hello.form)
            out.appendNumber(hello.schema)
            out.appendLengthAndBytes(of: hello.version)
            out.appendNumber(hello.drainMilliseconds)
        case .refused(let why):
            out.append(Kind.refused.rawValue)
            out.appendLengthAndBytes(of: why)
        case .take: out.append(Kind.take.rawValue)
        case .given(let given):
            out.append(Kind.given.rawValue)
            out.appendNumber(given.place)
            out.appendVarint(given.epoch.bits)
            out.appendVarint(given.head)
            out.appendNumber(given.channelCount)
            out.appendNumber(given.listeners.count)
            for listener in given.listeners {
                out.appendLengthAndBytes(of: listener.host)
                out.appendNumber(listener.port)
                out.append(listener.isTLS ? 1 : 0)
            }
        }
        let length = out.count - 4
        precondition(length <= Self.bytesMax, "a message of \(length) bytes")
        for place in 0..<4 { out[place] = UInt8(truncatingIfNeeded: length >> (8 * place)) }
        return out
    }

    /// - Parameter body: a message without its length.
    init(_ body: [UInt8]) throws(LinkDamage) {
        self = try body.read { reader throws(LinkDamage) in
            guard let kind = Kind(rawValue: try reader.byte()) else { throw LinkDamage() }
            switch kind {
            case .hello:
                guard try reader.text() == Self.magic else { throw LinkDamage() }
                return .hello(
                    Hello(
                        form: try reader.count(upTo: .max), schema: try reader.count(upTo: .max), version: try reader.text(),
                        drainMilliseconds: try reader.count(upTo: 86_400_000)
                    )
                )
            case .refused: return .refused(try reader.text())
            case .take: return .take
            case .given:
                let place = try reader.count(upTo: 1)
                let epoch = LogEpoch(random: try reader.varint())
                let (head, channels) = (try reader.varint(), try reader.count(upTo: Int(Int32.max)))
                var listeners: [Listener] = []
                for _ in 0..<(try reader.count(upTo: Self.listenersMax)) {
                    listeners.append(
                        Listener(host: try reader.text(), port: try reader.count(upTo: 65_535), isTLS: try reader.byte() == 1)
                    )
                }
                return .given(Given(place: place, epoch: epoch, head: head, channelCount: channels, listeners: listeners))
            }
        }
    }
}

/// Takes the bytes of such messages apart.
struct TakeoverMessageReader {
    private var bytes: [UInt8] = []

    mutating func feed(_ more: some Collection<UInt8>) {
        bytes.append(contentsOf: more)
    }

    /// The next message; nil: more bytes are wanted.
    mutating func next() throws(LinkDamage) -> TakeoverMessage? {
        guard bytes.count >= 4 else { return nil }
        let length = (0..<4).reduce(0) { $0 | Int(bytes[$1]) << (8 * $1) }
        guard length >= 1, length <= TakeoverMessage.bytesMax else { throw LinkDamage() }
        guard bytes.count >= 4 + length else { return nil }
        let body = Array(bytes[4..<4 + length])
        bytes.removeFirst(4 + length)
        return try TakeoverMessage(body)
    }
}
