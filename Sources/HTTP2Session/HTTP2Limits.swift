/// The bounds of one HTTP/2 connection. What a peer may make this side keep or do is bounded by these alone.
package struct HTTP2Limits: Sendable {
    /// Requests that may be open at once (SETTINGS_MAX_CONCURRENT_STREAMS). RFC 9113 6.5.2 asks for at least 100; a page of
    /// dashboards may hold one stream per widget, so a little more.
    package var concurrentStreamsMax: UInt32 = 128

    /// Decoded bytes of one header list, each field counted as name + value + 32 (SETTINGS_MAX_HEADER_LIST_SIZE, RFC 9113 6.5.2).
    /// Over it: `headersTooLarge`. Over four times it the stream is reset (ENHANCE_YOUR_CALM), so that a block of references to one
    /// big table entry cannot buy endless work.
    package var headerListBytesMax = 16384

    /// Fields of one header list, pseudo-header fields included.
    package var headerFieldsMax = 100

    /// Our receive window for each stream (SETTINGS_INITIAL_WINDOW_SIZE), in bytes. The RFC's own default.
    package var initialWindowBytes: UInt32 = 65535

    /// Our receive window for the connection, in bytes. It is handed back as soon as bytes have become events, so it bounds no
    /// memory; it lets one publisher fill a link of 10 ms and 800 Mbit/s.
    package var connectionWindowBytes: Int32 = 1 << 20

    /// Body of one request, in bytes. Over it: `bodyTooLong`.
    package var bodyBytesMax = 16 << 20

    /// Longest frame that the peer may send (SETTINGS_MAX_FRAME_SIZE), 16384 ... 16777215 bytes.
    package var frameBytesMax: UInt32 = 16384

    /// RST_STREAM frames allowed at once, counted apart for those received (rapid reset, CVE-2023-44487) and those that the peer
    /// makes us send (CVE-2025-8671). nghttp2's own default for the former.
    package var resetBurst: Int32 = 1000

    /// RST_STREAM frames allowed per second in the long run, again for each direction. nghttp2's default.
    package var resetsPerSecond: Int32 = 33

    /// Frames that achieve nothing (PING, SETTINGS, DATA without bytes) allowed at once (CVE-2019-9512, 9515, 9518). PRIORITY and unknown
    /// frames are not among them: nghttp2 skips their bytes and keeps nothing.
    package var idleFramesBurst: Int32 = 1000

    /// The same per second in the long run: a browser sends some PINGs a minute.
    package var idleFramesPerSecond: Int32 = 200

    /// PING and SETTINGS acknowledgements that may wait for a peer who does not read. nghttp2's default is 1000, some 150 bytes each;
    /// an honest peer has one or two under way.
    package var outboundAcksMax = 256

    /// Frames other than DATA that may wait for a peer who does not read: answers' heads for all streams, and resets.
    package var outboundFramesMax = 1500

    /// Entries of one SETTINGS frame. nghttp2's default.
    package var settingsEntriesMax = 32

    /// CONTINUATION frames after one HEADERS frame (CVE-2024-28182). nghttp2's default.
    package var continuationsMax = 8

    /// HPACK table of our decoder, in bytes (SETTINGS_HEADER_TABLE_SIZE): how much of the peer's headers an idle connection keeps.
    package var decoderTableBytesMax: UInt32 = 4096

    /// HPACK table of our encoder, in bytes. Answers repeat a handful of short fields; a small table holds them.
    package var encoderTableBytesMax = 1024

    /// Whether extended CONNECT is offered (SETTINGS_ENABLE_CONNECT_PROTOCOL, RFC 8441).
    package var allowsExtendedConnect = true

    package init() {}
}
