import CZlib

/// Decompresses messages of permessage-deflate (RFC 7692), each by itself: the peer was told `no_context_takeover`, so nothing is kept
/// from one message to the next, and one inflater serves all connections of an event loop.
///
/// Not Sendable: it belongs to one thread.
package final class MessageInflater {
    private let stream: UnsafeMutablePointer<z_stream>
    private var buffer = [UInt8](repeating: 0, count: 16384)

    package init() {
        stream = .allocate(capacity: 1)
        stream.initialize(to: z_stream())
        precondition(tocsin_inflate_init(stream, -15) == Z_OK, "out of memory")
    }

    deinit {
        inflateEnd(stream)
        stream.deallocate()
    }

    /// The message that the compressed payloads of its frames, one behind the other, stand for.
    ///
    /// - Parameter bytesMax: of the message. What is over it is not even decompressed: it stops within 16 KiB.
    func inflate(_ compressed: [UInt8], bytesMax: Int) throws(WebSocketFault) -> [UInt8] {
        precondition(inflateReset(stream) == Z_OK, "the stream is whole")
        var message: [UInt8] = []
        // The sender cut off the end of its last block (section 7.2.2).
        try inflate(compressed, bytesMax, &message)
        try inflate([0, 0, 0xFF, 0xFF], bytesMax, &message)
        // zlib: just after the end of a block. Else the message was cut off inside one.
        guard stream.pointee.data_type & 128 != 0 else { throw .deflateInvalid }
        return message
    }

    private func inflate(_ input: [UInt8], _ bytesMax: Int, _ message: inout [UInt8]) throws(WebSocketFault) {
        let fault = input.withUnsafeBufferPointer { input -> WebSocketFault? in
            stream.pointee.next_in = UnsafeMutablePointer(mutating: input.baseAddress)
            stream.pointee.avail_in = UInt32(input.count)
            while true {
                let (result, count) = buffer.withUnsafeMutableBufferPointer { buffer -> (Int32, Int) in
                    stream.pointee.next_out = buffer.baseAddress
                    stream.pointee.avail_out = UInt32(buffer.count)
                    let result = CZlib.inflate(stream, Z_SYNC_FLUSH)
                    return (result, buffer.count - Int(stream.pointee.avail_out))
                }
                guard message.count + count <= bytesMax else { return .messageTooBig }
                message.append(contentsOf: buffer[..<count])
                switch result {
                case Z_OK:
                    // A full buffer: there may be more in zlib's own.
                    if stream.pointee.avail_in == 0, stream.pointee.avail_out > 0 { return nil }
                case Z_BUF_ERROR:
                    // Nothing left to do.
                    return stream.pointee.avail_in == 0 ? nil : .deflateInvalid
                case Z_STREAM_END:
                    // A block that says it is the last (section 7.2.3.4); the message goes on with another.
                    guard inflateReset(stream) == Z_OK else { return .deflateInvalid }
                    if stream.pointee.avail_in == 0 { return nil }
                default:
                    return .deflateInvalid
                }
            }
        }
        if let fault { throw fault }
    }
}
