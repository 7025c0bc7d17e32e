extension WebSocketHandshake {
    /// A request to open a WebSocket, checked (RFC 6455 section 4.2.1).
    package struct Request: Sendable {
        /// `Sec-WebSocket-Key`: canonical base64 of 16 bytes. Empty for one over HTTP/2.
        package let key: String
        /// What `Sec-WebSocket-Protocol` offers, in the client's order of preference.
        package let subprotocols: [String]
        /// What `Sec-WebSocket-Extensions` offers, in the same order.
        package let extensions: [Extension]

        /// Checks the fields of a request.
        ///
        /// Each list has one string for each field line of that name, without whitespace around it, and is empty if there is none.
        ///
        /// - Throws: why the request cannot be upgraded.
        package init(
            method: String,
            upgrade: [String],
            connection: [String],
            version: [String],
            key: [String],
            subprotocols: [String],
            extensions: [String]
        ) throws(Refusal) {
            guard WebSocketHandshake.holds(upgrade, token: "websocket"), WebSocketHandshake.holds(connection, token: "upgrade") else {
                throw .notWebSocket
            }
            guard method == "GET" else { throw .badMethod }
            // Before the key, whose form is a matter of the version.
            try WebSocketHandshake.checkVersion(version)
            guard key.count == 1, let key = key.first, Base64.isCanonical16Bytes(key) else { throw .badKey }
            self.key = key
            self.subprotocols = try WebSocketHandshake.subprotocols(subprotocols)
            self.extensions = try WebSocketHandshake.extensions(extensions)
        }

        /// Checks the fields of an extended CONNECT (RFC 8441 section 5): there is no key, since HTTP/2 itself proves what a key proves.
        package init(version: [String], subprotocols: [String], extensions: [String]) throws(Refusal) {
            try WebSocketHandshake.checkVersion(version)
            key = ""
            self.subprotocols = try WebSocketHandshake.subprotocols(subprotocols)
            self.extensions = try WebSocketHandshake.extensions(extensions)
        }

        /// The value of `Sec-WebSocket-Accept` that answers it.
        package var accept: String { WebSocketHandshake.accept(key: key) }
    }

    /// Why a request does not become a WebSocket.
    package enum Refusal: Error, Equatable, CaseIterable, Sendable {
        /// `Upgrade` does not name `websocket`, or `Connection` does not name `upgrade`.
        case notWebSocket
        /// Not GET.
        case badMethod
        /// `Sec-WebSocket-Version` is not 13, once.
        case badVersion
        /// `Sec-WebSocket-Key` is not the base64 of 16 bytes, once.
        case badKey
        /// `Sec-WebSocket-Protocol` holds what is no token, or one twice, or far too many.
        case badSubprotocols
        /// `Sec-WebSocket-Extensions` is not a list of extensions, or is far too long.
        case badExtensions

        /// The status of the answer.
        package var status: Int {
            switch self {
            case .badMethod: 405
            case .badVersion: 426
            case .notWebSocket, .badKey, .badSubprotocols, .badExtensions: 400
            }
        }

        /// The fields that the answer has to have besides: RFC 9110 sections 15.5.6 and 15.5.22, RFC 6455 section 4.4.
        package var fields: [(name: String, value: String)] {
            switch self {
            case .badMethod: [("Allow", "GET")]
            case .badVersion: [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13")]
            case .notWebSocket, .badKey, .badSubprotocols, .badExtensions: []
            }
        }

        /// For the answer's body; short and in English.
        package var reason: String {
            switch self {
            case .notWebSocket: "not a WebSocket upgrade: Upgrade has to name websocket, and Connection upgrade"
            case .badMethod: "a WebSocket is opened with GET"
            case .badVersion: "Sec-WebSocket-Version has to be 13"
            case .badKey: "Sec-WebSocket-Key has to be the base64 of 16 bytes"
            case .badSubprotocols: "Sec-WebSocket-Protocol has to list tokens, each once"
            case .badExtensions: "Sec-WebSocket-Extensions has to list extensions with their parameters"
            }
        }
    }
}
