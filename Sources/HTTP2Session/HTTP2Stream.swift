/// Our state of one open stream: 80 bytes with the object header. nghttp2 holds a pointer to it as the stream's user data and as its
/// data source; the session's table owns it from the first header frame until the stream is closed.
final class HTTP2Stream {
    struct Flags: OptionSet {
        let rawValue: UInt8
        /// The owner was told of this stream, so it has to be told of its end.
        static let announced = Flags(rawValue: 1 << 0)
        /// Our head was submitted.
        static let answered = Flags(rawValue: 1 << 1)
        /// END_STREAM goes out after the pending bytes.
        static let finishing = Flags(rawValue: 1 << 2)
        /// An offer was refused, so `windowOpen` is due.
        static let refused = Flags(rawValue: 1 << 3)
        /// The peer has sent END_STREAM.
        static let peerEnded = Flags(rawValue: 1 << 4)
        /// What the peer still sends on it is thrown away.
        static let discarding = Flags(rawValue: 1 << 5)
        /// A tunnel (CONNECT): its bytes have no limit of length.
        static let tunnel = Flags(rawValue: 1 << 6)
        /// It takes turns with its siblings, frame by frame.
        static let incremental = Flags(rawValue: 1 << 7)
    }

    let id: HTTP2StreamID
    var flags: Flags = []
    /// The `send` that can take the pending bytes without their having waited; numbers wrap around.
    var offeredFor: UInt32 = 0
    /// Bytes of its window that nghttp2 does not know to be taken: see `HTTP2Engine.reserve`.
    var debt: Int32 = 0
    /// Bytes on their way out, shared with whoever offered them, and which of them are left.
    var pending: [UInt8] = []
    var pendingStart = 0
    var pendingEnd = 0
    var receivedBytes = 0

    init(id: HTTP2StreamID) {
        self.id = id
    }

    var pendingCount: Int { pendingEnd - pendingStart }

    func keep(_ bytes: [UInt8], _ range: Range<Int>, for send: UInt32) {
        precondition(range.lowerBound >= 0 && range.upperBound <= bytes.count, "the range is inside the bytes")
        pending = bytes
        pendingStart = range.lowerBound
        pendingEnd = range.upperBound
        offeredFor = send
    }
}
