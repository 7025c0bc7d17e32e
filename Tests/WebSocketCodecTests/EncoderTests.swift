import Testing
import WebSocketCodec

@Suite("WebSocket: encoder")
struct EncoderTests {
    @Test("the frames of RFC 6455 section 5.7 are written as they stand there")
    func examples() {
        var bytes: [UInt8] = []
        WebSocketEncoder.frame(.text, Array("Hello".utf8), into: &bytes)
        #expect(bytes == hex("81 05 48 65 6c 6c 6f"))

        bytes = []
        WebSocketEncoder.maskedFrame(.text, payload: Array("Hello".utf8), maskingKey: 0x37FA_213D, into: &bytes)
        #expect(bytes == hex("81 85 37 fa 21 3d 7f 9f 4d 51 58"))

        bytes = []
        WebSocketEncoder.frameHeader(.text, payloadBytes: 3, fin: false, into: &bytes)
        bytes += Array("Hel".utf8)
        WebSocketEncoder.frame(.continuation, Array("lo".utf8), into: &bytes)
        #expect(bytes == hex("01 03 48 65 6c 80 02 6c 6f"))

        bytes = []
        WebSocketEncoder.frame(.ping, Array("Hello".utf8), into: &bytes)
        #expect(bytes == hex("89 05 48 65 6c 6c 6f"))

        bytes = []
        WebSocketEncoder.frameHeader(.binary, payloadBytes: 256, into: &bytes)
        WebSocketEncoder.frameHeader(.binary, payloadBytes: 65536, into: &bytes)
        #expect(bytes == hex("82 7E 0100 82 7F 0000000000010000"))
    }

    @Test("frames go behind what is there")
    func appends() {
        var bytes: [UInt8] = [1, 2, 3]
        [UInt8]("ab".utf8).withUnsafeBytes { WebSocketEncoder.frame(.text, $0, into: &bytes) }
        WebSocketEncoder.maskedFrame(.text, payload: [], maskingKey: 0x0102_0304, into: &bytes)
        #expect(bytes == hex("010203 8102 6162 8180 01020304"))
    }

    @Test("a close frame has a code and a reason, or nothing")
    func close() {
        var bytes: [UInt8] = []
        WebSocketEncoder.close(.serviceRestart, reason: "drain", into: &bytes)
        #expect(bytes == hex("88 07 03f4 6472 6169 6e"))
        bytes = []
        WebSocketEncoder.close(.normalClosure, into: &bytes)
        #expect(bytes == hex("88 02 03e8"))
        bytes = []
        WebSocketEncoder.close(nil, into: &bytes)
        #expect(bytes == hex("88 00"))
        bytes = []
        WebSocketEncoder.maskedClose(.normalClosure, reason: "bye", maskingKey: 0x1122_3344, into: &bytes)
        #expect(decode([bytes], role: .server) == [.event(.close(.normalClosure, reason: "bye"))])
    }

    @Test(
        "a long close reason is cut at a character's border",
        arguments: [
            (String(repeating: "x", count: 123), 123),
            (String(repeating: "x", count: 124), 123),
            (String(repeating: "€", count: 41), 123),
            (String(repeating: "€", count: 42), 123),
            ("x" + String(repeating: "€", count: 41), 121),
            (String(repeating: "👩‍👩‍👧‍👦", count: 5), 100),
            ("a" + String(repeating: "\u{301}", count: 100), 0),
        ]
    )
    func longReason(_ reason: String, count: Int) {
        var bytes: [UInt8] = []
        WebSocketEncoder.close(.goingAway, reason: reason, into: &bytes)
        #expect(bytes.count == 4 + count)
        let outputs = decode([bytes], role: .client)
        guard case .event(.close(.goingAway, let cut))? = outputs.first else {
            Issue.record("\(outputs)")
            return
        }
        #expect(cut.utf8.count == count)
        #expect(reason.hasPrefix(cut))
    }
}
