/// Finds the head of a message: everything from the start line to the empty line.
///
/// A head mostly comes in one read and is then built where it lies, with no copy. Only one that is cut is collected here, and the array is
/// given back when it is complete, so an idle connection holds none.
///
///     [CR LF]  start line CR LF  { field line CR LF }  CR LF
///        |         |                   |                 |
///     at most   judged at           counted           head built
///      once     its LF
///
/// Reading is in two steps. The *scan* looks for control characters only, eight bytes at a time, and remembers how far it came, so no byte
/// is looked at twice for want of more. It refuses bare CR, bare LF and other control characters at the byte itself, and what is over a
/// limit at the first byte above. The start line is judged when it ends: who does not speak HTTP/1 hears so at once and not at the head's
/// deadline. The *building* of fields waits for the whole head. All these points depend on the bytes only, so a fault is the same however
/// the network cut them.
struct HeadReader: Sendable {
    /// An incomplete head, from its first byte.
    private var partial: [UInt8] = []
    /// Of `partial`: where the scan goes on.
    private var scanned: UInt32 = 0
    /// Of `partial`: where the current line begins.
    private var lineStart: UInt32 = 0
    /// Complete lines so far.
    private var lines: UInt16 = 0
    /// How many empty lines may still stand before the start line.
    private var emptyLinesLeft: UInt8
    private let emptyLinesMax: UInt8

    /// - Parameter emptyLinesMax: how many empty lines may stand before a start line. 1 for requests (RFC 9112 section 2.2: some clients
    ///   send one too many after a body), 0 for responses.
    init(emptyLinesMax: UInt8) {
        self.emptyLinesMax = emptyLinesMax
        emptyLinesLeft = emptyLinesMax
    }

    /// Whether some bytes of a head are here.
    var isPartial: Bool { !partial.isEmpty }

    /// Reads to the end of a head, or all of `input`.
    ///
    /// - Parameters:
    ///   - checkStartLine: called once, with the start line without its CRLF.
    ///   - build: called once, with the whole head.
    /// - Returns: what `build` made; nil when all of `input` was kept and more is needed.
    mutating func next<Head>(
        _ input: UnsafeRawBufferPointer,
        consumed: inout Int,
        limits: HTTP1Limits,
        checkStartLine: (UnsafeRawBufferPointer) throws(HTTP1Fault) -> Void,
        build: (UnsafeRawBufferPointer) throws(HTTP1Fault) -> Head
    ) throws(HTTP1Fault) -> Head? {
        guard partial.isEmpty else {
            return try resume(input, consumed: &consumed, limits: limits, checkStartLine: checkStartLine, build: build)
        }
        guard !input.isEmpty else { return nil }
        var start = 0
        if let end = try scan(input, start: &start, limits: limits, checkStartLine: checkStartLine) {
            let head = try build(input.part(start..<end))
            consumed += end
            reset()
            return head
        }
        consumed += input.count
        if start < input.count {
            partial = Array(input[start...])
        }
        rebase(start)
        return nil
    }

    private mutating func resume<Head>(
        _ input: UnsafeRawBufferPointer,
        consumed: inout Int,
        limits: HTTP1Limits,
        checkStartLine: (UnsafeRawBufferPointer) throws(HTTP1Fault) -> Void,
        build: (UnsafeRawBufferPointer) throws(HTTP1Fault) -> Head
    ) throws(HTTP1Fault) -> Head? {
        var bytes: [UInt8] = []
        swap(&bytes, &partial)
        let before = bytes.count
        // Two more than the limit, for an empty line before the head.
        let taken = min(input.count, limits.headBytesMax + 2 - before)
        bytes.append(contentsOf: input[..<taken])
        var start = 0
        let head = try bytes.withUnsafeBufferPointer { buffer throws(HTTP1Fault) -> (Head, Int)? in
            let whole = UnsafeRawBufferPointer(buffer)
            guard let end = try scan(whole, start: &start, limits: limits, checkStartLine: checkStartLine) else { return nil }
            return (try build(whole.part(start..<end)), end)
        }
        if let (head, end) = head {
            consumed += end - before
            reset()
            return head
        }
        precondition(taken == input.count, "a head above the limit not refused")
        consumed += taken
        bytes.removeSubrange(..<start)
        if !bytes.isEmpty {
            partial = bytes
        }
        rebase(start)
        return nil
    }

    /// Looks for the end of the head in `bytes`, from where it stopped last time.
    ///
    /// - Parameter start: moved past empty lines before the start line.
    /// - Returns: the offset behind the empty line; nil if it has not come.
    private mutating func scan(
        _ bytes: UnsafeRawBufferPointer,
        start: inout Int,
        limits: HTTP1Limits,
        checkStartLine: (UnsafeRawBufferPointer) throws(HTTP1Fault) -> Void
    ) throws(HTTP1Fault) -> Int? {
        var position = Int(scanned)
        var line = Int(lineStart)
        defer {
            scanned = UInt32(truncatingIfNeeded: position)
            lineStart = UInt32(truncatingIfNeeded: line)
        }
        while true {
            let headEndMax = start + limits.headBytesMax
            let available = min(bytes.count, headEndMax)
            let end = lines == 0 ? min(available, line + limits.startLineBytesMax + 1) : available
            position = ByteClass.firstControl(bytes, from: position, to: end)
            guard position < end else {
                if lines == 0, position - line > limits.startLineBytesMax { throw .startLineTooLong }
                if position == headEndMax { throw .headTooLong }
                return nil
            }
            switch bytes[position] {
            case ByteClass.tab where lines > 0:
                position += 1
                continue
            case ByteClass.lineFeed: throw .bareLineFeed
            case ByteClass.carriageReturn: break
            default: throw .controlCharacter
            }
            guard position + 1 < available else {
                if position + 1 == headEndMax { throw .headTooLong }
                return nil
            }
            guard bytes[position + 1] == ByteClass.lineFeed else { throw .bareCarriageReturn }
            let lineEnd = position
            position += 2
            if lineEnd > line {
                if lines == 0 {
                    try checkStartLine(bytes.part(line..<lineEnd))
                } else if Int(lines) > limits.fieldsMax {
                    throw .tooManyFields
                }
                lines += 1
            } else if lines > 0 {
                return position
            } else {
                guard emptyLinesLeft > 0 else {
                    try checkStartLine(bytes.part(line..<line))
                    preconditionFailure("an empty start line let through")
                }
                emptyLinesLeft -= 1
                start = position
            }
            line = position
        }
    }

    /// Forgets the first `start` bytes.
    private mutating func rebase(_ start: Int) {
        scanned -= UInt32(start)
        lineStart -= UInt32(start)
    }

    private mutating func reset() {
        self = HeadReader(emptyLinesMax: emptyLinesMax)
    }
}
