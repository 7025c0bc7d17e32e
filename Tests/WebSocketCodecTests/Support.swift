import Foundation
import Testing
import WebSocketCodec

/// What came out of a decoder, faults included.
enum Output: Equatable, CustomStringConvertible {
    case event(WebSocketEvent)
    case fault(WebSocketFault)

    var description: String {
        switch self {
        case .event(let event): "\(event)"
        case .fault(let fault): "\(fault.closeCode.rawValue) \(fault)"
        }
    }
}

extension WebSocketDecoder {
    /// Feeds one read to the decoder as a connection does, from memory of exactly its size, so that reading past it would be found.
    mutating func feed(_ bytes: [UInt8]) -> [Output] {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
        defer { memory.deallocate() }
        memory.copyBytes(from: bytes)
        var outputs: [Output] = []
        var consumed = 0
        do throws(WebSocketFault) {
            while let event = try next(UnsafeMutableRawBufferPointer(rebasing: memory[consumed...]), consumed: &consumed) {
                outputs.append(.event(event))
            }
        } catch {
            outputs.append(.fault(error))
        }
        #expect(consumed == bytes.count)
        return outputs
    }
}

func decode(_ pieces: [[UInt8]], role: WebSocketRole, limits: WebSocketLimits = WebSocketLimits()) -> [Output] {
    var decoder = WebSocketDecoder(role: role, limits: limits)
    return pieces.flatMap { decoder.feed($0) }
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

    mutating func bytes(_ count: Int) -> [UInt8] {
        (0..<count).map { _ in UInt8.random(in: 0...255, using: &self) }
    }
}

/// Bytes written as hexadecimal, with spaces anywhere.
func hex(_ text: some StringProtocol) -> [UInt8] {
    let digits = text.filter { !$0.isWhitespace }.map { UInt8($0.hexDigitValue!) }
    precondition(digits.count.isMultiple(of: 2), "half a byte in \(text)")
    return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}

/// One file of Fixtures/WebSocket: a role, the bytes of a peer, and what a decoder has to say to them.
struct GoldenCase: CustomTestStringConvertible, Sendable {
    var name: String
    var role = WebSocketRole.server
    var limits = WebSocketLimits()
    var bytes: [UInt8] = []
    /// Each in the words of the file.
    var outputs: [String] = []
    var isIdle = true

    var testDescription: String { name }

    static let all: [GoldenCase] = {
        var folder = URL(fileURLWithPath: #filePath).resolvingSymlinksInPath().deletingLastPathComponent()
        while !FileManager.default.fileExists(atPath: folder.appending(path: "Fixtures").path), folder.path != "/" {
            folder.deleteLastPathComponent()
        }
        folder.append(path: "Fixtures/WebSocket")
        let names = try! FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".case") }
        return names.sorted().map { name in
            GoldenCase(name: name, text: try! String(contentsOf: folder.appending(path: name), encoding: .utf8))
        }
    }()

    private init(name: String, text: String) {
        self.name = name
        for line in text.split(separator: "\n") where !line.hasPrefix("#") {
            let parts = line.split(separator: ":", maxSplits: 1)
            let value = parts[1].trimmingCharacters(in: .whitespaces)
            switch parts[0] {
            case "role": role = value == "server" ? .server : .client
            case "limit": limits.messageBytesMax = Int(value)!
            case "fragments": limits.fragmentsMax = Int(value)!
            case "bytes": bytes += hex(value)
            case "event", "fault": outputs.append("\(parts[0]): \(value)")
            case "idle": isIdle = value == "yes"
            default: preconditionFailure("\(name): \(line)")
            }
        }
    }
}

extension Output {
    /// The words in which a file of Fixtures/WebSocket has it.
    var golden: String {
        func line(_ words: String...) -> String { words.filter { !$0.isEmpty }.joined(separator: " ") }
        func hex(_ bytes: [UInt8]) -> String { bytes.map { String(format: "%02x", $0) }.joined(separator: " ") }
        switch self {
        case .event(.text(let bytes)): return line("event: text", hex(bytes))
        case .event(.binary(let bytes)): return line("event: binary", hex(bytes))
        case .event(.ping(let bytes)): return line("event: ping", hex(bytes))
        case .event(.pong(let bytes)): return line("event: pong", hex(bytes))
        case .event(.close(let code, let reason)): return line("event: close", code.map { "\($0.rawValue)" } ?? "", reason)
        case .fault: return "fault: \(self)"
        }
    }
}
