import TestSupport
import Testing
import WebSocketCodec

@Suite("WebSocket: decoder")
struct DecoderTests {
    static let key: UInt32 = 0x37FA_213D

    static func masked(_ opcode: WebSocketOpcode, _ payload: [UInt8], fin: Bool = true) -> [UInt8] {
        var bytes: [UInt8] = []
        WebSocketEncoder.maskedFrame(opcode, payload: payload, fin: fin, maskingKey: key, into: &bytes)
        return bytes
    }

    @Test("an idle decoder is small")
    func size() {
        #expect(MemoryLayout<WebSocketDecoder>.size <= 72)
    }

    @Test("every first byte is right or refused as the RFC says", arguments: UInt8(0)...255)
    func firstByte(_ byte: UInt8) {
        let expected: WebSocketFault? =
            switch (byte & 0x70, byte & 0x0F, byte & 0x80 != 0) {
            case (1..., _, _): .reservedBits
            case (_, 3...7, _), (_, 11...15, _): .reservedOpcode(byte & 0x0F)
            case (_, 8...10, false): .controlFragmented
            case (_, 0, _): .continuationUnexpected
            default: nil
            }
        let outputs = decode([[byte]], role: .server)
        #expect(outputs == (expected.map { [.fault($0)] } ?? []))
    }

    @Test("inside a message every first byte is right or refused as the RFC says", arguments: UInt8(0)...255)
    func firstByteInsideMessage(_ byte: UInt8) {
        let expected: WebSocketFault? =
            switch (byte & 0x70, byte & 0x0F, byte & 0x80 != 0) {
            case (1..., _, _): .reservedBits
            case (_, 3...7, _), (_, 11...15, _): .reservedOpcode(byte & 0x0F)
            case (_, 8...10, false): .controlFragmented
            case (_, 1...2, _): .continuationExpected
            default: nil
            }
        let outputs = decode([Self.masked(.text, [], fin: false), [byte]], role: .server)
        #expect(outputs == (expected.map { [.fault($0)] } ?? []))
    }

    @Test("a second byte has to have the mask bit of its role", arguments: UInt8(0)...255)
    func secondByte(_ byte: UInt8) {
        let isMasked = byte & 0x80 != 0
        let tooLong = byte & 0x7F > 125
        let toServer = decode([[0x89, byte]], role: .server)
        #expect(toServer == (!isMasked ? [.fault(.maskMissing)] : tooLong ? [.fault(.controlTooLong)] : []))
        let toClient = decode([[0x89, byte]], role: .client)
        let empty: [Output] = byte == 0 ? [.event(.ping([]))] : []
        #expect(toClient == (isMasked ? [.fault(.maskUnexpected)] : tooLong ? [.fault(.controlTooLong)] : empty))
    }

    @Test("every close code is right or refused as the registry says")
    func closeCodes() {
        let good = Set((1000...1003).map(UInt16.init) + (1007...1014).map(UInt16.init) + (3000...4999).map(UInt16.init))
        for code in UInt16.min...UInt16.max {
            let bytes: [UInt8] = [0x88, 2, UInt8(code >> 8), UInt8(code & 0xFF)]
            let expected: Output =
                good.contains(code)
                ? .event(.close(WebSocketCloseCode(rawValue: code), reason: "")) : .fault(.closeCodeInvalid(code))
            let outputs = decode([bytes], role: .client)
            if outputs != [expected] { Issue.record("\(code): \(outputs)") }
        }
    }

    @Test(
        "every length around the borders of its forms comes through",
        arguments: [0, 1, 3, 4, 5, 7, 8, 9, 31, 32, 33, 63, 64, 65, 124, 125, 126, 127, 255, 256, 65534, 65535, 65536, 70000]
    )
    func lengths(_ count: Int) throws {
        var generator = SeededGenerator(seed: UInt64(count))
        let payload = generator.bytes(count)
        let limits = WebSocketLimits(messageBytesMax: 70000)
        let bytes = Self.masked(.binary, payload)
        #expect(bytes.count == count + (count < 126 ? 6 : count < 65536 ? 8 : 14))
        let outputs = try SplitVerifier.verify(bytes, splitsMax: 20) { decode($0, role: .server, limits: limits) }
        #expect(outputs == [.event(.binary(payload))])

        var unmasked: [UInt8] = []
        WebSocketEncoder.frame(.binary, payload, into: &unmasked)
        #expect(decode([unmasked], role: .client, limits: limits) == [.event(.binary(payload))])
    }

