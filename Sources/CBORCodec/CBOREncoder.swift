/// JSON (RFC 8259) to CBOR (RFC 8949), for the binary subprotocol: the objects that the server makes as JSON text, as maps with the same
/// names in the same order.
///
///     JSON                                           CBOR, in preferred serialization (section 4.1)
///     whole number without fraction and exponent     major type 0 or 1; beyond 64 bits a bignum (tags 2 and 3) of at most 128 bytes
///     other number                                   the shortest float that is the nearest double
///     string                                         text, escapes resolved; a lone surrogate becomes U+FFFD
///     array, object                                  array, map of known length
///     true, false, null                              the same
///
/// This is section 6.2 as it stands there. Beyond the range of a double, which JSON allows and the bignums here end with, a number
/// becomes an infinity, as it does in readers of JSON that have doubles. `-0` is the whole number 0, `-0.0` the float.
///
/// **Lengths.** A map says how many pairs it has before the first of them. One byte is put in its place; when the map ends it is set,
/// and what the map holds moves up if its length needs more. So a byte is moved at most once for each array or map of more than 23
/// items around it.
///
/// **Data.** In the outermost object `"encoding":"base64"` says that `"data"` is bytes: they become a byte string, and the member goes.
/// The server writes "encoding" first. Where it comes last, all is done once more with that known; and where "data" turns out not to be
/// base64, once more with both left as they are.
///
/// **Names twice.** JSON text may have a name twice in an object, a map may not (section 5.6). The last one counts, as nearly all
/// readers of JSON have it, and the others are left out.
package enum CBOREncoder {
    /// Appends the CBOR of one JSON text.
    ///
    /// Allocates nothing but what `out` needs, memory of three times the text's length (on the stack if that is little), and two small
    /// stacks; except for numbers with an exponent beyond 27 or that lie very near to the middle between two doubles, and for objects
    /// with many names or with a name twice.
    ///
    /// - Parameters:
    ///   - json: a JSON text that was checked. Anything else may trap.
    ///   - bytesOfData: whether "data" and "encoding" of the outermost object are what the protocol says they are.
    package static func transcode(json: UnsafeRawBufferPointer, bytesOfData: Bool = true, into out: inout [UInt8]) {
        // What grows most are floats that need eight bytes: `0.1,`. Strings grow by three bytes at most, and only those of 256 or more.
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 3 * json.count + 16) { memory in
            var rule = bytesOfData ? DataRule.unknown : .text
            while true {
                var transcoder = Transcoder(json: json, rule: rule, memory: memory)
                transcoder.run()
                guard let better = transcoder.ruleToUse else { return out.append(contentsOf: transcoder.out.bytes) }
                rule = better
            }
        }
    }
}

/// What "data" of the outermost object is.
private enum DataRule {
    /// Text, until "encoding" says otherwise.
    case unknown
    case base64
    case text
}

/// Walks over the text once. What it is inside of is a stack of its own, so depth costs no stack frame.
///
///     value ──scalar──> afterValue
///       ├─ { ──> name, colon ──> value                 } at once: afterValue
///       └─ [ ──> value                                 ] at once: afterValue
///     afterValue ── , ──> name, colon or value         } ] ──> afterValue         outside of everything: the end
///
/// The buffer's subscript checks nothing in a release build, so every read here has its own check against `count` before it.
private struct Transcoder {
    /// An array or object that is open.
    private struct Open {
        /// Where its head is in the output.
        var start: Int
        var items = 0
        /// Where its names begin in `names`.
        var firstName: Int
        var isObject: Bool
    }

    /// Which member of the outermost object a value belongs to.
    private enum Member {
        case data, encoding, other
    }

    private let json: UnsafeRawBufferPointer
    private var at = 0
    private(set) var out: ByteSink
    private var open: [Open] = []
    private var names = NameStack()
    private var member = Member.other
    /// Where the name of that member begins in the output.
    private var memberStart = 0
    private var rule: DataRule
    private var hasData = false
    /// Whether the last "data" was written as bytes.
    private var isDataBytes = false
    /// Set when the text has to be done again, by another rule.
    private(set) var ruleToUse: DataRule?

    init(json: UnsafeRawBufferPointer, rule: DataRule, memory: UnsafeMutableBufferPointer<UInt8>) {
        self.json = json
        self.rule = rule
        out = ByteSink(memory)
        open.reserveCapacity(8)
    }

