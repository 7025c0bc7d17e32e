/// CBOR (RFC 8949) to JSON (RFC 8259): a client's command in the binary subprotocol, to be read as if it had come as JSON.
///
///     CBOR                                             JSON
///     major type 0, 1, bignum (tags 2 and 3)           whole number
///     float                                            number with fraction or exponent: the shortest that is the same double
///     text, of known or open length                    string
///     array, map, of known or open length              array, object
///     false, true, null                                the same
///     byte string, "data" of the outermost map         base64, and after it the member "encoding":"base64"
///     tag 55799                                        nothing
///
/// Everything else is a fault: what JSON cannot say (section 6.1 would put something else in its place), what is not valid (names twice,
/// text that is not UTF-8), other tags, anything behind the item. Numbers need not be in their shortest form.
///
/// Nothing is allocated for what was only announced: an array of 2^64 elements ends where the bytes end. There is no recursion.
package enum CBORDecoder {
    /// - Parameter bytes: one item and nothing else.
    /// - Returns: its JSON text, without white space.
    package static func json(_ bytes: UnsafeRawBufferPointer, limits: CBORLimits = CBORLimits()) throws(CBORFault) -> [UInt8] {
        var reader = ItemReader(bytes: bytes, limits: limits)
        try reader.read()
        return reader.out
    }
}

/// Reads items one behind the other; those that hold others are on a stack.
///
///     item ──scalar──> afterItem           afterItem ── as many as were announced, or a break ──> afterItem (of the one around)
///       └─ array, map ──> afterItem                  └─ in a map a name, then ──> item           outside of everything: the end
///
/// The buffer's subscript checks nothing in a release build: `head`, `take` and `isBreak` alone read it, after a check.
private struct ItemReader {
    /// The head of an item.
    private struct Head {
        var offset: Int
        var major: UInt8
        /// The five bits: 24 to 27 if the argument follows them, 31 if there is none.
        var information: UInt8
        var argument: UInt64

        var isOpen: Bool { information == 31 }
        var isBreak: Bool { major == CBORMajor.simple && isOpen }
    }

    /// An array or map that is being read.
    private struct Container {
        var isMap: Bool
        var isOpen: Bool
        /// Elements or pairs that are still to come, if it is not open.
        var remaining: UInt64
        var isEmpty = true
        /// Where its names begin in `names`.
        var firstName: Int
    }

    private let bytes: UnsafeRawBufferPointer
    private let limits: CBORLimits
    private var at = 0
    private var containers: [Container] = []
    private var names = NameStack()
    /// Whether the next item is the value of "data" in the outermost map.
    private var isData = false
    private(set) var out: [UInt8] = []

    init(bytes: UnsafeRawBufferPointer, limits: CBORLimits) {
        self.bytes = bytes
        self.limits = limits
        out.reserveCapacity(min(bytes.count + bytes.count / 4 + 16, limits.outputBytesMax))
    }

    mutating func read() throws(CBORFault) {
        repeat { try item() } while try nextItem()
        guard at == bytes.count else { throw .trailingBytes(offset: at) }
    }

    // MARK: Bytes

    private mutating func head() throws(CBORFault) -> Head {
        guard at < bytes.count else { throw .truncated(offset: at) }
        let first = bytes[at]
        var head = Head(offset: at, major: first >> 5, information: first & 31, argument: UInt64(first & 31))
        at += 1
        switch head.information {
        case 24...27:
            let size = 1 << Int(head.information - 24)
            guard bytes.count - at >= size else { throw .truncated(offset: head.offset) }
            head.argument = 0
            for index in at..<at + size { head.argument = head.argument << 8 | UInt64(bytes[index]) }
            at += size
        case 28...30:
            throw .reservedInformation(offset: head.offset)
        case 31:
            switch head.major {
            case CBORMajor.unsigned, CBORMajor.negative, CBORMajor.tag: throw .reservedInformation(offset: head.offset)
            default: head.argument = 0
            }
        default:
            break
        }
        return head
    }

    /// What the string of that head holds.
    private mutating func take(_ head: Head) throws(CBORFault) -> UnsafeRawBufferPointer {
        guard head.argument <= UInt64(bytes.count - at) else { throw .truncated(offset: head.offset) }
        let start = at
        at += Int(head.argument)
        return UnsafeRawBufferPointer(rebasing: bytes[start..<at])
    }

