import TestSupport
import Testing

@testable import WebSocketCodec

@Suite("WebSocket: permessage-deflate")
struct DeflateTests {
    static func accept(_ offers: String...) throws -> String? {
        PerMessageDeflate.accept(try WebSocketHandshake.extensions(offers))?.answer
    }

    static let plain = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

    @Test("offers that can be served are answered with the first of them (RFC 7692 section 7.1)")
    func offers() throws {
        #expect(try Self.accept("permessage-deflate") == Self.plain)
        #expect(try Self.accept("permessage-deflate; client_max_window_bits") == Self.plain)
        #expect(try Self.accept("permessage-deflate;client_max_window_bits=\"10\" ; server_no_context_takeover") == Self.plain)
        #expect(
            try Self.accept("x-other; a=1, permessage-deflate; server_max_window_bits=10") == Self.plain + "; server_max_window_bits=10")
        #expect(
            try Self.accept("permessage-deflate; server_max_window_bits=8", ", permessage-deflate; server_max_window_bits=15,")
                == Self.plain + "; server_max_window_bits=15")
        #expect(try Self.accept("permessage-deflate; server_max_window_bits=9, permessage-deflate")?.hasSuffix("bits=9") == true)
    }

    @Test(
        "an offer with a parameter unknown, twice, or of a wrong value is declined",
        arguments: [
            "", "permessage-foo", "permessage-deflate; nothing", "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=16", "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=010", "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=+9", "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_max_window_bits=0", "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "PERMESSAGE-DEFLATE",
        ]
    )
    func declined(_ offer: String) throws {
        #expect(try Self.accept(offer) == nil)
    }

    @Test(
        "what is no list of extensions is refused",
        arguments: [
            "permessage-deflate;", "permessage-deflate; =1", "permessage-deflate; a=", "permessage-deflate; a=\"\"",
            "permessage-deflate; a=\"x", "a b", "a=1", "permessage-deflate; a=\"x y\"", "\"a\"", ";", "a;b=\"c\"d", "é",
        ]
    )
    func malformed(_ offer: String) {
        #expect(throws: WebSocketHandshake.Refusal.badExtensions) { try Self.accept(offer) }
    }

    @Test("far too many offers or parameters are refused")
    func many() {
        #expect(throws: WebSocketHandshake.Refusal.badExtensions) {
            try Self.accept(Array(repeating: "a", count: 17).joined(separator: ","))
        }
        #expect(throws: WebSocketHandshake.Refusal.badExtensions) {
            try Self.accept("a" + String(repeating: "; b=c", count: 17))
        }
    }

    /// What a client reads of a server's bytes.
    static func read(_ bytes: [UInt8], limit: Int = 1 << 20, inflater: MessageInflater? = MessageInflater()) throws -> [WebSocketEvent] {
        var decoder = WebSocketDecoder(role: .client, limits: WebSocketLimits(messageBytesMax: limit), inflater: inflater)
        var events: [WebSocketEvent] = []
        var input = bytes
        try input.withUnsafeMutableBytes { buffer in
            var consumed = 0
            while true {
                var taken = 0
                let event = try decoder.next(UnsafeMutableRawBufferPointer(rebasing: buffer[consumed...]), consumed: &taken)
                consumed += taken
                guard let event else { break }
                events.append(event)
            }
        }
        return events
    }

    static func compressed(_ payload: [UInt8], opcode: WebSocketOpcode = .text) -> [UInt8] {
        var out: [UInt8] = []
        WebSocketEncoder.frameHeader(opcode, payloadBytes: payload.count, isCompressed: true, into: &out)
        return out + payload
    }

    @Test("what is compressed is read again, with any window; each message by itself", arguments: 9...15)
    func roundTrip(_ bits: Int) throws {
        let deflater = MessageDeflater(windowBits: bits)
        var random = SeededRandom(seed: UInt64(bits))
        var out: [UInt8] = []
        var messages: [[UInt8]] = []
        for size in [0, 1, 511, 512, 513, 4000, 40_000, 300_000] {
            let text = (0..<size).map { _ in UInt8.random(in: 0x61...0x64, using: &random) }
            let noise = (0..<size).map { _ in UInt8.random(in: 0...255, using: &random) }
            for payload in [text, noise] {
                deflater.frame(.binary, payload, into: &out)
                messages.append(payload)
            }
        }
        #expect(out.count < messages.reduce(0) { $0 + $1.count + 10 })
        #expect(try Self.read(out) == messages.map { .binary($0) })
        // The last one alone: nothing of the others is needed.
        var alone: [UInt8] = []
        deflater.frame(.binary, messages[14], into: &alone)
        #expect(alone.count < 300_000 / 2)
        #expect(try Self.read(alone) == [.binary(messages[14])])
    }

    @Test("short messages, and those that do not get shorter, go out as they are")
    func small() {
        let deflater = MessageDeflater()
        for payload in [Array(repeating: UInt8(1), count: 511), (0..<600).map { UInt8(truncatingIfNeeded: $0 &* 167 &+ $0 / 256) }] {
            var expected: [UInt8] = []
            var out: [UInt8] = []
            WebSocketEncoder.frame(.binary, payload, into: &expected)
            deflater.frame(.binary, payload, into: &out)
            if payload.count < MessageDeflater.payloadBytesMin || out.count >= expected.count { #expect(out == expected) }
            #expect(out.count <= expected.count)
        }
    }

    @Test("the examples of RFC 7692 section 7.2.3 are read")
    func examples() throws {
        let hello = WebSocketEvent.text(Array("Hello".utf8))
        // One block; a stored block; a last block; two blocks; in two fragments.
        #expect(try Self.read(Self.compressed([0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00])) == [hello])
        #expect(try Self.read(Self.compressed([0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00])) == [hello])
        #expect(try Self.read(Self.compressed([0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00])) == [hello])
        #expect(
            try Self.read(Self.compressed([0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00])) == [hello])
        #expect(try Self.read([0x41, 0x03, 0xF2, 0x48, 0xCD, 0x80, 0x04, 0xC9, 0xC9, 0x07, 0x00]) == [hello])
        #expect(try Self.read(Self.compressed([0x00])) == [.text([])])
    }

    @Test("RSV1 stands on the first frame of a message only, and only where it was agreed on (section 6.1)")
    func reservedBit() {
        let frames: [[UInt8]] = [
            [0xC9, 0x00], [0xC8, 0x00], [0x01, 0x01, 0x61, 0xC0, 0x01, 0x62], [0x41, 0x01, 0x00, 0xC0, 0x00], [0xA1, 0x00], [0xD1, 0x00],
        ]
        for frame in frames { #expect(throws: WebSocketFault.reservedBits) { try Self.read(frame) } }
        #expect(throws: WebSocketFault.reservedBits) { try Self.read(Self.compressed([0x00]), inflater: nil) }
    }

    @Test("what is not DEFLATE, or ends inside a block, is refused with 1007")
    func invalid() {
        for payload in [[], [0xFF], [0x07, 0x00], [0xF2, 0x48, 0xCD], [0x00, 0x09, 0x00, 0xF6, 0xFF, 0x48]] as [[UInt8]] {
            #expect(throws: WebSocketFault.deflateInvalid) { try Self.read(Self.compressed(payload)) }
        }
        #expect(WebSocketFault.deflateInvalid.closeCode == .invalidPayload)
        // Inflated text has to be UTF-8 as well.
        #expect(throws: WebSocketFault.textNotUTF8) { try Self.read(Self.compressed([0x00, 0x01, 0x00, 0xFE, 0xFF, 0xFF, 0x00])) }
    }

    @Test("a bomb is stopped at the limit of the decompressed size")
    func bomb() {
        var out: [UInt8] = []
        MessageDeflater(level: 9).frame(.binary, [UInt8](repeating: 0, count: 64 << 20), into: &out)
        #expect(out.count < 70_000)
        #expect(throws: WebSocketFault.messageTooBig) { try Self.read(out, limit: 1 << 20) }
        #expect(throws: WebSocketFault.messageTooBig) { try Self.read(out, limit: (64 << 20) - 1) }
        #expect((try? Self.read(out, limit: 64 << 20).count) == 1)
    }
}