    mutating func run() {
        while true {
            let isComplete = value()
            if ruleToUse != nil { return }
            if isComplete, !endValue() { break }
        }
        skipWhiteSpace()
        precondition(at == json.count, "not a checked text")
    }

    // MARK: Structure

    @inline(__always)
    private mutating func skipWhiteSpace() {
        while at < json.count, json[at] <= 0x20 { at &+= 1 }
    }

    /// The next byte, which has to be there.
    @inline(__always)
    private func byte() -> UInt8 {
        precondition(at < json.count, "not a checked text")
        return json[at]
    }

    /// Writes a scalar, an empty array or object, or the beginning of one that is not empty.
    ///
    /// - Returns: whether a value is complete; otherwise the next thing is another value.
    private mutating func value() -> Bool {
        skipWhiteSpace()
        if !open.isEmpty { open[open.count - 1].items += 1 }
        let first = byte()
        switch first {
        case UInt8(ascii: "\""):
            if member == .other || open.count != 1 { text() } else { textOfMember() }
        case UInt8(ascii: "{"), UInt8(ascii: "["):
            let isObject = first == UInt8(ascii: "{")
            open.append(Open(start: out.count, firstName: names.count, isObject: isObject))
            out.append(0)
            at += 1
            skipWhiteSpace()
            if byte() == Self.end(isObject) {
                at += 1
                close()
                return true
            }
            if isObject { name() }
            return false
        case UInt8(ascii: "t"): literal(4, 0xf5)
        case UInt8(ascii: "f"): literal(5, 0xf4)
        case UInt8(ascii: "n"): literal(4, 0xf6)
        default: number()
        }
        return true
    }

    /// Reads what follows a value: ends, and then a comma.
    ///
    /// - Returns: whether another value follows; otherwise the outermost one is complete.
    private mutating func endValue() -> Bool {
        while let innermost = open.last {
            skipWhiteSpace()
            let next = byte()
            at += 1
            if next == UInt8(ascii: ",") {
                if innermost.isObject { name() }
                return true
            }
            precondition(next == Self.end(innermost.isObject), "not a checked text")
            close()
        }
        return false
    }

    private static func end(_ isObject: Bool) -> UInt8 { isObject ? UInt8(ascii: "}") : UInt8(ascii: "]") }

    private mutating func close() {
        var closed = open.removeLast()
        if closed.isObject {
            if names.hasRepeated(from: closed.firstName, in: out.bytes) {
                closed.items = names.dropRepeated(from: closed.firstName, in: &out)
            }
            names.removeLast(names.count - closed.firstName)
            if open.isEmpty, rule == .base64, !isDataBytes { ruleToUse = .text }
        }
        out.setHead(closed.isObject ? CBORMajor.map : CBORMajor.array, closed.items, at: closed.start)
    }

    private mutating func literal(_ count: Int, _ head: UInt8) {
        precondition(json.count - at >= count, "not a checked text")
        out.append(head)
        at += count
    }

    // MARK: Members

    /// A member's name and the colon after it.
    private mutating func name() {
        skipWhiteSpace()
        let start = out.count
        text()
        names.push(from: start, in: out.bytes)
        if open.count == 1 {
            memberStart = start
            member = rule == .text ? .other : Self.member(out.bytes, start)
            if member == .data {
                hasData = true
                isDataBytes = false
            }
        }
        skipWhiteSpace()
        precondition(byte() == UInt8(ascii: ":"), "not a checked text")
        at += 1
    }

    /// Which member has the name that the output ends with.
    private static func member(_ out: UnsafeRawBufferPointer, _ start: Int) -> Member {
        let name = UnsafeRawBufferPointer(rebasing: out[(start + 1)...])
        switch name.count {
        case 4: return name.elementsEqual("data".utf8) ? .data : .other
        case 8: return name.elementsEqual("encoding".utf8) ? .encoding : .other
        default: return .other
        }
    }

