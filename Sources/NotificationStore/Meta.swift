import GRDB
import NotificationCore

/// The one row of `meta`: whose log it is, and where its channels end.
///
/// `tails` is written with every commit. It is a sum over all channels of where they end, so that it takes one page a commit however
/// many there are. Without it, a page that is zeroed or cut off could take a channel's newest messages along unseen, and their numbers
/// would be given out again.
struct Meta {
    var epoch: LogEpoch
    /// Of the run that is going on, or that ended.
    var durability: Durability

    /// Epochs that are remembered: who comes back with a position of an older one starts anew. One begins with every start, so these are
    /// eleven years of a start a day, or an hour of one a second; about 25 bytes each.
    static let pastEpochsMax = 4096

    private static func check(_ epoch: LogEpoch, _ durability: Durability, orderly: UInt64, boot: String?) -> Int64 {
        var checksum = Checksum()
        checksum.add(epoch.bits)
        checksum.add(orderly)
        checksum.add(durability.rawValue)
        checksum.add(boot ?? "-")
        return Int64(checksum.value)
    }

    init(epoch: LogEpoch, durability: Durability) {
        self.epoch = epoch
        self.durability = durability
    }

    init(_ database: Database) throws {
        let query = try Query(database, #"SELECT epoch, durability, orderly, boot, "check" FROM meta WHERE id = 1"#)
        let problem = StoreProblem.corrupt("the row that says whose log it is was changed or is missing")
        guard try query.step() else { throw problem }
        guard let durability = Durability(rawValue: try query.text(1)) else { throw problem }
        self.init(epoch: LogEpoch(random: try query.unsigned(0)), durability: durability)
        // How the run ended, and in which boot of the machine, is what earlier versions wrote there.
        let (orderly, boot) = (try query.unsigned(2), query.isNull(3) ? nil : try query.text(3))
        guard try query.integer(4) == Self.check(epoch, durability, orderly: orderly, boot: boot) else { throw problem }
    }

    func store(_ database: Database) throws {
        let query = try Query(
            database,
            """
            INSERT INTO meta (id, epoch, durability, orderly, boot, "check") VALUES (1, ?, ?, 0, NULL, ?)
            ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, durability = excluded.durability, orderly = excluded.orderly,
                boot = excluded.boot, "check" = excluded."check"
            """)
        query.bind(1, epoch.bits)
        query.bind(2, durability.rawValue)
        query.bind(3, Self.check(epoch, durability, orderly: 0, boot: nil))
        try query.run()
    }

    // MARK: Where the channels end

    /// One channel's part of the sum.
    static func tail(_ channel: ChannelID, sequence: UInt64, offset: UInt64) -> UInt64 {
        // The finaliser of SplitMix64, over the three numbers one after the other.
        var mixed: UInt64 = 0x9e37_79b9_7f4a_7c15
        for number in [UInt64(bitPattern: Int64(channel)), sequence, offset] {
            mixed ^= number
            mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
            mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
            mixed ^= mixed >> 31
        }
        return mixed
    }

    static func tails(_ states: [ChannelState]) -> UInt64 {
        var sum: UInt64 = 0
        for (id, state) in states.enumerated() {
            sum &+= tail(ChannelID(id), sequence: state.lastSequence, offset: state.lastOffset)
        }
        return sum
    }

    static func storeTails(_ database: Database, _ tails: UInt64) throws {
        try Query.run(database, "UPDATE meta SET tails = ?", Int64(bitPattern: tails))
    }

    static func checkTails(_ database: Database, _ states: [ChannelState]) throws {
        let stored = try Query.number(database, "SELECT tails FROM meta WHERE id = 1")
        guard stored == Int64(bitPattern: tails(states)) else {
            throw StoreProblem.corrupt("some channel does not end where it did: its newest messages are missing, or there are others")
        }
    }

    // MARK: Past epochs

    private static func check(_ bits: UInt64, _ offset: UInt64) -> Int64 {
        var checksum = Checksum()
        checksum.add(bits)
        checksum.add(offset)
        return Int64(checksum.value)
    }

    /// In the order in which they ended.
    static func pastEpochs(_ database: Database) throws -> [(epoch: LogEpoch, lastOffset: UInt64)] {
        let query = try Query(database, #"SELECT bits, last_offset, "check" FROM epoch ORDER BY id"#)
        var epochs: [(LogEpoch, UInt64)] = []
        while try query.step() {
            let (bits, offset) = (try query.unsigned(0), try query.unsigned(1))
            guard try query.integer(2) == check(bits, offset) else { throw StoreProblem.corrupt("an earlier epoch was changed") }
            epochs.append((LogEpoch(random: bits), offset))
        }
        return epochs
    }

    /// No earlier epoch has more than is here: a log that was imported from a part of an export says more of them than it has.
    static func limitPastEpochs(_ database: Database, lastOffset: UInt64) throws {
        for (epoch, offset) in try pastEpochs(database) where offset > lastOffset {
            try Query.run(
                database, #"UPDATE epoch SET last_offset = ?, "check" = ? WHERE bits = ?"#, Int64(lastOffset),
                check(epoch.bits, lastOffset), Int64(epoch.bits))
        }
    }

    static func storePastEpoch(_ database: Database, _ epoch: LogEpoch, lastOffset: UInt64) throws {
        try Query.run(
            database, #"INSERT INTO epoch (bits, last_offset, "check") VALUES (?, ?, ?)"#, Int64(epoch.bits), Int64(lastOffset),
            check(epoch.bits, lastOffset))
        try Query.run(database, "DELETE FROM epoch WHERE id <= (SELECT max(id) FROM epoch) - ?", Int64(pastEpochsMax))
    }
}