    /// Passes over a break, if the next byte is one.
    private mutating func isBreak() throws(CBORFault) -> Bool {
        guard at < bytes.count else { throw .truncated(offset: at) }
        guard bytes[at] == 0xff else { return false }
        at += 1
        return true
    }

    /// Hands out what a string holds: in one piece, or piece by piece if its length is open (section 3.2.3).
    private mutating func forEachPiece(
        _ head: Head, _ body: (inout Self, UnsafeRawBufferPointer, _ offset: Int) throws(CBORFault) -> Void
    ) throws(CBORFault) {
        if !head.isOpen {
            let whole = try take(head)
            return try body(&self, whole, head.offset)
        }
        while try !isBreak() {
            let piece = try self.head()
            guard piece.major == head.major, !piece.isOpen else { throw .chunkUnexpected(offset: piece.offset) }
            let content = try take(piece)
            try body(&self, content, piece.offset)
        }
    }

    // MARK: Output

    private func checkRoom(_ count: Int, _ offset: Int) throws(CBORFault) {
        guard count <= limits.outputBytesMax - out.count else { throw .outputTooLong(offset: offset) }
    }

    private mutating func append(_ text: StaticString, _ offset: Int) throws(CBORFault) {
        try checkRoom(text.utf8CodeUnitCount, offset)
        out.append(contentsOf: UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    // MARK: Items

    private mutating func item() throws(CBORFault) {
        let isData = isData
        self.isData = false
        var head = try self.head()
        while head.major == CBORMajor.tag, head.argument == CBORTag.selfDescribed { head = try self.head() }
        switch head.major {
        case CBORMajor.unsigned: try number(isNegative: false, head)
        case CBORMajor.negative: try number(isNegative: true, head)
        case CBORMajor.bytes:
            guard isData else { throw .bytesUnexpected(offset: head.offset) }
            try data(head)
        case CBORMajor.text: try text(head)
        case CBORMajor.array, CBORMajor.map: try begin(head)
        case CBORMajor.tag: try bignum(head)
        default: try simple(head)
        }
    }

    private mutating func begin(_ head: Head) throws(CBORFault) {
        guard containers.count < limits.depthMax else { throw .tooDeep(offset: head.offset) }
        let isMap = head.major == CBORMajor.map
        try append(isMap ? "{" : "[", head.offset)
        containers.append(Container(isMap: isMap, isOpen: head.isOpen, remaining: head.argument, firstName: names.count))
    }

    /// Ends what is complete, and begins the next element or pair.
    ///
    /// - Returns: whether an item follows; otherwise the outermost one is complete.
    private mutating func nextItem() throws(CBORFault) -> Bool {
        while let innermost = containers.last {
            let isComplete = innermost.isOpen ? try isBreak() : innermost.remaining == 0
            if isComplete {
                try end(innermost)
                continue
            }
            if !innermost.isEmpty { try append(",", at) }
            containers[containers.count - 1].isEmpty = false
            if !innermost.isOpen { containers[containers.count - 1].remaining -= 1 }
            if innermost.isMap { try name() }
            return true
        }
        return false
    }

    private mutating func end(_ container: Container) throws(CBORFault) {
        if container.isMap {
            if out.withUnsafeBytes({ names.hasRepeated(from: container.firstName, in: $0) }) { throw .nameRepeated(offset: at) }
            names.removeLast(names.count - container.firstName)
        }
        try append(container.isMap ? "}" : "]", at)
        containers.removeLast()
    }

    private mutating func name() throws(CBORFault) {
        let head = try self.head()
        if head.isBreak { throw .breakUnexpected(offset: head.offset) }
        guard head.major == CBORMajor.text else { throw .nameNotText(offset: head.offset) }
        let start = out.count
        try text(head)
        out.withUnsafeBytes { names.push(from: start, in: $0) }
        isData = containers.count == 1 && out[start...].elementsEqual("\"data\"".utf8)
        try append(":", head.offset)
    }

    /// The value of "data", and the member that says how it is written.
    private mutating func data(_ head: Head) throws(CBORFault) {
        var encoder = Base64.Encoder()
        try append("\"", head.offset)
        try forEachPiece(head) { (reader, piece, offset) throws(CBORFault) in
            // At least so much; four more with what was left of the piece before.
            try reader.checkRoom(piece.count / 3 * 4, offset)
            encoder.append(piece, to: &reader.out)
            try reader.checkRoom(0, offset)
        }
        encoder.finish(to: &out)
        try append("\",", head.offset)
        let start = out.count
        try append("\"encoding\"", head.offset)
        out.withUnsafeBytes { names.push(from: start, in: $0) }
        try append(":\"base64\"", head.offset)
    }

    // MARK: Text

    private mutating func text(_ head: Head) throws(CBORFault) {
        try append("\"", head.offset)
        try forEachPiece(head) { (reader, piece, offset) throws(CBORFault) in try reader.appendEscaped(piece, offset) }
        try append("\"", head.offset)
    }

    /// Appends text as it stands inside a JSON string (RFC 8259, section 7), and checks it on the way.
    private mutating func appendEscaped(_ text: UnsafeRawBufferPointer, _ offset: Int) throws(CBORFault) {
        try checkRoom(text.count, offset)
        var runStart = 0
        var position = 0
        while true {
            position = ByteScan.firstNotPlain(in: text, from: position)
            if position < text.count, text[position] >= 0x80 {
                guard let end = UTF8Text.endOfCharacters(text, from: position) else { throw .textNotUTF8(offset: offset) }
                position = end
                continue
            }
            out.append(contentsOf: UnsafeRawBufferPointer(rebasing: text[runStart..<position]))
            if position == text.count { return }
            let byte = text[position]
            position += 1
            try checkRoom(UTF8Text.escapedCount(byte) + text.count - position, offset)
            UTF8Text.appendEscape(byte, to: &out)
            runStart = position
        }
    }

    // MARK: Numbers and simple values

    private mutating func number(isNegative: Bool, _ head: Head) throws(CBORFault) {
        withUnsafeBytes(of: head.argument.bigEndian) { appendDigits(isNegative: isNegative, $0) }
        try checkRoom(0, head.offset)
    }

    /// Appends a number, or -1 - number. At most 310 bytes, so that it is enough to look at the length afterwards.
    private mutating func appendDigits(isNegative: Bool, _ bigEndian: UnsafeRawBufferPointer) {
        var number = Bignum(bigEndian: bigEndian)
        if isNegative {
            number.addOne()
            out.append(UInt8(ascii: "-"))
        }
        number.appendDigits(to: &out)
    }

    private mutating func bignum(_ tag: Head) throws(CBORFault) {
        guard tag.argument == CBORTag.unsignedBignum || tag.argument == CBORTag.negativeBignum else {
            throw .tagUnknown(tag.argument, offset: tag.offset)
        }
        let head = try self.head()
        guard head.major == CBORMajor.bytes else { throw .bignumNotBytes(offset: tag.offset) }
        var number: [UInt8] = []
        try forEachPiece(head) { (_, piece, _) throws(CBORFault) in
            guard number.count + piece.count <= CBORLimits.bignumBytesMax else { throw .bignumTooLong(offset: tag.offset) }
            number.append(contentsOf: piece)
        }
        number.withUnsafeBytes { appendDigits(isNegative: tag.argument == CBORTag.negativeBignum, $0) }
        try checkRoom(0, tag.offset)
    }

    private mutating func simple(_ head: Head) throws(CBORFault) {
        switch head.information {
        case 20: try append("false", head.offset)
        case 21: try append("true", head.offset)
        case 22: try append("null", head.offset)
        case 24 where head.argument < 32: throw .simpleReserved(offset: head.offset)
        case 25: try float(HalfFloat.double(UInt16(head.argument)), head)
        case 26: try float(Double(Float(bitPattern: UInt32(head.argument))), head)
        case 27: try float(Double(bitPattern: head.argument), head)
        case 31: throw .breakUnexpected(offset: head.offset)
        default: throw .simpleUnknown(offset: head.offset)
        }
    }

    private mutating func float(_ number: Double, _ head: Head) throws(CBORFault) {
        guard number.isFinite else { throw .notFinite(offset: head.offset) }
        // Swift writes the shortest digits that are read as the same double, in a form that JSON has.
        out.append(contentsOf: number.description.utf8)
        try checkRoom(0, head.offset)
    }
}
