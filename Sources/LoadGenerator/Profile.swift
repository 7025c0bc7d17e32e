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

    /// Several messages in one request.
    package struct PublishBatch: Sendable {
        package var request: Request
        /// A line of its body, with `{channel}` and `{payload}`.
        package var item: String
    }

    /// How one comes back who was subscribed: the path in place of the one of a WebSocket or an event stream.
    package struct Resume: Sendable {
        package var path: String
        /// The position in the messages, the last of which counts.
        package var capture: Capture

        /// What stands around the position.
        var position: (after: String, until: String) {
            guard case .body(let after, let until) = capture.place else { preconditionFailure("a position stands in a message") }
            return (after, until)
        }
    }

    package var name: String
    /// With `{run}`, so that two runs have no channel in common, and `{number}`.
    package var channel: String
    package var publish: Request
    package var publishBatch: PublishBatch?
    package var webSocket: Request?
    package var eventStream: Request?
    package var longPoll: LongPoll?
    /// How `longPoll` goes on when it is not to wait.
    package var shortPoll: Request?
    package var resume: Resume?

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
          "publish-batch": {
            "path": "/v1/publish", "fields": {"Content-Type": "application/x-ndjson"},
            "item": "{\\"channel\\":\\"{channel}\\",\\"data\\":{payload}}"
          },
          "websocket": {"path": "/v1/subscribe?channel={channel}"},
          "sse": {"path": "/v1/subscribe?channel={channel}", "fields": {"Accept": "text/event-stream"}},
          "long-poll": {
            "answers-at-once": true,
            "first": {"path": "/v1/subscribe?channel={channel}"},
            "captures": [{"name": "position", "after": "\\"position\\":\\"", "until": "\\""}],
            "next": {"path": "/v1/subscribe?channel={channel}&after={position}", "fields": {"Prefer": "wait=300"}}
          },
          "poll": {"path": "/v1/subscribe?channel={channel}&after={position}", "fields": {"Prefer": "wait=0"}},
          "resume": {
            "path": "/v1/subscribe?channel={channel}&after={position}",
            "captures": [{"name": "position", "after": "\\"position\\":\\"", "until": "\\""}]
          }
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
        try root.allow(["name", "channel", "publish", "publish-batch", "websocket", "sse", "long-poll", "poll", "resume"])
        name = try root.text("name")
        channel = try root.text("channel")
        publish = try root.request("publish", defaultMethod: "POST")
        if root.has("publish-batch") {
            let request = try root.request("publish-batch", defaultMethod: "POST", besides: ["item"])
            let item = try root.object("publish-batch").text("item")
            guard item.matches(of: /\{payload\}/).count == 1 else { throw LoadFault("\"item\" of \"publish-batch\" has {payload} once") }
            publishBatch = PublishBatch(request: request, item: item)
        }
        webSocket = root.has("websocket") ? try root.request("websocket") : nil
        eventStream = root.has("sse") ? try root.request("sse") : nil
        resume = root.has("resume") ? try root.resume("resume") : nil
        guard root.has("long-poll") else {
            if root.has("poll") { throw LoadFault("the profile's poll needs a long-poll") }
            return
        }
        let poll = try root.object("long-poll")
        try poll.allow(["answers-at-once", "first", "captures", "next"])
        longPoll = LongPoll(
            first: try poll.request("first"), next: try poll.request("next"), captures: try poll.captures("captures"),
            answersAtOnce: try poll.flag("answers-at-once")
        )
        shortPoll = root.has("poll") ? try root.request("poll") : nil
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

    func request(_ member: String, defaultMethod: String = "GET", besides: [String] = []) throws(LoadFault) -> Profile.Request {
        let request = try object(member)
        try request.allow(["method", "path", "fields"] + besides)
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

    func resume(_ member: String) throws(LoadFault) -> Profile.Resume {
        let resume = try object(member)
        try resume.allow(["path", "captures"])
        let captures = try resume.captures("captures")
        guard captures.count == 1, case .body = captures[0].place else { throw LoadFault("\(resume.name) has one capture, with \"after\"") }
        return Profile.Resume(path: try resume.text("path"), capture: captures[0])
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
