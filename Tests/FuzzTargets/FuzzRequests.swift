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
    require(!request.subscriptions.isEmpty, "no subscription at all")
    require(request.isList || request.subscriptions.count == 1, "a list that is none")
    let own = request.allPatterns(0).count - request.subscriptions[0].patterns.count
    require(own == (request.user == nil ? 0 : 1), "a user without a channel")
    var expected = request
    for (index, subscription) in request.subscriptions.enumerated() {
        if let rate = subscription.rate { checkRate(rate) }
        // The rate is kept as an interval, which cannot be written as it was.
        expected.subscriptions[index].rate = nil
    }
    if request.isList {
        for (index, pattern) in request.patterns.enumerated() {
            require(!request.patterns[..<index].contains { $0.overlaps(pattern) }, "subscriptions overlap")
        }
    }
    let plain = HTTPRequest(method: .get, scheme: "https", authority: "a", path: "/")
    do throws(Problem) {
        guard let items = RequestTarget("/v1/subscribe?" + query(request)).items else { preconditionFailure("a written query is refused") }
        requireSame(try SubscribeRequest(plain, items: items, limits: limits), expected, "another subscription in a query")
        requireSame(try SubscribeRequest(plain, body: body(request), limits: limits), expected, "another subscription in a body")
    } catch { preconditionFailure("a written subscription is refused") }
}

private func query(_ request: SubscribeRequest) -> String {
    var items: [String] = []
    if request.isList {
        items.append("subscriptions=" + percentEncoded(String(decoding: list(request), as: UTF8.self)))
    } else {
        items += request.patterns.map { "channel=" + percentEncoded($0.string) }
        if let after = request.subscriptions[0].after { items.append("after=" + percentEncoded(written(after))) }
    }
    items.append("heartbeat=\(request.heartbeatSeconds)&pad=\(request.paddingBytes)&wait=\(request.waitSeconds)")
    if request.isRaw { items.append("format=raw") }
    if let user = request.user { items.append("user=" + percentEncoded(user.string)) }
    if let session = request.session { items.append("session=\(written(session))") }
    items.append("digest=\(request.isDigest)&probe=\(request.isProbing)&close=\(request.closes)&presence=\(request.wantsPresence)")
    return items.joined(separator: "&")
}

private func body(_ request: SubscribeRequest) -> [UInt8] {
    var out = #"{"heartbeat":\#(request.heartbeatSeconds),"pad":\#(request.paddingBytes),"wait":\#(request.waitSeconds)"#.bytes
    func member(_ name: String, _ text: String?) {
        guard let text else { return }
        out += ",\"\(name)\":".utf8
        JSONText.appendString(text, into: &out)
    }
    if request.isList {
        out += ",\"subscriptions\":".utf8
        out += list(request)
    } else {
        out += ",\"channels\":".utf8
        out += names(request.patterns)
        member("after", request.subscriptions[0].after.map(written))
    }
    member("format", request.isRaw ? "raw" : nil)
    member("user", request.user?.string)
    member("session", request.session.map(written))
    out += ",\"digest\":\(request.isDigest),\"probe\":\(request.isProbing),\"close\":\(request.closes)".utf8
    return out + ",\"presence\":\(request.wantsPresence)}".utf8
}

private func written(_ session: SubscribeRequest.PollSession) -> String {
    switch session {
    case .new: "new"
    case .known(let id): id.description
    }
}

private func names(_ patterns: [ChannelPattern]) -> [UInt8] {
    var out: [UInt8] = [UInt8(ascii: "[")]
    for (index, pattern) in patterns.enumerated() {
        if index > 0 { out.append(UInt8(ascii: ",")) }
        JSONText.appendString(pattern.string, into: &out)
    }
    return out + [UInt8(ascii: "]")]
}

/// An empty list is read as one subscription without channels.
private func list(_ request: SubscribeRequest) -> [UInt8] {
    if request.patterns.isEmpty { return "[]".bytes }
    var out: [UInt8] = [UInt8(ascii: "[")]
    for (index, subscription) in request.subscriptions.enumerated() {
        if index > 0 { out.append(UInt8(ascii: ",")) }
        out += "{\"channels\":".utf8
        out += names(subscription.patterns)
        if let after = subscription.after {
            out += ",\"after\":".utf8
            JSONText.appendString(written(after), into: &out)
        }
        out.append(UInt8(ascii: "}"))
    }
    return out + [UInt8(ascii: "]")]
}
