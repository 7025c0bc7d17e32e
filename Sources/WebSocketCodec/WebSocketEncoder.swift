/// Writes frames (RFC 6455 section 5.2) at the end of a byte array. Whole messages only: what Tocsin sends is at hand before it is sent.
///
/// A server's frames are not masked, so one frame's bytes serve every subscriber; a client masks each of its own with a fresh key.
package enum WebSocketEncoder {
    /// The header of a server's frame; the payload has to follow.
    ///
    /// - Parameters:
    ///   - payloadBytes: at most 125 for a control frame, which cannot be fragmented either.
    ///   - fin: false if fragments follow.
    ///   - isCompressed: the payload is of permessage-deflate (RFC 7692 section 6): RSV1 says so.
    package static func frameHeader(
        _ opcode: WebSocketOpcode, payloadBytes: Int, fin: Bool = true, isCompressed: Bool = false, into output: inout [UInt8]
    ) {
        let start = output.count
        appendHeader(opcode, payloadBytes: payloadBytes, fin: fin, maskBit: 0, into: &output)
        if isCompressed { output[start] |= WebSocketReservedBits.rsv1.rawValue }
    }

    /// A server's frame.
    package static func frame(_ opcode: WebSocketOpcode, _ payload: UnsafeRawBufferPointer, into output: inout [UInt8]) {
        frameHeader(opcode, payloadBytes: payload.count, into: &output)
        output.append(contentsOf: payload)
    }

    /// A server's frame.
    package static func frame(_ opcode: WebSocketOpcode, _ payload: [UInt8], into output: inout [UInt8]) {
        frameHeader(opcode, payloadBytes: payload.count, into: &output)
        output.append(contentsOf: payload)
    }

    /// A client's frame.
    ///
    /// - Parameters:
    ///   - fin: false if fragments follow.
    ///   - maskingKey: unpredictable, and fresh for each frame (section 10.3). Its highest byte is the first on the wire.
    package static func maskedFrame(
        _ opcode: WebSocketOpcode,
        payload: [UInt8],
        fin: Bool = true,
        maskingKey: UInt32,
        into output: inout [UInt8]
    ) {
        appendHeader(opcode, payloadBytes: payload.count, fin: fin, maskBit: 0x80, into: &output)
        withUnsafeBytes(of: maskingKey.bigEndian) { output.append(contentsOf: $0) }
        let start = output.count
        output.append(contentsOf: payload)
        var mask = WebSocketMask(lowestByteFirst: maskingKey.byteSwapped)
        output.withUnsafeMutableBytes { mask.apply(to: UnsafeMutableRawBufferPointer(rebasing: $0[start...])) }
    }

    /// A server's close frame.
    ///
    /// - Parameters:
    ///   - code: valid on the wire; nil for an empty close frame, the answer to an empty one.
    ///   - reason: cut to its first 123 bytes, at a character boundary. Empty if there is no code.
    package static func close(_ code: WebSocketCloseCode?, reason: String = "", into output: inout [UInt8]) {
        frame(.close, closePayload(code, reason: reason), into: &output)
    }

    /// A client's close frame; see `close` and `maskedFrame`.
    package static func maskedClose(
        _ code: WebSocketCloseCode?,
        reason: String = "",
        maskingKey: UInt32,
        into output: inout [UInt8]
    ) {
        maskedFrame(.close, payload: closePayload(code, reason: reason), maskingKey: maskingKey, into: &output)
    }

    private static func appendHeader(
        _ opcode: WebSocketOpcode,
        payloadBytes: Int,
        fin: Bool,
        maskBit: UInt8,
        into output: inout [UInt8]
    ) {
        precondition(payloadBytes >= 0, "a payload of fewer than no bytes")
        if opcode.isControl {
            precondition(fin, "a control frame cannot be fragmented")
            precondition(payloadBytes <= controlPayloadBytesMax, "a control frame holds at most 125 bytes")
        }
        output.append((fin ? 0x80 : 0) | opcode.rawValue)
        switch payloadBytes {
        case ...125:
            output.append(maskBit | UInt8(payloadBytes))
        case ...0xFFFF:
            output.append(maskBit | 126)
            withUnsafeBytes(of: UInt16(payloadBytes).bigEndian) { output.append(contentsOf: $0) }
        default:
            output.append(maskBit | 127)
            withUnsafeBytes(of: UInt64(payloadBytes).bigEndian) { output.append(contentsOf: $0) }
        }
    }

    private static func closePayload(_ code: WebSocketCloseCode?, reason: String) -> [UInt8] {
        guard let code else {
            precondition(reason.isEmpty, "a close reason needs a code")
            return []
        }
        precondition(code.isValidOnWire, "close code \(code.rawValue) must not be sent")
        var payload = [UInt8(code.rawValue >> 8), UInt8(code.rawValue & 0xFF)]
        guard reason.utf8.count > controlPayloadBytesMax - 2 else { return payload + Array(reason.utf8) }
        for character in reason {
            guard payload.count + character.utf8.count <= controlPayloadBytesMax else { break }
            payload.append(contentsOf: character.utf8)
        }
        return payload
    }
}
