/// Where a reader of the log stands: everything up to here, on all channels of its subscription, has been seen.
///
/// On the wire it is an opaque token. It names the log's epoch, so that a lost log is noticed, and holds one place per shard of the
/// log (one shard when embedded), so that its form need not change later:
///
///     5f3a9c01b7de.1042                epoch, 12 hexadecimal digits; then the log number of each shard, decimal
///     5f3a9c01b7de.900-1042-7-1000     in the midst of a window, see `Window`
///     5f3a9c01b7de.n                   nothing seen yet
package struct Position: Hashable, Sendable, CustomStringConvertible {
    /// No token is longer: 12 digits and 16 places of at most four numbers each.
    package static let bytesMax = 12 + 16 * 4 * 21

    /// Where in a shard.
    package enum Place: Hashable, Sendable {
        /// Everything up to and with this log number.
        case at(UInt64)
        case within(Window)
        /// Nothing was seen yet: the reader gets of each channel what its kind begins with.
        case beginning
    }

    /// A stretch of the log that is read one channel after the other, so that the messages of a channel that are left out can be
    /// counted: channels before `channel` are read up to `through`, those behind it up to `base`, and it itself up to `offset`.
    package struct Window: Hashable, Sendable {
        /// nil: the reader came without a position, and gets of each channel what its kind begins with.
        package var base: UInt64?
        package var through: UInt64
        package var channel: ChannelID
        package var offset: UInt64

        package init(base: UInt64?, through: UInt64, channel: ChannelID, offset: UInt64) {
            self.base = base
            self.through = through
            self.channel = channel
            self.offset = offset
        }
    }

    package var epoch: LogEpoch
    package var places: [Place]

    /// Of the one shard that there is, or of the first.
    package var offset: UInt64 {
        switch places[0] {
        case .at(let offset): offset
        case .within(let window): window.base ?? 0
        case .beginning: 0
        }
    }

    package init(epoch: LogEpoch, _ place: Place) {
        self.epoch = epoch
        places = [place]
    }

    package init(epoch: LogEpoch, offset: UInt64) {
        self.init(epoch: epoch, .at(offset))
    }

    /// - Returns: nil if `token` was never one of ours.
    package init?(_ token: String) {
        guard token.utf8.count <= Self.bytesMax else { return nil }
        let parts = token.split(separator: ".", omittingEmptySubsequences: false)
        guard (2...17).contains(parts.count), let epoch = LogEpoch(hexadecimal: parts[0]) else { return nil }
        self.epoch = epoch
        places = []
        for part in parts.dropFirst() {
            guard let place = Self.place(part) else { return nil }
            places.append(place)
        }
    }

    private static func place(_ text: Substring) -> Place? {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        if text == "n" { return .beginning }
        if parts.count == 1 { return number(parts[0]).map { .at($0) } }
        guard parts.count == 4, let through = number(parts[1]), let channel = number(parts[2]), let offset = number(parts[3]),
            channel <= UInt64(ChannelID.max), offset <= through
        else { return nil }
        var base: UInt64?
        if parts[0] != "n" {
            guard let known = number(parts[0]), known <= offset else { return nil }
            base = known
        }
        return .within(Window(base: base, through: through, channel: ChannelID(channel), offset: offset))
    }

    private static func number(_ text: Substring) -> UInt64? {
        guard !text.isEmpty, text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
            text == "0" || text.first != "0"
        else { return nil }
        return UInt64(text)
    }

    package var description: String {
        var out: [UInt8] = []
        append(to: &out)
        return String(decoding: out, as: UTF8.self)
    }

    package func append(to out: inout [UInt8]) {
        epoch.append(to: &out)
        for place in places {
            out.append(UInt8(ascii: "."))
            switch place {
            case .at(let offset):
                appendDecimal(offset, to: &out)
            case .beginning:
                out.append(UInt8(ascii: "n"))
            case .within(let window):
                if let base = window.base { appendDecimal(base, to: &out) } else { out.append(UInt8(ascii: "n")) }
                for number in [window.through, UInt64(window.channel), window.offset] {
                    out.append(UInt8(ascii: "-"))
                    appendDecimal(number, to: &out)
                }
            }
        }
    }

    package static func append(epoch: LogEpoch, offset: UInt64, to out: inout [UInt8]) {
        epoch.append(to: &out)
        out.append(UInt8(ascii: "."))
        appendDecimal(offset, to: &out)
    }
}

/// The time of one process with the log: drawn at random when it opens it. What a number stands for in another epoch is known only as
/// far as that epoch got in this log.
package struct LogEpoch: Hashable, Sendable, CustomStringConvertible {
    /// The low 48 bits count.
    package let bits: UInt64

    package init(random: UInt64) {
        bits = random & 0xffff_ffff_ffff
    }

    init?(hexadecimal: Substring) {
        guard hexadecimal.utf8.count == 12,
            hexadecimal.utf8.allSatisfy({
                (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains($0)
            }), let bits = UInt64(hexadecimal, radix: 16)
        else { return nil }
        self.bits = bits
    }

    package var description: String {
        var out: [UInt8] = []
        append(to: &out)
        return String(decoding: out, as: UTF8.self)
    }

    func append(to out: inout [UInt8]) {
        withUnsafeTemporaryAllocation(byteCount: 12, alignment: 1) { digits in
            for place in 0..<12 {
                let digit = UInt8(truncatingIfNeeded: bits >> UInt64(44 - 4 * place)) & 0xf
                digits[place] = digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10
            }
            out.append(contentsOf: digits)
        }
    }
}

/// From where a subscriber wants to read.
package enum StartPoint: Hashable, Sendable {
    /// Only what comes from now on.
    case latest
    /// Everything that the log still has.
    case earliest
    /// Everything after this position.
    case after(Position)

    /// `latest`, `earliest` or a position token; nil if it is none of them.
    package init?(_ text: String) {
        switch text {
        case "latest": self = .latest
        case "earliest": self = .earliest
        default:
            guard let position = Position(text) else { return nil }
            self = .after(position)
        }
    }
}

/// Appends `number` in decimal. Quicker than going through `String`.
package func appendDecimal(_ number: UInt64, to out: inout [UInt8]) {
    withUnsafeTemporaryAllocation(byteCount: 20, alignment: 1) { digits in
        var rest = number
        var at = 20
        repeat {
            at -= 1
            digits[at] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10)
            rest /= 10
        } while rest > 0
        out.append(contentsOf: digits[at...])
    }
}
