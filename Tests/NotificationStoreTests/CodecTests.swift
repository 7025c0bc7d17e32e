import NotificationCore
import TestSupport
import Testing

@testable import NotificationStore

@Suite struct CodecTests {
    @Test("the checksum is zlib's CRC-32")
    func checksum() {
        var checksum = Checksum()
        Array("123456789".utf8).withUnsafeBytes { checksum.add($0) }
        #expect(checksum.value == 0xcbf4_3926)
        var words = Checksum()
        words.add(UInt64(littleEndian: Array("12345678".utf8).withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }))
        [UInt8(ascii: "9")].withUnsafeBytes { words.add($0) }
        #expect(words.value == 0xcbf4_3926)
    }

    @Test("numbers of any size come back", arguments: [0, 1, 127, 128, 16_383, 16_384, UInt64.max / 2, UInt64.max])
    func numbers(_ number: UInt64) throws {
        var bytes: [UInt8] = []
        bytes.appendVarint(number)
        bytes.appendZigzag(Int64(bitPattern: number))
        let (first, second, isAtEnd) = try bytes.withUnsafeBytes { bytes in
            var reader = ByteReader(bytes)
            return (try reader.varint(), try reader.zigzag(), reader.isAtEnd)
        }
        #expect(first == number)
        #expect(second == Int64(bitPattern: number))
        #expect(isAtEnd)
    }

    private func run(_ seed: UInt64, count: Int) -> (header: RunHeader, body: [UInt8], entries: [LogEntry]) {
        var random = SeededRandom(seed: seed)
        var model = LogModel()
        let channel = model.channel("alerts.x")
        for _ in 0..<count { model.addRandom(channel, &random) }
        var builder = RunBuilder(first: model.entries[0])
        for entry in model.entries.dropFirst() { builder.append(entry) }
        let (header, body) = builder.finish(totalBefore: 100)
        return (header, body, model.entries)
    }

    @Test("a run has its entries, all fields of them", arguments: 1...20 as ClosedRange<UInt64>)
    func runs(seed: UInt64) throws {
        let (header, body, entries) = run(seed, count: Int(seed) * 3)
        let decoded = try body.withUnsafeBytes { try RunCodec.decode(header, $0, name: name("alerts.x")) }
        #expect(decoded == entries)
        #expect(header.total == 100 + UInt64(body.count))
        #expect(header.lastTime == entries.map(\.timeMilliseconds).max())
    }

    @Test("every flipped bit of a run is noticed")
    func flips() throws {
        let (header, body, _) = run(7, count: 5)
        for bit in 0..<body.count * 8 {
            var damaged = body
            damaged[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(throws: StoreProblem.self) {
                try damaged.withUnsafeBytes { try RunCodec.decode(header, $0, name: name("alerts.x")) }
            }
        }
        for bit in 0..<60 {
            var damaged = header
            damaged.firstTime ^= 1 << bit
            #expect(throws: StoreProblem.self) {
                try body.withUnsafeBytes { try RunCodec.decode(damaged, $0, name: name("alerts.x")) }
            }
        }
    }

    /// The checksum is put right after the damage, so that everything behind it gets to see it.
    @Test("no bytes make the decoders trap", arguments: 0..<20 as Range<UInt64>)
    func fuzz(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let (header, body, _) = run(seed, count: 8)
        let set = RecordCodec.encode(SequenceSet([3...9, 12...12, 100...1000]), Checksum())
        for _ in 0..<2000 {
            var damaged = random.chance(50) ? body : set
            for _ in 0..<random.number(1...4) {
                switch random.number(0...3) {
                case 0: damaged[random.number(4...damaged.count - 1)] = UInt8(random.number(0...255))
                case 1: damaged.remove(at: random.number(4...damaged.count - 1))
                case 2: damaged.insert(UInt8(random.number(0...255)), at: random.number(4...damaged.count))
                default: damaged.removeSubrange(random.number(5...damaged.count)...)
                }
                if damaged.count < 8 { damaged += [255, 255, 255, 255, 255, 255, 255, 255] }
            }
            var wrong = header
            if random.chance(20) { wrong.count = random.number(0...100_000) }
            if random.chance(20) { wrong.firstOffset = random.next() }
            if random.chance(20) { wrong.firstSequence = random.next() >> UInt64(random.number(0...63)) }
            if random.chance(20) { wrong.firstTime = Int64(bitPattern: random.next()) }
            damaged.sealChecksum(wrong.checksum)
            _ = damaged.withUnsafeBytes { try? RunCodec.decode(wrong, $0, name: name("alerts.x")) }
            damaged.sealChecksum(Checksum())
            _ = damaged.withUnsafeBytes { try? RecordCodec.ranges($0, Checksum()) }
        }
    }

    @Test("what a user has read comes back")
    func receipts() throws {
        for set in [SequenceSet(), SequenceSet([1...1]), SequenceSet([0...5, 7...7, 100...UInt64.max - 1])] {
            let bytes = RecordCodec.encode(set, RecordCodec.checksum(user: text("ann"), channel: 3))
            let ranges = try bytes.withUnsafeBytes {
                try RecordCodec.ranges($0, RecordCodec.checksum(user: text("ann"), channel: 3))
            }
            #expect(ranges == set.ranges)
            #expect(throws: ByteReader.Damage.self) {
                try bytes.withUnsafeBytes { try RecordCodec.ranges($0, RecordCodec.checksum(user: text("ann"), channel: 4)) }
            }
        }
    }

    @Test("lists of ranges: what is between, and both together", arguments: 0..<200 as Range<UInt64>)
    func ranges(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        func set() -> SequenceSet {
            SequenceSet(
                (0..<random.number(0...5)).map { _ in
                    let lower = UInt64(random.number(1...40))
                    return lower...(lower + UInt64(random.number(0...6)))
                })
        }
        let (one, other) = (set(), set())
        let union = AlertCursor.union(one.ranges, other.ranges)
        let gaps = AlertCursor.gaps(5...35, skipping: union)
        for number in 1...50 as ClosedRange<UInt64> {
            let isIn = one.contains(number) || other.contains(number)
            #expect(union.contains { $0.contains(number) } == isIn)
            #expect(gaps.contains { $0.contains(number) } == (!isIn && (5...35).contains(number)))
        }
    }

    @Test("the cache stays within its bytes and drops what was not asked for longest")
    func cache() {
        func run(_ offset: UInt64) -> DecodedRun {
            let header = RunHeader(
                channel: 0, firstOffset: offset, lastOffset: offset, firstSequence: offset, count: 1, firstTime: 0, duration: 0, total: 0)
            let entry = LogEntry(
                channel: 0, offset: offset, sequence: offset, timeMilliseconds: 0,
                publication: Publication(channel: name("a"), data: [48]))
            return DecodedRun(header: header, notifications: [NotificationCore.Notification(entry, epoch: epochA)])
        }
        let cache = PageCache(bytesMax: 4000)
        for offset in 1...100 as ClosedRange<UInt64> {
            cache.insert(run(offset))
            #expect(cache.figures.bytes <= 4000)
            #expect(cache.find(1) != nil, "it was asked for all the time")
        }
        #expect(cache.find(100) != nil)
        #expect(cache.find(50) == nil)
        cache.remove([1, 100, 7])
        #expect(cache.find(1) == nil && cache.find(100) == nil)
        #expect(cache.figures.runs > 3)
    }
}
