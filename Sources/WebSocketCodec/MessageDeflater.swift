import CZlib

/// Compresses messages by permessage-deflate (RFC 7692), each by itself (`server_no_context_takeover`): a frame that it makes is good for
/// every peer that negotiated the extension with a window as large as this one's.
///
/// One serves all connections of an event loop; it holds 256 KiB of zlib's with the largest window, 9 KiB with the smallest.
/// Not Sendable: it belongs to one thread.
package final class MessageDeflater {
    /// Shorter messages go out as they are. Measured on notifications of dashboards and scores: below this size DEFLATE without a shared
    /// window saves less than a tenth, and both forms fit one packet.
    package static let payloadBytesMin = 512

    private let stream: UnsafeMutablePointer<z_stream>
    private var buffer: [UInt8] = []

    /// - Parameters:
    ///   - windowBits: 9 to 15, the base-2 logarithm of the window. (8 cannot be had of zlib without its own header.)
    ///   - level: 1 to 9.
    package init(windowBits: Int = 15, level: Int = 6) {
        precondition((9...15).contains(windowBits), "a window of 512 bytes to 32 KiB")
        stream = .allocate(capacity: 1)
        stream.initialize(to: z_stream())
        // A smaller window needs a smaller table of hashes.
        let memoryLevel: Int32 = windowBits < 15 ? 1 : 8
        precondition(tocsin_deflate_init(stream, Int32(level), Int32(-windowBits), memoryLevel) == Z_OK, "out of memory")
    }

    deinit {
        deflateEnd(stream)
        stream.deallocate()
    }

    /// Appends a server's frame with the message: compressed if that makes it shorter, else as it is.
    package func frame(_ opcode: WebSocketOpcode, _ payload: [UInt8], into output: inout [UInt8]) {
        guard payload.count >= Self.payloadBytesMin, let count = compress(payload) else {
            return WebSocketEncoder.frame(opcode, payload, into: &output)
        }
        WebSocketEncoder.frameHeader(opcode, payloadBytes: count, isCompressed: true, into: &output)
        output.append(contentsOf: buffer[..<count])
    }

    /// - Returns: how many bytes of `buffer` are the compressed message; nil if it does not get shorter.
    private func compress(_ payload: [UInt8]) -> Int? {
        // Room for what is worth having, and for the four bytes that are cut off (section 7.2.1). More does not fit on purpose.
        if buffer.count < payload.count + 4 { buffer = [UInt8](repeating: 0, count: payload.count + 4) }
        precondition(deflateReset(stream) == Z_OK, "the stream is whole")
        return payload.withUnsafeBufferPointer { payload in
            buffer.withUnsafeMutableBufferPointer { buffer in
                stream.pointee.next_in = UnsafeMutablePointer(mutating: payload.baseAddress)
                stream.pointee.avail_in = UInt32(payload.count)
                stream.pointee.next_out = buffer.baseAddress
                stream.pointee.avail_out = UInt32(payload.count + 4)
                guard deflate(stream, Z_SYNC_FLUSH) == Z_OK, stream.pointee.avail_in == 0, stream.pointee.avail_out > 0 else {
                    return nil
                }
                let count = payload.count - Int(stream.pointee.avail_out)
                precondition(buffer[count..<count + 4].elementsEqual([0, 0, 0xFF, 0xFF]), "a flush ends with an empty block")
                return count < payload.count ? count : nil
            }
        }
    }
}
