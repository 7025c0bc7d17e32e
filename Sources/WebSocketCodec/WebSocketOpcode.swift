/// What a frame is (RFC 6455 sections 5.2 and 11.8). The other ten values are reserved and refused.
package enum WebSocketOpcode: UInt8, Equatable, Sendable {
    case continuation = 0x0
    case text = 0x1
    case binary = 0x2
    case close = 0x8
    case ping = 0x9
    case pong = 0xA

    /// Control frames carry at most 125 bytes, are never fragmented, and may stand between the fragments of a message (section 5.5).
    package var isControl: Bool { rawValue & 0x8 != 0 }
}

/// The largest payload of a control frame (RFC 6455 section 5.5).
let controlPayloadBytesMax = 125
