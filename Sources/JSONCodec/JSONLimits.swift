/// Bounds of a JSON text. Its length is bounded by whoever reads it from the network.
package struct JSONLimits: Sendable {
    /// Arrays and objects inside each other. RFC 8259, section 9, lets a parser bound it. Our own scanner needs one bit a level, but
    /// what we let through is read by clients, and many of their readers recurse. 64 is more than any feed we know needs.
    package var depthMax: Int

    package init(depthMax: Int = 64) {
        precondition(depthMax >= 0, "a limit below zero")
        self.depthMax = depthMax
    }
}
