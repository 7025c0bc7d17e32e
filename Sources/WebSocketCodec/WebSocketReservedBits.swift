/// The bits RSV1 to RSV3 of a frame's first byte, which mean something only when an extension was negotiated (RFC 6455 section 5.2).
struct WebSocketReservedBits: OptionSet, Sendable {
    let rawValue: UInt8

    /// "Compressed" for permessage-deflate (RFC 7692 section 6).
    static let rsv1 = WebSocketReservedBits(rawValue: 0x40)
    static let rsv2 = WebSocketReservedBits(rawValue: 0x20)
    static let rsv3 = WebSocketReservedBits(rawValue: 0x10)

    static let all: WebSocketReservedBits = [.rsv1, .rsv2, .rsv3]
}
