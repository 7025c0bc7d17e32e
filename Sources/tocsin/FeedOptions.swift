import ArgumentParser
import NotificationCore
import Transports

/// How feeds are kept and delivered. Docs/operations.md has the defaults.
struct FeedOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "FEED=LIMITS: what is kept of each channel of a feed (repeatable): age:30d,messages:50000,bytes:256MiB; * for all feeds.",
            discussion: """
                Each limit as wanted; the others stay. Ages in s, m, h or d, bytes plain or in KiB, MiB or GiB. \
                By default messages:10000,bytes:64MiB, and age:30d for alerts, age:7d for scores, age:24h for all else. \
                First --keep-messages and --keep-hours count, then *, then the feed's own name.
                """
        )
    )
    var keep: [String] = []

    @Option(help: "Messages kept in each channel: --keep '*=messages:N'.")
    var keepMessages: Int?

    @Option(help: "Hours for which messages are kept: --keep '*=age:Nh'.")
    var keepHours: Int?

    @Option(help: "FEED=KIND: alerts, scores, dashboards or plain (repeatable); by default the three that are called so, and plain.")
    var kind: [String] = []

    @Option(help: "FEED=RATE: no subscriber of a feed is sent more often than so, as in dashboards=2/s (repeatable); * for all feeds.")
    var rateMax: [String] = []

    @Option(
        help: """
            Seconds after which a dashboard's value without a successor is marked stale; FEED=SECONDS for one feed (repeatable). \
            By default never.
            """
    )
    var maxAge: [String] = []

    @Option(
        help: ArgumentHelp(
            "How many answers to idempotency keys are kept: age:24h,keys:1000000,bytes:256MiB, which is the default; each as wanted.",
            discussion: "What goes over is forgotten before its time, the oldest first, and counted in tocsin_idempotency_forgotten_total."
        )
    )
    var idempotency: String?

    @Option(
        help: """
            Channels that may ever have a message; each stays for good. As many users may acknowledge alerts. About 1 KB of memory each.
            """
    )
    var channelsMax = 100_000

    func validate() throws {
        guard (1...10_000_000).contains(channelsMax) else { throw ValidationError("--channels-max is 1 to 10000000") }
        _ = try limits()
    }

    func limits() throws -> LogLimits {
        var limits = LogLimits(channelsMax: channelsMax, feeds: try table())
        if let idempotency {
            let kept = try LimitsKept(idempotency, "--idempotency \(idempotency)", counted: "keys")
            limits.idempotency.ageSecondsMax = kept.seconds ?? limits.idempotency.ageSecondsMax
            limits.idempotency.countMax = kept.count ?? limits.idempotency.countMax
            limits.idempotency.bytesMax = kept.bytes ?? limits.idempotency.bytesMax
        }
        return limits
    }

    private func table() throws -> FeedTable {
        var table = FeedTable.standard
        for text in kind {
            let (feed, word) = try Self.halves(text, "--kind", "FEED=KIND")
            guard feed != "*" else { throw ValidationError("--kind \(text): name the feed; feeds without a name here are plain") }
            guard word == "plain" || FeedKind(rawValue: word) != nil else {
                let words = FeedKind.allCases.map(\.rawValue).joined(separator: ", ")
                throw ValidationError("--kind \(text): FEED=KIND is wanted, with one of \(words), plain")
            }
            table.named[feed] = .standard(FeedKind(rawValue: word))
        }
        try keep(&table)
        for (feed, rate) in try ordered(rateMax, "--rate-max", "FEED=RATE", Self.rate) {
            table.change(feed) { $0.ratePerSecondMax = rate }
        }
        try setMaxAge(&table)
        return table
    }

    private func keep(_ table: inout FeedTable) throws {
        let old = [
            try keepMessages.map { LimitsKept(count: try Self.number($0, "--keep-messages", LimitsKept.countRange)) },
            try keepHours.map {
                LimitsKept(seconds: try Self.number($0, "--keep-hours", 1...LimitsKept.secondsRange.upperBound / 3600) * 3600)
            },
        ]
        for limits in old.compactMap(\.self) { table.change("*") { limits.apply(to: &$0.retention) } }
        for (feed, limits) in try ordered(keep, "--keep", "FEED=LIMITS", { try LimitsKept($0, $1) }) {
            table.change(feed) { limits.apply(to: &$0.retention) }
        }
    }

    private func setMaxAge(_ table: inout FeedTable) throws {
        let rules = try maxAge.map { text in
            let (feed, value) = text.contains("=") ? try Self.halves(text, "--max-age", "FEED=SECONDS") : ("*", text)
            guard let number = Int(value) else { throw ValidationError("--max-age \(text): SECONDS or FEED=SECONDS is wanted") }
            return (feed, try Self.number(number, "--max-age", LimitsKept.secondsRange))
        }
        for (feed, seconds) in rules where feed == "*" {
            table.change(feed) { if $0.kind == .dashboards { $0.maxAgeSeconds = seconds } }
        }
        for (feed, seconds) in rules where feed != "*" {
            guard table.named[feed]?.kind == .dashboards else {
                throw ValidationError(
                    "--max-age \(feed)=\(seconds): \(feed) is not of the kind dashboards; --kind \(feed)=dashboards makes it so")
            }
            table.change(feed) { $0.maxAgeSeconds = seconds }
        }
    }

    // MARK: parsing

    /// The rules for all feeds, then those for a single one: whichever way round they were given.
    private func ordered<Value>(
        _ texts: [String], _ flag: String, _ form: String, _ read: (_ value: String, _ where: String) throws -> Value
    ) throws -> [(feed: String, value: Value)] {
        let rules = try texts.map { text in
            let (feed, value) = try Self.halves(text, flag, form)
            return (feed, try read(value, "\(flag) \(text)"))
        }
        return rules.filter { $0.0 == "*" } + rules.filter { $0.0 != "*" }
    }

    private static func halves(_ text: String, _ flag: String, _ form: String) throws -> (feed: String, value: String) {
        let halves = text.split(separator: "=", maxSplits: 1).map(String.init)
        guard halves.count == 2 else { throw ValidationError("\(flag) \(text): \(form) is wanted") }
        guard halves[0] == "*" || (ChannelName(halves[0])?.feed.utf8.count == halves[0].utf8.count && !halves[0].hasPrefix("_")) else {
            throw ValidationError("\(flag) \(text): \"\(halves[0])\" is no feed")
        }
        return (halves[0], halves[1])
    }

    private static func rate(_ text: String, _ place: String) throws -> Double {
        guard let rate = Rate(text) else {
            throw ValidationError("\(place): a rate is wanted, from 1/h to \(Int(Rate.perSecondMax))/s, as in 2/s, 0.5/s or 6/m")
        }
        return 1000 / Double(rate.intervalMilliseconds)
    }

    private static func number(_ number: Int, _ flag: String, _ range: ClosedRange<Int>) throws -> Int {
        guard range.contains(number) else { throw ValidationError("\(flag) is \(range.lowerBound) to \(range.upperBound)") }
        return number
    }
}

