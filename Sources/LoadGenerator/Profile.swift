import JSONCodec

/// How a server is subscribed to and published to: a small JSON file, described in Docs/benchmarks/README.md.
package struct Profile: Sendable {
    /// A request: a path and fields in which `{channel}` and the names of captures stand for their values.
    package struct Request: Sendable {
        package var method = "GET"
        package var path: String
        package var fields: [(name: String, value: String)] = []
    }

    /// A part of an answer to a poll that the next poll needs.
    package struct Capture: Sendable {
        package enum Place: Sendable {
            /// The value of this field.
            case field(String)
            /// What first stands between these two in the body.
            case body(after: String, until: String)
        }

        package let name: String
        package let place: Place
    }

    package struct LongPoll: Sendable {
        package var first: Request
        package var next: Request
        package var captures: [Capture]
        /// Whether the first poll is answered at once, with where to go on.
        package var answersAtOnce: Bool

        var hasOnlyBodyCaptures: Bool {
            captures.allSatisfy { if case .body = $0.place { true } else { false } }
        }
    }

    package var name: String
    /// With `{run}`, so that two runs have no channel in common, and `{number}`.
    package var channel: String
    package var publish: Request
    package var webSocket: Request?
    package var eventStream: Request?
    package var longPoll: LongPoll?
    /// How `longPoll` goes on when it is not to wait.
    package var shortPoll: Request?
    /// What is put behind the path of `webSocket` and `eventStream` to go on behind `{position}`, which a capture of `longPoll` finds.
    package var resume: String?

    /// The capture that says where to go on.
    var position: (after: String, until: String)? {
        for capture in longPoll?.captures ?? [] where capture.name == "position" {
            if case .body(let after, let until) = capture.place { return (after, until) }
        }
        return nil
    }

    /// The name of a channel of a run.
    package func channelName(run: UInt32, number: Int) -> String {
        channel.replacing("{run}", with: String(run, radix: 16)).replacing("{number}", with: String(number))
    }
}

/// What is wrong with a profile, or with what is asked for.
package struct LoadFault: Error, CustomStringConvertible {
    package let description: String

    package init(_ description: String) {
        self.description = description
    }
}

extension Profile {
    /// Tocsin's own; the file Tests/Bench/profiles/tocsin.json says the same.
    package static let tocsin = """
        {
          "name": "tocsin",
          "channel": "bench.{run}.{number}",
          "publish": {"method": "POST", "path": "/v1/channels/{channel}", "fields": {"Content-Type": "application/json"}},
          "websocket": {"path": "/v1/subscribe?channel={channel}"},
          "sse": {"path": "/v1/subscribe?channel={channel}", "fields": {"Accept": "text/event-stream"}},
          "long-poll": {
            "answers-at-once": true,
            "first": {"path": "/v1/subscribe?channel={channel}"},
            "captures": [{"name": "position", "after": "\\"position\\":\\"", "until": "\\""}],
            "next": {"path": "/v1/subscribe?channel={channel}&after={position}", "fields": {"Prefer": "wait=300"}}
          },
          "poll": {"path": "/v1/subscribe?channel={channel}&after={position}", "fields": {"Prefer": "wait=0"}},
          "resume": "&after={position}"
        }

        """

