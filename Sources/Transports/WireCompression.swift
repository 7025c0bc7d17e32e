package import WebSocketCodec

/// What the connections of a thread share for permessage-deflate; made when first needed. Not Sendable: it belongs to one thread.
package final class WireCompression {
    package private(set) lazy var inflater = MessageInflater()
    private(set) lazy var deflater = MessageDeflater()
    /// With the smallest window, good for whatever a client asked for.
    private(set) lazy var smallDeflater = MessageDeflater(windowBits: 9)

    package init() {}
}
