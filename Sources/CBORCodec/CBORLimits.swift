/// Bounds of what is read from a client. The length of the CBOR itself is bounded by whoever reads it from the network.
package struct CBORLimits: Sendable {
    /// Bytes of a bignum (tags 2 and 3). 128 bytes are 1024 bits: every whole number that is within the range of a double. The encoder
    /// keeps to it as well.
    package static let bignumBytesMax = 128

    /// Arrays and maps inside each other. 64, as for JSON, so that the JSON reader behind does not refuse what was let through here.
    package var depthMax: Int
    /// Bytes of the JSON text. 64 KiB: the largest command that may come as JSON.
    package var outputBytesMax: Int

    package init(depthMax: Int = 64, outputBytesMax: Int = 65536) {
        precondition(depthMax >= 0 && outputBytesMax >= 0, "a limit below zero")
        self.depthMax = depthMax
        self.outputBytesMax = outputBytesMax
    }
}
