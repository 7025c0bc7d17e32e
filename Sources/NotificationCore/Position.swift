/// Where a reader of the log stands: everything up to here, on all channels of its subscription, has been seen.
///
/// On the wire it is an opaque token. It names the log's epoch, so that a lost log is noticed, and holds one number per shard of
/// the log (one shard when embedded), so that its form need not change later:
///
///     5f3a9c01b7de.1042          epoch, 12 hexadecimal digits; then the log number of each shard, decimal
package struct Position: Hashable, Sendable, CustomStringConvertible {
    /// No token is longer: 12 digits and 16 shards of at most 20 digits each.
    package static let bytesMax = 12 + 16 * 21

    package var epoch: LogEpoch
    package var offsets: [UInt64]

    package init(epoch: LogEpoch, offset: UInt64) {
        self.epoch = epoch
        offsets = [offset]
    }

    /// - Returns: nil if `token` was never one of ours.
    package init?(_ token: String) {
        guard token.utf8.count <= Self.bytesMax else { return nil }
        let parts = token.split(separator: ".", omittingEmptySubsequences: false)
        guard (2...17).contains(parts.count), let epoch = LogEpoch(hexadecimal: parts[0]) else { return nil }
        self.epoch = epoch
        offsets = []
        for part in parts.dropFirst() {
            guard !part.isEmpty, part.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
                part == "0" || part.first != "0", let number = UInt64(part)
            else { return nil }
            offsets.append(number)
        }
    }

    package var description: String {
        epoch.description + "." + offsets.map(String.init).joined(separator: ".")
    }

    package static func append(epoch: LogEpoch, offset: UInt64, to out: inout [UInt8]) {
        epoch.append(to: &out)
        out.append(UInt8(ascii: "."))
        appendDecimal(offset, to: &out)
    }
}

/// One life of a log: drawn at random when the log is made. Numbers of different epochs cannot be compared.
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
        for shift in stride(from: 44, through: 0, by: -4) {
            let digit = UInt8(truncatingIfNeeded: (bits >> UInt64(shift)) & 0xf)
            out.append(digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10)
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
