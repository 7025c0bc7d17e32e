/// What one peer may make a decoder hold.
package struct WebSocketLimits: Equatable, Sendable {
    /// The largest message, in payload bytes over all its fragments.
    ///
    /// 64 KiB: what a subscriber sends is a command of some hundred bytes, or a `publish` of a notification of a few KiB.
    /// It also bounds what an attacker can park in a half-sent message: 10 000 such connections hold about 1 GiB (an array that grows
    /// has up to twice its size), and only after they have really sent 640 MiB.
    package var messageBytesMax: Int

    /// The largest number of frames of one message.
    ///
    /// 1024: a message of 64 KiB in fragments of 64 bytes, the smallest that the Autobahn suite uses. Without it an endless row of empty
    /// continuation frames would stay below any limit of bytes.
    package var fragmentsMax: Int

    /// - Parameters:
    ///   - messageBytesMax: at least 0.
    ///   - fragmentsMax: at least 1.
    package init(messageBytesMax: Int = 65536, fragmentsMax: Int = 1024) {
        precondition(messageBytesMax >= 0, "a message limit below zero")
        precondition(fragmentsMax >= 1, "a fragment limit below one lets no message through")
        self.messageBytesMax = messageBytesMax
        self.fragmentsMax = fragmentsMax
    }
}