    /// The string that is "data" or "encoding" of the outermost object.
    private mutating func textOfMember() {
        let start = at + 1
        let end = ByteScan.firstQuoteOrBackslash(in: json, from: start)
        precondition(end < json.count, "not a checked text")
        let inner = UnsafeRawBufferPointer(rebasing: json[start..<end])
        let isPlain = json[end] == UInt8(ascii: "\"")
        if member == .encoding {
            guard isPlain, inner.elementsEqual("base64".utf8) else { return text() }
            // It comes after "data".
            if hasData, rule == .unknown { ruleToUse = .base64 }
            rule = .base64
            at = end + 1
            open[0].items -= 1
            names.removeLast(1)
            out.removeAll(from: memberStart)
        } else {
            guard rule == .base64, isPlain, let count = Base64.bytes(letters: inner) else { return text() }
            let before = out.count
            out.appendHead(CBORMajor.bytes, UInt64(count))
            guard Base64.decode(inner, to: out.room(count)) else {
                out.removeAll(from: before)
                return text()
            }
            isDataBytes = true
            at = end + 1
        }
    }

    // MARK: Scalars

    private mutating func text() {
        precondition(byte() == UInt8(ascii: "\""), "not a checked text")
        let start = at + 1
        let end = ByteScan.firstQuoteOrBackslash(in: json, from: start)
        precondition(end < json.count, "not a checked text")
        if json[end] == UInt8(ascii: "\"") {
            out.appendHead(CBORMajor.text, UInt64(end - start))
            out.append(UnsafeRawBufferPointer(rebasing: json[start..<end]))
            at = end + 1
        } else {
            // Twice: for the length, and for the text.
            var length = 0
            at = JSONEscapes.forEachPiece(json, from: start) { length += $0.count }
            out.appendHead(CBORMajor.text, UInt64(length))
            _ = JSONEscapes.forEachPiece(json, from: start) { out.append($0) }
        }
    }

    private mutating func number() {
        if !shortNumber() { anyNumber() }
    }

    /// A whole number of at most 18 digits, which most are.
    ///
    /// - Returns: false if it is another one; nothing is written then.
    @inline(__always)
    private mutating func shortNumber() -> Bool {
        let isNegative = json[at] == UInt8(ascii: "-")
        let start = isNegative ? at &+ 1 : at
        let end = min(json.count, start &+ 18)
        var position = start
        var magnitude: UInt64 = 0
        while position < end, json[position] &- UInt8(ascii: "0") < 10 {
            magnitude = magnitude &* 10 &+ UInt64(json[position] &- UInt8(ascii: "0"))
            position &+= 1
        }
        if position == start { return false }
        if position < json.count {
            let next = json[position]
            if next == UInt8(ascii: ".") || next | 0x20 == UInt8(ascii: "e") || next &- UInt8(ascii: "0") < 10 { return false }
        }
        let isBelowZero = isNegative && magnitude > 0
        out.appendHead(isBelowZero ? CBORMajor.negative : CBORMajor.unsigned, isBelowZero ? magnitude &- 1 : magnitude)
        at = position
        return true
    }

    private mutating func anyNumber() {
        let start = at
        let number = JSONNumber(json, from: start)
        at = number.end
        if !number.isWhole {
            out.appendFloat(number.double(UnsafeRawBufferPointer(rebasing: json[start..<at])))
        } else if number.exponent == 0 {
            let isBelowZero = number.isNegative && number.digits > 0
            out.appendHead(
                isBelowZero ? CBORMajor.negative : CBORMajor.unsigned, isBelowZero ? number.digits - 1 : number.digits
            )
        } else {
            let digits = json[(number.isNegative ? start + 1 : start)..<at]
            longNumber(isNegative: number.isNegative, UnsafeRawBufferPointer(rebasing: digits))
        }
    }

    /// A whole number of more than 19 digits.
    private mutating func longNumber(isNegative: Bool, _ digits: UnsafeRawBufferPointer) {
        let infinity = isNegative ? -Double.infinity : .infinity
        guard digits.count <= Bignum.digitsMax else { return out.appendFloat(infinity) }
        var number = Bignum(digits: digits)
        if isNegative { number.subtractOne() }
        if let word = number.word {
            out.appendHead(isNegative ? CBORMajor.negative : CBORMajor.unsigned, word)
        } else if number.byteCount <= CBORLimits.bignumBytesMax {
            out.appendHead(CBORMajor.tag, isNegative ? CBORTag.negativeBignum : CBORTag.unsignedBignum)
            out.appendHead(CBORMajor.bytes, UInt64(number.byteCount))
            number.appendBytes(to: &out)
        } else {
            out.appendFloat(infinity)
        }
    }
}
