import TestSupport
import Testing

@testable import WebSocketCodec

@Suite("WebSocket: properties")
struct PropertyTests {
    /// Some conversation: its bytes as a client sends them, and what a server has to read.
    private static func conversation(seed: UInt64) -> (bytes: [UInt8], outputs: [Output]) {
        var generator = SeededGenerator(seed: seed)
        var bytes: [UInt8] = []
        var outputs: [Output] = []
        func append(_ opcode: WebSocketOpcode, _ payload: [UInt8], fin: Bool = true) {
            WebSocketEncoder.maskedFrame(
                opcode, payload: payload, fin: fin, maskingKey: UInt32.random(in: 0...UInt32.max, using: &generator), into: &bytes)
        }
        func control() {
            let payload = generator.bytes(Int.random(in: 0...125, using: &generator))
            if Bool.random(using: &generator) {
                append(.ping, payload)
                outputs.append(.event(.ping(payload)))
            } else {
                append(.pong, payload)
                outputs.append(.event(.pong(payload)))
            }
        }
        for _ in 0..<Int.random(in: 1...6, using: &generator) {
            if Int.random(in: 0..<4, using: &generator) == 0 { control() }
            let isText = Bool.random(using: &generator)
            let payload =
                isText
                ? Array(Self.text(Int.random(in: 0...60, using: &generator), &generator).utf8)
                : generator.bytes(Int.random(in: 0...200, using: &generator))
            var rest = payload[...]
            var opcode: WebSocketOpcode = isText ? .text : .binary
            while Int.random(in: 0..<3, using: &generator) == 0 {
                let count = Int.random(in: 0...rest.count, using: &generator)
                append(opcode, Array(rest.prefix(count)), fin: false)
                rest = rest.dropFirst(count)
                opcode = .continuation
                if Bool.random(using: &generator) { control() }
            }
            append(opcode, Array(rest))
            outputs.append(.event(isText ? .text(payload) : .binary(payload)))
        }
        if Bool.random(using: &generator) {
            let code = WebSocketCloseCode(rawValue: UInt16.random(in: 3000...4999, using: &generator))
            let reason = Self.text(Int.random(in: 0...20, using: &generator), &generator)
            WebSocketEncoder.maskedClose(code, reason: reason, maskingKey: 0xFFFF_0001, into: &bytes)
            outputs.append(.event(.close(code, reason: reason)))
        }
        return (bytes, outputs)
    }

    private static func text(_ count: Int, _ generator: inout SeededGenerator) -> String {
        var text = String.UnicodeScalarView()
        for _ in 0..<count {
            let top: UInt32 = [0x7F, 0x7FF, 0xFFFF, 0x10FFFF].randomElement(using: &generator)!
            text.append(Unicode.Scalar(UInt32.random(in: 0...top, using: &generator)) ?? "?")
        }
        return String(text)
    }

    @Test("what is encoded is decoded, however it is cut", arguments: UInt64(0)..<60)
    func roundTrip(seed: UInt64) throws {
        let (bytes, outputs) = Self.conversation(seed: seed)
        #expect(try SplitVerifier.verify(bytes, splitsMax: 200) { decode($0, role: .server) } == outputs)
    }

    @Test("a conversation with some bytes changed never traps, and is the same however it is cut", arguments: UInt64(0)..<150)
    func changed(seed: UInt64) throws {
        var (bytes, _) = Self.conversation(seed: seed)
        var generator = SeededGenerator(seed: ~seed)
        for _ in 0..<Int.random(in: 1...4, using: &generator) {
            bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
        }
        let limits = WebSocketLimits(messageBytesMax: 150, fragmentsMax: 3)
        try SplitVerifier.verify(bytes, splitsMax: 40) { decode($0, role: .server, limits: limits) }
    }

    @Test("garbage never traps, and is the same however it is cut", arguments: UInt64(0)..<400)
    func garbage(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let bytes = generator.bytes(Int.random(in: 0...120, using: &generator))
        for role in [WebSocketRole.server, .client] {
            try SplitVerifier.verify(bytes, splitsMax: 30) {
                decode($0, role: role, limits: WebSocketLimits(messageBytesMax: 64, fragmentsMax: 2))
            }
            // With a beginning that is right, so that it gets further.
            let first: [UInt8] = [[0x81, 0x82, 0x88, 0x89, 0x01].randomElement(using: &generator)!, (role == .server ? 0x80 : 0) | 40]
            try SplitVerifier.verify(first + bytes, splitsMax: 30) { decode($0, role: role) }
        }
    }

    @Test("masking in pieces is masking byte by byte, at any alignment", arguments: UInt64(0)..<100)
    func mask(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let key = UInt32.random(in: 0...UInt32.max, using: &generator)
        let plain = generator.bytes(Int.random(in: 0...300, using: &generator))
        let expected = plain.enumerated().map { $1 ^ UInt8(truncatingIfNeeded: key >> UInt32(8 * ($0 % 4))) }
        let shift = Int.random(in: 0..<8, using: &generator)
        var masked = [UInt8](repeating: 0xAA, count: shift) + plain + [0xAA]
        var mask = WebSocketMask(lowestByteFirst: key)
        masked.withUnsafeMutableBytes { bytes in
            var start = shift
            while start < shift + plain.count {
                let end = Int.random(in: start...shift + plain.count, using: &generator)
                mask.apply(to: UnsafeMutableRawBufferPointer(rebasing: bytes[start..<end]))
                start = end
            }
        }
        #expect(masked == [UInt8](repeating: 0xAA, count: shift) + expected + [0xAA])
    }
}
