import EventStreamCodec
import Foundation
import Testing

/// What a stream has done to a decoder: each event, the fault if there was one, and the state at the end.
enum Output: Equatable {
    case event(EventStreamEvent)
    case fault(EventStreamFault)
    case state(lastEventID: String, retryMilliseconds: Int?, comments: Int)
}

func decode(_ pieces: [[UInt8]], bytesMax: Int = 65536) -> [Output] {
    var decoder = EventStreamDecoder(bytesMax: bytesMax)
    var outputs: [Output] = []
    for piece in pieces {
        var events: [EventStreamEvent] = []
        do throws(EventStreamFault) {
            try decoder.feed(piece, into: &events)
            outputs += events.map { .event($0) }
        } catch {
            outputs += events.map { .event($0) } + [.fault(error)]
            break
        }
    }
    return outputs + [
        .state(
            lastEventID: decoder.lastEventID, retryMilliseconds: decoder.retryMilliseconds, comments: decoder.commentCount)
    ]
}

extension EventStreamDecoder {
    /// Feeds one read from memory of exactly its size, so that reading past it would be found.
    mutating func feed(_ bytes: [UInt8], into events: inout [EventStreamEvent]) throws(EventStreamFault) {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
        defer { memory.deallocate() }
        memory.copyBytes(from: bytes)
        try feed(UnsafeRawBufferPointer(memory), into: &events)
    }

    mutating func feed(_ text: String) throws(EventStreamFault) -> [EventStreamEvent] {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: text.utf8.count, alignment: 1)
        defer { memory.deallocate() }
        memory.copyBytes(from: text.utf8)
        return try feed(UnsafeRawBufferPointer(memory))
    }
}

/// SplitMix64: a failing case is known by its seed.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed
    }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        return mixed ^ mixed >> 31
    }
}

/// One file of Fixtures/EventStream: a stream, and what a client has to make of it.
///
/// `input` lines are the stream, joined; `event` is type, last id and data with `|` between; escapes are \n \r \t \0 \\ and \xHH.
struct GoldenCase: CustomTestStringConvertible, Sendable {
    var name: String
    var input: [UInt8] = []
    var outputs: [Output] = []

    var testDescription: String { name }

    static let all: [GoldenCase] = {
        var folder = URL(fileURLWithPath: #filePath).resolvingSymlinksInPath().deletingLastPathComponent()
        while !FileManager.default.fileExists(atPath: folder.appending(path: "Fixtures").path), folder.path != "/" {
            folder.deleteLastPathComponent()
        }
        folder.append(path: "Fixtures/EventStream")
        let names = try! FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".case") }
        return names.sorted().map { name in
            GoldenCase(name: name, text: try! String(contentsOf: folder.appending(path: name), encoding: .utf8))
        }
    }()

    private init(name: String, text: String) {
        self.name = name
        var lastEventID = ""
        var retryMilliseconds: Int?
        var comments = 0
        for line in text.split(separator: "\n") where !line.hasPrefix("#") {
            guard let colon = line.firstRange(of: ": ") else { preconditionFailure("\(name): \(line)") }
            let value = line[colon.upperBound...]
            switch line[..<colon.lowerBound] {
            case "input": input += Self.unescaped(value)
            case "event":
                let parts = value.split(separator: "|", maxSplits: 2, omittingEmptySubsequences: false).map {
                    String(decoding: Self.unescaped($0), as: UTF8.self)
                }
                outputs.append(.event(EventStreamEvent(type: parts[0], data: parts[2], lastEventID: parts[1])))
            case "last-id": lastEventID = String(value)
            case "retry": retryMilliseconds = Int(value)!
            case "comments": comments = Int(value)!
            default: preconditionFailure("\(name): \(line)")
            }
        }
        outputs.append(.state(lastEventID: lastEventID, retryMilliseconds: retryMilliseconds, comments: comments))
    }

    private static func unescaped(_ text: Substring) -> [UInt8] {
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "\\") else {
                bytes.append(byte)
                continue
            }
            switch rest.popFirst() {
            case UInt8(ascii: "n"): bytes.append(10)
            case UInt8(ascii: "r"): bytes.append(13)
            case UInt8(ascii: "t"): bytes.append(9)
            case UInt8(ascii: "0"): bytes.append(0)
            case UInt8(ascii: "\\"): bytes.append(UInt8(ascii: "\\"))
            case UInt8(ascii: "x"):
                bytes.append(UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16)!)
                rest = rest.dropFirst(2)
            default: preconditionFailure("escape in \(text)")
            }
        }
        return bytes
    }
}
