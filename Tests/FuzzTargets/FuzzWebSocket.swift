import WebSocketCodec

/// The decoder, for both roles, and the opening handshake (RFC 6455).
///
/// The first byte chooses:
///
///     bit 0      the decoder's role: a server's or a client's
///     bit 1      the rest is frames as they are on the wire, or pairs of first byte and length with a payload, which are made into
///                frames that are right but for what the first byte says
///     bits 2, 3  the limits
///     bit 4      permessage-deflate was negotiated (RFC 7692)
///     bit 7      the rest is the values of a handshake instead: method, Upgrade, Connection, Sec-WebSocket-Version, Sec-WebSocket-Key,
///                Sec-WebSocket-Protocol and -Extensions, with a zero between them and LF between the lines of one field
package func fuzzWebSocket(_ bytes: UnsafeRawBufferPointer) {
    guard let options = bytes.first else { return }
    let rest = Array(bytes.dropFirst())
    guard options & 0x80 == 0 else { return fuzzHandshake(rest) }
    let role = options & 1 == 0 ? WebSocketRole.server : .client
    let limits = [
        WebSocketLimits(), WebSocketLimits(messageBytesMax: 100, fragmentsMax: 3), WebSocketLimits(messageBytesMax: 0, fragmentsMax: 1),
        WebSocketLimits(messageBytesMax: 1000, fragmentsMax: 16),
    ][Int(options >> 2 & 3)]
    let wire = options & 2 == 0 ? rest : WebSocketFrames.made(of: rest, role)
    let inflater = options & 16 == 0 ? nil : MessageInflater()
    let trace = Cut.same(wire, "WebSocket events depend on the cut") { WebSocketTrace(wire, $0, role, limits, inflater) }
    trace.check(limits)
    trace.checkWrittenAgain(role, Draw(wire), inflater)
    // A greater limit changes nothing for what was below the lower one.
    let roomy = WebSocketTrace(wire, .whole, role, WebSocketLimits(), inflater)
    requireSame(Array(roomy.items.prefix(trace.items.count)), trace.items, "WebSocket events depend on the limits")
}

/// All that came of one stream.
private struct WebSocketTrace: Equatable {
    enum Item: Equatable {
        case text([UInt8])
        case binary([UInt8])
        case ping([UInt8])
        case pong([UInt8])
        case close(UInt16?, [UInt8])

        init(_ event: WebSocketEvent) {
            switch event {
            case .text(let bytes): self = .text(bytes)
            case .binary(let bytes): self = .binary(bytes)
            case .ping(let bytes): self = .ping(bytes)
            case .pong(let bytes): self = .pong(bytes)
            case .close(let code, let reason): self = .close(code?.rawValue, reason.bytes)
            }
        }
    }

    private(set) var items: [Item] = []
    private(set) var fault: WebSocketFault?
    private var isIdle = false
    private var isFinished = false

    init(_ wire: [UInt8], _ cut: Cut, _ role: WebSocketRole, _ limits: WebSocketLimits, _ inflater: MessageInflater?) {
        var decoder = WebSocketDecoder(role: role, limits: limits, inflater: inflater)
        cut.forEachPiece(of: wire) { piece in
            var consumed = 0
            do throws(WebSocketFault) {
                while true {
                    let before = consumed
                    let left = UnsafeMutableRawBufferPointer(rebasing: piece[consumed...])
                    guard let event = try decoder.next(left, consumed: &consumed) else { break }
                    require(consumed > before, "an event of nothing")
                    require(!isFinished, "an event after the end")
                    items.append(Item(event))
                    isFinished = decoder.isFinished
                }
                requireSame(consumed, piece.count, "bytes left behind")
            } catch {
                require(fault == nil && !isFinished, "a fault after the end")
                requireSame(consumed, piece.count, "bytes left behind a fault")
                require(decoder.isFinished, "a fault that is not the end")
                fault = error
            }
            return true
        }
        isIdle = decoder.isIdle
        isFinished = decoder.isFinished
    }

    func check(_ limits: WebSocketLimits) {
        for item in items {
            switch item {
            case .text(let bytes):
                require(bytes.count <= limits.messageBytesMax, "a text above the limit")
                require(String(validating: bytes, as: UTF8.self) != nil, "a text that is not UTF-8")
            case .binary(let bytes): require(bytes.count <= limits.messageBytesMax, "a message above the limit")
            case .ping(let bytes), .pong(let bytes): require(bytes.count <= 125, "a control frame above its limit")
            case .close(let code, let reason):
                require(reason.count <= 123, "a close reason above its limit")
                require(code.map { WebSocketCloseCode(rawValue: $0).isValidOnWire } ?? reason.isEmpty, "a bad close")
            }
        }
        if let fault {
            require(fault.closeCode.isValidOnWire && fault.reason.utf8.count <= 123, "a fault that cannot be told")
        }
    }

    /// What was read is what the encoder would have sent, whole or in fragments.
    func checkWrittenAgain(_ role: WebSocketRole, _ draw: Draw, _ inflater: MessageInflater?) {
        var draw = draw
        var wire: [UInt8] = []
        let deflater = inflater != nil && role == .client ? MessageDeflater(windowBits: 9 + draw.below(7), level: 1 + draw.below(9)) : nil
        for item in items {
            let key = UInt32(truncatingIfNeeded: draw.next())
            switch item {
            case .text(let bytes) where deflater != nil: deflater!.frame(.text, bytes, into: &wire)
            case .binary(let bytes) where deflater != nil: deflater!.frame(.binary, bytes, into: &wire)
            case .text(let bytes): WebSocketFrames.append(.text, bytes, role, &draw, to: &wire)
            case .binary(let bytes): WebSocketFrames.append(.binary, bytes, role, &draw, to: &wire)
            case .ping(let bytes): WebSocketFrames.append(.ping, bytes, fin: true, role, key, to: &wire)
            case .pong(let bytes): WebSocketFrames.append(.pong, bytes, fin: true, role, key, to: &wire)
            case .close(let code, let reason):
                let code = code.map { WebSocketCloseCode(rawValue: $0) }
                let reason = String(decoding: reason, as: UTF8.self)
                switch role {
                case .server: WebSocketEncoder.maskedClose(code, reason: reason, maskingKey: key, into: &wire)
                case .client: WebSocketEncoder.close(code, reason: reason, into: &wire)
                }
            }
        }
        let again = WebSocketTrace(wire, .drawn, role, WebSocketLimits(), inflater)
        require(again.items == items && again.fault == nil, "WebSocket events differ when written again")
        require(again.isIdle, "an encoded stream is unfinished")
    }
}

