/// What libFuzzer is pointed at: one target a codec.
///
/// A target takes any bytes. It checks what has to hold for all of them: the same events however the network cuts the bytes; what is
/// accepted can be written again and then reads the same; where a second, slower reading of the grammar stands here, both agree. What
/// does not hold traps with a word, so a target needs no harness but one that notices the end of the process.
///
/// The raw value is the name of its folder in `Fixtures/Fuzz` and of its executable, `Fuzz` before it.
package enum FuzzTarget: String, CaseIterable, Sendable {
    case json = "JSON"
    case cbor = "CBOR"
    case webSocket = "WebSocket"
    case eventStream = "EventStream"
    case http1Request = "HTTP1Request"
    case http1Response = "HTTP1Response"
    case http2 = "HTTP2"
    case commands = "Commands"
    case requests = "Requests"
    case names = "Names"

    package func run(_ bytes: UnsafeRawBufferPointer) {
        switch self {
        case .json: fuzzJSON(bytes)
        case .cbor: fuzzCBOR(bytes)
        case .webSocket: fuzzWebSocket(bytes)
        case .eventStream: fuzzEventStream(bytes)
        case .http1Request: fuzzHTTP1Request(bytes)
        case .http1Response: fuzzHTTP1Response(bytes)
        case .http2: fuzzHTTP2(bytes)
        case .commands: fuzzCommands(bytes)
        case .requests: fuzzRequests(bytes)
        case .names: fuzzNames(bytes)
        }
    }
}
