import HTTPTypes
import JSONCodec
import NotificationCore
import Transports

/// What a request to subscribe says, in its target, its body and its fields.
///
/// The first byte chooses what the first line of the rest is: a request target (0), a JSON body (1), or a rate (2). Each line after it
/// is a field, `name: value`.
package func fuzzRequests(_ bytes: UnsafeRawBufferPointer) {
    guard let options = bytes.first else { return }
    var lines = Array(bytes.dropFirst()).parts(0x0a)
    let first = lines.removeFirst()
    let text = String(decoding: first, as: UTF8.self)
    var request = HTTPRequest(method: .get, scheme: "https", authority: "a", path: text)
    for line in lines.prefix(20) {
        let name = line.prefix { $0 != UInt8(ascii: ":") }
        guard let name = HTTPField.Name(String(decoding: name, as: UTF8.self)) else { continue }
        request.headerFields.append(HTTPField(name: name, value: line.dropFirst(name.rawName.utf8.count + 1)))
    }
    for isUpgrade in [false, true] {
        let transport = SubscribeRequest.transport(of: request, isUpgradeToWebSocket: isUpgrade)
        require(isUpgrade == (transport == .webSocket), "another transport")
        _ = SubscribeRequest.accepts(request, transport)
    }
    let limits = SubscribeLimits()
    do throws(Problem) {
        switch options & 3 {
        case 0:
            checkTarget(first)
            guard let items = RequestTarget(text).items else { return }
            check(try SubscribeRequest(request, items: items, limits: limits), limits)
        case 1: check(try SubscribeRequest(request, body: first, limits: limits), limits)
        default:
            if let rate = Rate(text) { checkRate(rate) }
        }
    } catch { check(error) }
}

// MARK: - Targets

/// A target, read as the URL standard says it of bytes: nothing but the bytes of `/`, `?`, `#`, `&`, `=` and `%` means something.
private func checkTarget(_ target: [UInt8]) {
    guard String(validating: target, as: UTF8.self) != nil else { return }
    let found = RequestTarget(String(decoding: target, as: UTF8.self))
    let path = target.prefix { $0 != UInt8(ascii: "?") && $0 != UInt8(ascii: "#") }
    let query = target[path.endIndex...].prefix { $0 != UInt8(ascii: "#") }.dropFirst()
    let segments = Array(path).parts(UInt8(ascii: "/")).dropFirst().map { plainDecoded($0, plusIsSpace: false) }
    require(found.segments?.map(\.bytes) == (segments.contains(nil) ? nil : segments.map { $0! }), "other segments of a path")
    var pairs: [(name: [UInt8]?, value: [UInt8]?)] = []
    for pair in Array(query).parts(UInt8(ascii: "&")) where !pair.isEmpty {
        let name = pair.prefix { $0 != UInt8(ascii: "=") }
        let value = pair.dropFirst(name.count + 1)
        pairs.append((plainDecoded(Array(name), plusIsSpace: true), plainDecoded(Array(value), plusIsSpace: true)))
    }
    guard let items = found.items else {
        return require(pairs.contains { $0.name == nil || $0.value == nil }, "a query is refused")
    }
    require(items.pairs.map(\.name.bytes) == pairs.map { $0.name ?? [] }, "other names in a query")
    require(items.pairs.map(\.value.bytes) == pairs.map { $0.value ?? [] }, "other values in a query")
    let again = QueryItems(items.pairs.map { "\(percentEncoded($0.name))=\(percentEncoded($0.value))" }.joined(separator: "&"))
    require(again?.pairs.map(\.name.bytes) == items.pairs.map(\.name.bytes), "other names when written again")
    require(again?.pairs.map(\.value.bytes) == items.pairs.map(\.value.bytes), "other values when written again")
}

private func plainDecoded(_ bytes: [UInt8], plusIsSpace: Bool) -> [UInt8]? {
    var out: [UInt8] = []
    var rest = bytes[...]
    while let byte = rest.popFirst() {
        if byte == UInt8(ascii: "%") {
            let digits = String(decoding: rest.prefix(2), as: UTF8.self)
            guard rest.count >= 2, digits.allSatisfy(\.isHexDigit), digits.utf8.count == 2, let decoded = UInt8(digits, radix: 16) else {
                return nil
            }
            out.append(decoded)
            rest = rest.dropFirst(2)
        } else {
            out.append(byte == UInt8(ascii: "+") && plusIsSpace ? 0x20 : byte)
        }
    }
    return String(validating: out, as: UTF8.self).map(\.bytes)
}

private func percentEncoded(_ text: String) -> String {
    text.utf8.map { byte in "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16) }.joined()
}

// MARK: - Subscriptions

private func check(_ request: SubscribeRequest, _ limits: SubscribeLimits) {
    require(request.patterns.count <= limits.channelsMax, "too many channels")
    require(request.patterns.allSatisfy { !$0.isReserved }, "a subscription to the server's own channels")
    require((1...limits.heartbeatSecondsMax).contains(request.heartbeatSeconds), "a heartbeat out of its range")
    require((0...limits.paddingMax).contains(request.paddingBytes), "padding out of its range")
    require((0...limits.waitSecondsMax).contains(request.waitSeconds), "a wait out of its range")
    if let rate = request.rate { checkRate(rate) }
    require(request.allPatterns.count == request.patterns.count + (request.user == nil ? 0 : 1), "a user without a channel")
    require(request.readingOptions.isPaced == (request.rate != nil), "paced without a rate")
    var expected = request
    // The rate is kept as an interval, which cannot be written as it was.
    expected.rate = nil
    let plain = HTTPRequest(method: .get, scheme: "https", authority: "a", path: "/")
    do throws(Problem) {
        guard let items = RequestTarget("/v1/subscribe?" + query(request)).items else { preconditionFailure("a written query is refused") }
        requireSame(try SubscribeRequest(plain, items: items, limits: limits), expected, "another subscription in a query")
        requireSame(try SubscribeRequest(plain, body: body(request), limits: limits), expected, "another subscription in a body")
    } catch { preconditionFailure("a written subscription is refused") }
}

private func query(_ request: SubscribeRequest) -> String {
    var items = request.patterns.map { "channel=" + percentEncoded($0.string) }
    if let after = request.after { items.append("after=" + percentEncoded(written(after))) }
    items.append("heartbeat=\(request.heartbeatSeconds)&pad=\(request.paddingBytes)&wait=\(request.waitSeconds)")
    if request.isRaw { items.append("format=raw") }
    if let user = request.user { items.append("user=" + percentEncoded(user.string)) }
    items.append("digest=\(request.isDigest)")
    return items.joined(separator: "&")
}

private func body(_ request: SubscribeRequest) -> [UInt8] {
    var out = #"{"channels":["#.bytes
    for (index, pattern) in request.patterns.enumerated() {
        if index > 0 { out.append(UInt8(ascii: ",")) }
        JSONText.appendString(pattern.string, into: &out)
    }
    out += #"],"heartbeat":\#(request.heartbeatSeconds),"pad":\#(request.paddingBytes),"wait":\#(request.waitSeconds)"#.utf8
    func member(_ name: String, _ text: String?) {
        guard let text else { return }
        out += ",\"\(name)\":".utf8
        JSONText.appendString(text, into: &out)
    }
    member("after", request.after.map(written))
    member("format", request.isRaw ? "raw" : nil)
    member("user", request.user?.string)
    return out + ",\"digest\":\(request.isDigest)}".utf8
}
