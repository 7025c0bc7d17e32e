import NotificationCore
import NotificationStore
import TocsinServer

/// What a seed makes of a run: sizes, limits, and which faults there are.
struct Scenario {
    private(set) var durability: Durability
    /// The log is in the process, and ends with it.
    private(set) var isInMemory: Bool
    private(set) var limits: LogLimits
    private(set) var cacheBytesMax: Int
    private(set) var room: Hub.Room
    let clients: Int
    /// All clients want the same, and stand in few places: what is read for one is sent to several. nil: each wants something else.
    let crowdPattern: String?
    /// Most messages expire soon.
    let isExpiring: Bool
    let publishers: Int
    /// How long things are published and break; then everything heals.
    let busyMilliseconds: Int64
    let publishPauseMilliseconds: ClosedRange<Int>
    let cutPauseMilliseconds: ClosedRange<Int>
    private(set) var hasCrashes: Bool
    private(set) var hasPowerCuts: Bool
    private(set) var hasFullDisk: Bool
    private(set) var hasFailingCalls: Bool
    private(set) var losesAfterFailedSync: Bool

    init(_ chance: inout Chance) {
        durability = chance.happens(80) ? .disk : .memory
        isInMemory = chance.happens(12)
        var limits = LogLimits()
        var feeds: [String: Feed] = [:]
        for (name, kind) in [("alerts", FeedKind.alerts), ("scores", .scores), ("dashboards", .dashboards)] {
            var feed = Feed(kind: kind, retention: Self.retention(&chance))
            if kind == .dashboards, chance.happens(40) { feed.maxAgeSeconds = chance.number(1...4) }
            feeds[name] = feed
        }
        limits.feeds = FeedTable(named: feeds, other: Feed(kind: nil, retention: Self.retention(&chance)))
        limits.memoryBytesMax = chance.happens(50) ? chance.number(1...12) << 10 : 1 << 20
        self.limits = limits
        cacheBytesMax = chance.happens(30) ? 2000 : 1 << 20
        room = Hub.Room(
            notifications: chance.happens(50) ? chance.number(1...6) : chance.number(7...256), bytes: chance.one(of: [300, 2000, 64 << 10])
        )
        clients = chance.number(6...10)
        crowdPattern = chance.happens(15) ? chance.one(of: [">", "alerts.>", "plain.*", "dashboards.x", "scores.>"]) : nil
        isExpiring = chance.happens(20)
        publishers = chance.number(2...3)
        busyMilliseconds = chance.milliseconds(3000...9000)
        publishPauseMilliseconds = 20...chance.one(of: [250, 500, 1000])
        cutPauseMilliseconds = 200...chance.one(of: [1000, 2000, 6000])
        hasCrashes = chance.happens(55)
        hasPowerCuts = chance.happens(60)
        hasFullDisk = chance.happens(20)
        hasFailingCalls = chance.happens(35)
        losesAfterFailedSync = durability == .disk && chance.happens(30)
    }

    /// In which nothing happens by itself.
    static var quiet: Scenario {
        var chance = Chance(seed: 1)
        var scenario = Scenario(&chance)
        scenario.durability = .disk
        scenario.isInMemory = false
        scenario.limits = LogLimits()
        scenario.hasPowerCuts = true
        scenario.losesAfterFailedSync = false
        return scenario
    }

    private static func retention(_ chance: inout Chance) -> Retention {
        Retention(
            countMax: chance.happens(60) ? chance.number(5...30) : 10_000, bytesMax: 64 << 20,
            ageSecondsMax: chance.happens(40) ? chance.number(2...8) : 86_400
        )
    }

    var configuration: ServerConfiguration {
        var configuration = ServerConfiguration()
        configuration.allowedHosts = ["*"]
        configuration.log = limits
        configuration.pageRoom = room
        configuration.hasCanary = false
        return configuration
    }

    var words: String {
        var words = [
            isInMemory ? "in memory" : "durability \(durability)", "\(clients) clients", "room \(room.notifications)",
            "memory \(limits.memoryBytesMax)",
        ]
        for (name, feed) in limits.feeds.named.sorted(by: { $0.key < $1.key }) + [("other", limits.feeds.other)] {
            words.append("\(name) \(feed.retention.countMax)x\(feed.retention.ageSecondsMax)s")
        }
        if let crowdPattern { words.append("all want \(crowdPattern)") }
        if isExpiring { words.append("most expires") }
        if hasCrashes { words.append(hasPowerCuts ? "crashes and power cuts" : "crashes") }
        if hasFullDisk { words.append("full disk") }
        if hasFailingCalls { words.append("failing calls") }
        return words.joined(separator: ", ")
    }
}