/// Frames that the decoder under test is to read: masked for a server, bare for a client.
private enum WebSocketFrames {
    /// Of pairs of first byte and length, each with so many bytes of payload as there are.
    static func made(of input: [UInt8], _ role: WebSocketRole) -> [UInt8] {
        var wire: [UInt8] = []
        var draw = Draw(input)
        var rest = input[...]
        while rest.count >= 2 {
            let first = rest.removeFirst()
            let length = rest.removeFirst()
            let payload = Array(rest.prefix(Int(length)))
            rest = rest.dropFirst(payload.count)
            var frame: [UInt8] = []
            // The opcode does not change how data is framed.
            append(.binary, payload, fin: true, role, UInt32(truncatingIfNeeded: draw.next()), to: &frame)
            frame[0] = first
            wire += frame
        }
        return wire
    }

    static func append(
        _ opcode: WebSocketOpcode, _ payload: [UInt8], fin: Bool, _ role: WebSocketRole, _ key: UInt32, to wire: inout [UInt8]
    ) {
        switch role {
        case .server: WebSocketEncoder.maskedFrame(opcode, payload: payload, fin: fin, maskingKey: key, into: &wire)
        case .client:
            WebSocketEncoder.frameHeader(opcode, payloadBytes: payload.count, fin: fin, into: &wire)
            wire += payload
        }
    }

    /// A message in one to four fragments.
    static func append(_ opcode: WebSocketOpcode, _ message: [UInt8], _ role: WebSocketRole, _ draw: inout Draw, to wire: inout [UInt8]) {
        var opcode = opcode
        var rest = message[...]
        for left in (0...draw.below(4)).reversed() {
            let count = left == 0 ? rest.count : draw.below(rest.count + 1)
            append(opcode, Array(rest.prefix(count)), fin: left == 0, role, UInt32(truncatingIfNeeded: draw.next()), to: &wire)
            rest = rest.dropFirst(count)
            opcode = .continuation
        }
    }
}

// MARK: - Handshake

private func fuzzHandshake(_ bytes: [UInt8]) {
    var parts = bytes.parts(0).map { part in part.isEmpty ? [] : part.parts(0x0a).map { String(decoding: $0, as: UTF8.self) } }
    while parts.count < 7 { parts.append([]) }
    let request: WebSocketHandshake.Request
    do throws(WebSocketHandshake.Refusal) {
        request = try WebSocketHandshake.Request(
            method: parts[0].first ?? "", upgrade: parts[1], connection: parts[2], version: parts[3], key: parts[4],
            subprotocols: parts[5], extensions: parts[6]
        )
    } catch {
        require([400, 405, 426].contains(error.status), "a refusal without a status")
        return
    }
    require(parts[0] == ["GET"] && parts[3] == ["13"] && parts[4] == [request.key], "a handshake that is none")
    require(request.key.utf8.count == 24 && request.accept.utf8.count == 28, "a key of another length")
    require(request.subprotocols.count <= 32, "too many subprotocols")
    requireSame(Set(request.subprotocols).count, request.subprotocols.count, "a subprotocol twice")
    for name in request.subprotocols {
        require(!name.isEmpty && name.utf8.allSatisfy { (0x21...0x7e).contains($0) && $0 != UInt8(ascii: ",") }, "not a token")
    }
    let joined = try? WebSocketHandshake.subprotocols([request.subprotocols.joined(separator: " ,\t")])
    requireSame(joined, request.subprotocols, "a list of subprotocols reads otherwise in one line")
    require(
        WebSocketHandshake.subprotocol(offered: request.subprotocols, supported: request.subprotocols) == request.subprotocols.first,
        "not the first subprotocol"
    )
    checkExtensions(request.extensions)
}

/// The offers, written on one line with their values in quotes, read as they did, and the answer to them is a good answer.
private func checkExtensions(_ offers: [WebSocketHandshake.Extension]) {
    func plain(_ offers: [WebSocketHandshake.Extension]) -> [[String?]] {
        offers.map { offer in [offer.name] + offer.parameters.flatMap { [$0.name, $0.value] } }
    }
    let line = offers.map { offer in
        offer.name + offer.parameters.map { ";" + $0.name + ($0.value.map { " = \"\($0)\"" } ?? "") }.joined()
    }.joined(separator: ",,")
    guard let again = try? WebSocketHandshake.extensions([line]) else { preconditionFailure("written extensions are refused") }
    requireSame(plain(again), plain(offers), "other extensions when written again")
    guard let accepted = PerMessageDeflate.accept(offers) else { return }
    require((9...15).contains(accepted.serverWindowBits), "a window that zlib does not have")
    guard let answer = try? WebSocketHandshake.extensions([accepted.answer]), let own = PerMessageDeflate.accept(answer) else {
        preconditionFailure("an answer that is no extension")
    }
    requireSame(own.serverWindowBits, accepted.serverWindowBits, "another window in the answer")
}
