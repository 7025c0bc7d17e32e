import Glibc

/// System calls on a connection's descriptor, beside the channel that owns it.
enum SystemCall {
    static let sendFlags = Int32(MSG_DONTWAIT | MSG_NOSIGNAL)

    /// - Returns: bytes sent; negative if none could be.
    @inline(__always)
    static func send(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Int {
        Glibc.send(descriptor, bytes.baseAddress, bytes.count, sendFlags)
    }

    /// - Returns: bytes received; 0 at the end, negative if there are none.
    static func receive(_ descriptor: Int32, _ buffer: UnsafeMutableRawBufferPointer) -> Int {
        Glibc.recv(descriptor, buffer.baseAddress, buffer.count, Int32(MSG_DONTWAIT))
    }

    static func shutDownWriting(_ descriptor: Int32) {
        _ = Glibc.shutdown(descriptor, Int32(SHUT_WR))
    }
}