    @Test("a message above the limit is refused at the last byte of its length")
    func overLimit() {
        let limits = WebSocketLimits(messageBytesMax: 1000)
        var decoder = WebSocketDecoder(role: .server, limits: limits)
        #expect(decoder.feed([0x82, 0xFE, 0x03]).isEmpty)
        #expect(decoder.feed([0xE9]) == [.fault(.messageTooBig)])
        #expect(decoder.isFinished && decoder.isIdle)
        #expect(decode([[0x82, 0xFE, 0x03, 0xE8]], role: .server, limits: limits).isEmpty)
    }

    @Test("control frames between fragments do not count as fragments, and their bytes do not count as the message's")
    func controlsDoNotCount() {
        let limits = WebSocketLimits(messageBytesMax: 4, fragmentsMax: 2)
        var bytes = Self.masked(.binary, [1, 2], fin: false)
        for _ in 0..<10 { bytes += Self.masked(.ping, [9, 9, 9, 9, 9, 9]) }
        bytes += Self.masked(.continuation, [3, 4])
        let outputs = decode([bytes], role: .server, limits: limits)
        #expect(outputs.count == 11)
        #expect(outputs.last == .event(.binary([1, 2, 3, 4])))
    }

    @Test("the limits hold for each message anew")
    func limitsAnew() {
        let limits = WebSocketLimits(messageBytesMax: 4, fragmentsMax: 2)
        let message = Self.masked(.binary, [1, 2], fin: false) + Self.masked(.continuation, [3, 4])
        let outputs = decode([message + message + message], role: .server, limits: limits)
        #expect(outputs == Array(repeating: .event(.binary([1, 2, 3, 4])), count: 3))
    }

    @Test("endless empty continuations are stopped")
    func endlessContinuations() {
        var decoder = WebSocketDecoder(role: .server)
        var fed = 0
        var outputs = decoder.feed(Self.masked(.text, [], fin: false))
        while outputs.isEmpty, fed < 5000 {
            outputs = decoder.feed(Self.masked(.continuation, [], fin: false))
            fed += 1
        }
        #expect(outputs == [.fault(.tooManyFragments)])
        #expect(fed == WebSocketLimits().fragmentsMax)
    }

    @Test("idle is only what waits for nothing")
    func idle() {
        var decoder = WebSocketDecoder(role: .server)
        #expect(decoder.isIdle)
        let bytes = Self.masked(.text, [0x61], fin: false) + Self.masked(.ping, [0x62]) + Self.masked(.continuation, [0x63])
        for byte in bytes.dropLast() {
            _ = decoder.feed([byte])
            #expect(!decoder.isIdle)
        }
        #expect(decoder.feed([bytes.last!]) == [.event(.text([0x61, 0x63]))])
        #expect(decoder.isIdle && !decoder.isFinished)
    }

    @Test("an input of no bytes does nothing, in any phase")
    func emptyInput() throws {
        var decoder = WebSocketDecoder(role: .server)
        for byte in Self.masked(.text, Array("Hello".utf8)) {
            var consumed = 7
            #expect(try decoder.next(UnsafeMutableRawBufferPointer(start: nil, count: 0), consumed: &consumed) == nil)
            #expect(consumed == 7)
            _ = decoder.feed([byte])
        }
        #expect(decoder.isIdle)
    }

    @Test("a fault tells a code and a reason that fit a close frame")
    func faults() {
        let faults: [WebSocketFault] = [
            .reservedBits, .reservedOpcode(15), .maskMissing, .maskUnexpected, .lengthNotMinimal, .lengthNegative, .controlTooLong,
            .controlFragmented, .continuationUnexpected, .continuationExpected, .messageTooBig, .tooManyFragments, .textNotUTF8,
            .closePayloadTooShort, .closeCodeInvalid(65535), .closeReasonNotUTF8,
        ]
        for fault in faults {
            var bytes: [UInt8] = []
            WebSocketEncoder.close(fault.closeCode, reason: fault.reason, into: &bytes)
            #expect(decode([bytes], role: .client) == [.event(.close(fault.closeCode, reason: fault.reason))])
        }
        #expect(Set(faults.map(\.closeCode.rawValue)) == [1002, 1007, 1009])
        #expect(Set(faults.map(\.reason)).count == faults.count)
    }
}
