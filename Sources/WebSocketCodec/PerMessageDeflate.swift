/// The negotiation of permessage-deflate (RFC 7692 section 7.1).
///
/// The server always asks for `server_no_context_takeover`, so that a message is compressed once for all subscribers, and for
/// `client_no_context_takeover`, so that an idle connection costs no window.
package struct PerMessageDeflate: Equatable, Sendable {
    /// The base-2 logarithm of the largest window that the server may use: 9 to 15.
    package var serverWindowBits = 15
    /// Whether the answer has to name it: only what was asked for is answered.
    private var namesServerWindow = false

    /// The value of the answer's `Sec-WebSocket-Extensions`.
    package var answer: String {
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
            + (namesServerWindow ? "; server_max_window_bits=\(serverWindowBits)" : "")
    }

    /// Takes the first offer that can be served, in the client's order of preference.
    ///
    /// - Parameter offers: what `WebSocketHandshake.extensions` read.
    /// - Returns: nil if there is none; then messages are not compressed.
    package static func accept(_ offers: [WebSocketHandshake.Extension]) -> PerMessageDeflate? {
        for offer in offers where offer.name == "permessage-deflate" {
            if let accepted = PerMessageDeflate(offer.parameters) { return accepted }
        }
        return nil
    }

    /// - Returns: nil if the offer has to be declined: a parameter unknown, twice, or with a value that it cannot have.
    private init?(_ parameters: [(name: String, value: String?)]) {
        var seen: Set<String> = []
        for (name, value) in parameters {
            guard seen.insert(name).inserted else { return nil }
            switch name {
            case "server_no_context_takeover", "client_no_context_takeover":
                guard value == nil else { return nil }
            case "client_max_window_bits":
                // What the client uses is its choice: messages are read with the largest window.
                guard value == nil || Self.windowBits(value) != nil else { return nil }
            case "server_max_window_bits":
                // A window of 256 bytes cannot be had of zlib.
                guard let bits = Self.windowBits(value), bits >= 9 else { return nil }
                serverWindowBits = bits
                namesServerWindow = true
            default:
                return nil
            }
        }
    }

    /// 8 to 15 without a leading zero.
    private static func windowBits(_ value: String?) -> Int? {
        guard let value, value.utf8.count <= 2, value.utf8.first != UInt8(ascii: "0"), let bits = Int(value), (8...15).contains(bits),
            value.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) })
        else { return nil }
        return bits
    }
}

extension WebSocketHandshake {
    /// An element of `Sec-WebSocket-Extensions`: a name and its parameters, values without their quotes.
    package struct Extension: Sendable {
        package var name: String
        package var parameters: [(name: String, value: String?)]
    }

    /// What the values of `Sec-WebSocket-Extensions` offer, one string for each field line, in order (RFC 6455 section 9.1).
    ///
    /// At most 16 offers with 16 parameters each: a client makes one or two.
    package static func extensions(_ values: [String]) throws(Refusal) -> [Extension] {
        var found: [Extension] = []
        for value in values {
            var reader = ExtensionReader(rest: Array(value.utf8)[...])
            try reader.readList(&found)
        }
        guard found.count <= 16, found.allSatisfy({ $0.parameters.count <= 16 }) else { throw .badExtensions }
        return found
    }
}

/// Reads the list of extensions of one field line.
private struct ExtensionReader {
    var rest: ArraySlice<UInt8>

    mutating func readList(_ found: inout [WebSocketHandshake.Extension]) throws(WebSocketHandshake.Refusal) {
        while true {
            skipSpace()
            // Empty elements are skipped (RFC 9110 section 5.6.1.2).
            if !take(",") {
                if rest.isEmpty { return }
                found.append(try readExtension())
                skipSpace()
                if rest.isEmpty { return }
                guard take(",") else { throw .badExtensions }
            }
        }
    }

    private mutating func readExtension() throws(WebSocketHandshake.Refusal) -> WebSocketHandshake.Extension {
        var element = WebSocketHandshake.Extension(name: try readToken(), parameters: [])
        while true {
            skipSpace()
            guard take(";") else { return element }
            skipSpace()
            let name = try readToken()
            skipSpace()
            var value: String?
            if take("=") {
                skipSpace()
                value = try take("\"") ? readQuoted() : readToken()
            }
            element.parameters.append((name, value))
        }
    }

    private mutating func readToken() throws(WebSocketHandshake.Refusal) -> String {
        let token = rest.prefix(while: WebSocketHandshake.isTokenByte)
        guard !token.isEmpty else { throw .badExtensions }
        rest = rest.dropFirst(token.count)
        return String(decoding: token, as: UTF8.self)
    }

    /// A quoted string, which has to be a token when its quotes are off (RFC 6455 section 9.1).
    private mutating func readQuoted() throws(WebSocketHandshake.Refusal) -> String {
        var token: [UInt8] = []
        while let byte = rest.popFirst() {
            switch byte {
            case UInt8(ascii: "\""):
                guard !token.isEmpty else { throw .badExtensions }
                return String(decoding: token, as: UTF8.self)
            case UInt8(ascii: "\\"):
                guard let escaped = rest.popFirst(), WebSocketHandshake.isTokenByte(escaped) else { throw .badExtensions }
                token.append(escaped)
            default:
                guard WebSocketHandshake.isTokenByte(byte) else { throw .badExtensions }
                token.append(byte)
            }
        }
        throw .badExtensions
    }

    private mutating func skipSpace() {
        rest = rest.drop { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") }
    }

    private mutating func take(_ character: Unicode.Scalar) -> Bool {
        guard rest.first == UInt8(ascii: character) else { return false }
        rest.removeFirst()
        return true
    }
}