    /// - Parameter text: the profile's JSON.
    package init(_ text: [UInt8]) throws(LoadFault) {
        var minified: [UInt8] = []
        let fault = text.withUnsafeBytes { text -> JSONFault? in
            do throws(JSONFault) {
                try JSONText.minify(text, into: &minified)
                return nil
            } catch {
                return error
            }
        }
        if let fault { throw LoadFault("the profile is not JSON: \(fault)") }
        let root = ProfileObject(JSONSlice(minified[...]), name: "the profile")
        try root.allow(["name", "channel", "publish", "websocket", "sse", "long-poll", "poll", "resume"])
        name = try root.text("name")
        channel = try root.text("channel")
        publish = try root.request("publish", defaultMethod: "POST")
        webSocket = root.has("websocket") ? try root.request("websocket") : nil
        eventStream = root.has("sse") ? try root.request("sse") : nil
        guard root.has("long-poll") else {
            for name in ["poll", "resume"] where root.has(name) { throw LoadFault("the profile's \(name) needs a long-poll") }
            return
        }
        let poll = try root.object("long-poll")
        try poll.allow(["answers-at-once", "first", "captures", "next"])
        longPoll = LongPoll(
            first: try poll.request("first"), next: try poll.request("next"), captures: try poll.captures("captures"),
            answersAtOnce: try poll.flag("answers-at-once")
        )
        shortPoll = root.has("poll") ? try root.request("poll") : nil
        resume = root.has("resume") ? try root.text("resume") : nil
        if resume != nil, position == nil { throw LoadFault("the profile's resume needs a capture \"position\" in the body") }
        let names = longPoll!.captures.map(\.name)
        let requests = [longPoll!.next] + [shortPoll].compactMap(\.self)
        for text in requests.flatMap({ [$0.path] + $0.fields.map(\.value) }) {
            for match in text.matches(of: /\{([^}]*)\}/) where match.1 != "channel" && !names.contains(String(match.1)) {
                throw LoadFault("the profile's long-poll needs {\(match.1)}, and has no capture of this name")
            }
        }
    }
}

/// One object of a profile, which says where something is missing or wrong.
private struct ProfileObject {
    let slice: JSONSlice
    let name: String

    init(_ slice: JSONSlice, name: String) {
        self.slice = slice
        self.name = name
    }

    func allow(_ known: [String]) throws(LoadFault) {
        guard slice.kind == .object else { throw LoadFault("\(name) is not an object") }
        for member in slice.members where !known.contains(member.name) {
            throw LoadFault("\(name) has \"\(member.name)\"; known are \(known.joined(separator: ", "))")
        }
    }

    func has(_ member: String) -> Bool { slice.kind == .object && slice[member] != nil }

    func text(_ member: String) throws(LoadFault) -> String {
        guard let text = slice[member]?.string() else { throw LoadFault("\"\(member)\" of \(name) has to be a string") }
        return text
    }

    func flag(_ member: String) throws(LoadFault) -> Bool {
        guard let value = slice[member] else { return false }
        guard let flag = value.bool() else { throw LoadFault("\"\(member)\" of \(name) has to be true or false") }
        return flag
    }

    func object(_ member: String) throws(LoadFault) -> ProfileObject {
        guard let value = slice[member], value.kind == .object else { throw LoadFault("\"\(member)\" of \(name) has to be an object") }
        return ProfileObject(value, name: "\"\(member)\"")
    }

    func request(_ member: String, defaultMethod: String = "GET") throws(LoadFault) -> Profile.Request {
        let request = try object(member)
        try request.allow(["method", "path", "fields"])
        let path = try request.text("path")
        guard path.hasPrefix("/") else { throw LoadFault("\"path\" of \(request.name) has to begin with /") }
        var fields: [(name: String, value: String)] = []
        if request.has("fields") {
            for field in try request.object("fields").slice.members {
                guard let value = field.value.string() else { throw LoadFault("\"\(field.name)\" of \(request.name) has to be a string") }
                fields.append((field.name, value))
            }
        }
        return Profile.Request(method: request.has("method") ? try request.text("method") : defaultMethod, path: path, fields: fields)
    }

    func captures(_ member: String) throws(LoadFault) -> [Profile.Capture] {
        guard let value = slice[member] else { return [] }
        guard value.kind == .array else { throw LoadFault("\"\(member)\" of \(name) has to be an array") }
        var captures: [Profile.Capture] = []
        for element in value.elements {
            let object = ProfileObject(element, name: "a capture")
            try object.allow(["name", "field", "after", "until"])
            let place: Profile.Capture.Place =
                if object.has("field") {
                    .field(try object.text("field"))
                } else {
                    .body(after: try object.text("after"), until: try object.text("until"))
                }
            if case .body(let after, let until) = place, after.isEmpty || until.utf8.count != 1 {
                throw LoadFault("a capture has a text \"after\", and an \"until\" of one byte")
            }
            captures.append(Profile.Capture(name: try object.text("name"), place: place))
        }
        return captures
    }
}
