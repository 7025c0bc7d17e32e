/// What a reader of HTTP/1.1 answers tells its owner.
package protocol ResponseSink: AnyObject {
    func responseHead(status: Int)
    /// One field of the head that follows, with neither white space nor line end. Valid for the call.
    func responseField(name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer)
    /// Next bytes of the body, without the chunks' frames. Valid for the call.
    func responseBody(_ bytes: UnsafeRawBufferPointer)
    func responseEnd()
}

/// Why the load generator cannot read what the server sends.
package struct ReadingFault: Error, CustomStringConvertible {
    package let description: String

    init(_ description: String) {
        self.description = description
    }
}

/// Reads HTTP/1.1 answers (RFC 9112), one after the other, from bytes cut anywhere. Lenient: it measures, and `HTTP1Codec` judges.
///
///     head --> counted or chunked or until the close --> head ...
///       +----> upgraded (101): the rest belongs to another protocol
///
/// The bytes of a body are given out where they lie; once its line buffer has grown, nothing is allocated.
package struct ResponseReader {
    private enum State {
        case statusLine, fields
        case counted(Int)
        case chunkSize, chunk(Int), chunkEnd, trailers
        case untilClose
        case upgraded
    }

    /// Longest line of a head, in bytes.
    private static let lineBytesMax = 16384

    private var state = State.statusLine
    private var line: [UInt8] = []
    private var status = 0
    private var length: Int?
    private var isChunked = false

    package init() {}

    /// - Returns: how many bytes were taken: all, or fewer behind the head of a 101.
    package mutating func read(_ bytes: UnsafeRawBufferPointer, into sink: some ResponseSink) throws(ReadingFault) -> Int {
        var index = 0
        while index < bytes.count {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[index...])
            switch state {
            case .statusLine, .fields, .chunkSize, .chunkEnd, .trailers:
                guard let end = rest.firstIndex(of: UInt8(ascii: "\n")) else {
                    try keep(rest)
                    return bytes.count
                }
                index += end + 1
                try keep(UnsafeRawBufferPointer(rebasing: rest[..<end]))
                if line.last == UInt8(ascii: "\r") { line.removeLast() }
                try takeLine(sink)
                line.removeAll(keepingCapacity: true)
            case .counted(let left):
                let count = min(left, rest.count)
                index += count
                state = .counted(left - count)
                sink.responseBody(UnsafeRawBufferPointer(rebasing: rest[..<count]))
                if left == count { end(sink) }
            case .chunk(let left):
                let count = min(left, rest.count)
                index += count
                state = left == count ? .chunkEnd : .chunk(left - count)
                sink.responseBody(UnsafeRawBufferPointer(rebasing: rest[..<count]))
            case .untilClose:
                sink.responseBody(rest)
                return bytes.count
            case .upgraded:
                return index
            }
        }
        return index
    }

    private mutating func keep(_ bytes: UnsafeRawBufferPointer) throws(ReadingFault) {
        guard line.count + bytes.count <= Self.lineBytesMax else { throw ReadingFault("a line of a head is too long") }
        line.append(contentsOf: bytes)
    }

    private mutating func takeLine(_ sink: some ResponseSink) throws(ReadingFault) {
        switch state {
        case .statusLine:
            // HTTP/1.1 200 OK
            guard line.count >= 12, line.starts(with: "HTTP/1.".utf8), let number = Self.number(line[9..<12], radix: 10) else {
                throw ReadingFault("not a status line: \(String(decoding: line.prefix(80), as: UTF8.self))")
            }
            (status, length, isChunked) = (number, nil, false)
            state = .fields
        case .fields:
            if line.isEmpty {
                headEnd(sink)
            } else {
                takeField(sink)
            }
        case .chunkSize:
            guard let size = Self.number(line.prefix { $0 != UInt8(ascii: ";") && $0 != UInt8(ascii: " ") }, radix: 16) else {
                throw ReadingFault("not the size of a chunk: \(String(decoding: line.prefix(80), as: UTF8.self))")
            }
            state = size == 0 ? .trailers : .chunk(size)
        case .chunkEnd:
            state = .chunkSize
        case .trailers:
            if line.isEmpty { end(sink) }
        case .counted, .chunk, .untilClose, .upgraded:
            break
        }
    }

    private mutating func takeField(_ sink: some ResponseSink) {
        guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else { return }
        var first = colon + 1
        var end = line.count
        while first < end, line[first] == 0x20 || line[first] == 0x09 { first += 1 }
        while end > first, line[end - 1] == 0x20 || line[end - 1] == 0x09 { end -= 1 }
        line.withUnsafeBytes { line in
            let name = UnsafeRawBufferPointer(rebasing: line[..<colon])
            let value = UnsafeRawBufferPointer(rebasing: line[first..<end])
            if Self.isName(name, "content-length") {
                length = Self.number(value, radix: 10)
            } else if Self.isName(name, "transfer-encoding") {
                isChunked = true
            }
            sink.responseField(name: name, value: value)
        }
    }

    private mutating func headEnd(_ sink: some ResponseSink) {
        guard status >= 200 || status == 101 else {
            state = .statusLine
            return
        }
        if status == 101 {
            state = .upgraded
            sink.responseHead(status: status)
            return
        }
        state =
            if status == 204 || status == 304 {
                .counted(0)
            } else if isChunked {
                .chunkSize
            } else if let length {
                .counted(length)
            } else {
                .untilClose
            }
        sink.responseHead(status: status)
        if case .counted(0) = state { end(sink) }
    }

    private mutating func end(_ sink: some ResponseSink) {
        state = .statusLine
        sink.responseEnd()
    }

    private static func number(_ digits: some Sequence<UInt8>, radix: Int) -> Int? {
        var value = 0
        var count = 0
        for byte in digits {
            let digit: UInt8? =
                switch byte | 0x20 {
                case UInt8(ascii: "a")...UInt8(ascii: "f"): (byte | 0x20) - UInt8(ascii: "a") + 10
                default: byte &- UInt8(ascii: "0") < 10 ? byte - UInt8(ascii: "0") : nil
                }
            guard let digit, digit < radix, count < 15 else { return nil }
            value = value * radix + Int(digit)
            count += 1
        }
        return count == 0 ? nil : value
    }

    /// - Parameter lowered: a name in lower case.
    static func isName(_ name: UnsafeRawBufferPointer, _ lowered: StaticString) -> Bool {
        guard name.count == lowered.utf8CodeUnitCount else { return false }
        for index in name.indices where name[index] | 0x20 != lowered.utf8Start[index] | 0x20 { return false }
        return true
    }
}