/// What `--keep` says of a feed; nil: nothing of that.
struct LimitsKept {
    var seconds: Int?
    var count: Int?
    var bytes: Int?

    /// Ten years: who wants a log for good wants another program.
    static let secondsRange = 1...3650 * 86_400
    /// A billion: the numbers of a channel's messages are counted up in memory when it is looked through.
    static let countRange = 1...1_000_000_000
    /// A disk's worth; the least is one small message or two.
    static let bytesRange = 1024...1 << 40

    private static let ages = ["s": 1, "m": 60, "h": 3600, "d": 86_400]
    private static let sizes = ["": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30]

    init(seconds: Int? = nil, count: Int? = nil) {
        self.seconds = seconds
        self.count = count
    }

    /// `age:30d,messages:50000,bytes:256MiB`.
    ///
    /// - Parameter counted: what there are so many of.
    init(_ text: String, _ place: String, counted: String = "messages") throws {
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let halves = part.split(separator: ":", maxSplits: 1).map(String.init)
            let (name, value) = (halves.first ?? "", halves.count == 2 ? halves[1] : "")
            switch name {
            case "age" where seconds == nil:
                seconds = try Self.number(value, Self.ages, Self.secondsRange, "\(place): an age is 1s to 3650d, in s, m, h or d")
            case counted where count == nil:
                count = try Self.number(value, ["": 1], Self.countRange, "\(place): \(counted) are 1 to \(Self.countRange.upperBound)")
            case "bytes" where bytes == nil:
                bytes = try Self.number(
                    value, Self.sizes, Self.bytesRange, "\(place): bytes are 1024 to 1024GiB, plain or in KiB, MiB or GiB")
            case "age", counted, "bytes":
                throw ValidationError("\(place): \(name) is there twice")
            default:
                throw ValidationError("\(place): \"\(part)\" is not known here; known are age:30d, \(counted):50000, bytes:256MiB")
            }
        }
    }

    private static func number(_ text: String, _ units: [String: Int], _ range: ClosedRange<Int>, _ words: String) throws -> Int {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        guard let count = Int(digits), let unit = units[String(text.dropFirst(digits.count))] else { throw ValidationError(words) }
        let (number, isTooLarge) = count.multipliedReportingOverflow(by: unit)
        guard !isTooLarge, range.contains(number) else { throw ValidationError(words) }
        return number
    }

    func apply(to retention: inout Retention) {
        if let seconds { retention.ageSecondsMax = seconds }
        if let count { retention.countMax = count }
        if let bytes { retention.bytesMax = bytes }
    }
}

extension FeedTable {
    /// - Parameter feed: `*` for all feeds, also those that are not named.
    fileprivate mutating func change(_ feed: String, _ body: (inout Feed) -> Void) {
        guard feed == "*" else { return body(&named[feed, default: other]) }
        body(&other)
        for name in named.keys { body(&named[name]!) }
    }
}
