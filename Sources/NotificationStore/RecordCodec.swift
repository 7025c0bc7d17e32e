import NotificationCore

/// The bodies of the other tables' rows. Each begins with a checksum of itself and of the key it belongs to.
enum RecordCodec {
    // MARK: Receipts

    static func checksum(user: FieldText, channel: ChannelID) -> Checksum {
        var checksum = Checksum()
        checksum.add(UInt64(bitPattern: Int64(channel)))
        checksum.add(user.string)
        return checksum
    }

    /// Count of ranges, then for each the distance from the end of the one before and the length less one.
    static func encode(_ set: SequenceSet, _ checksum: Checksum) -> [UInt8] {
        var bytes = [UInt8].withRoomForChecksum
        bytes.appendVarint(UInt64(set.ranges.count))
        var end: UInt64 = 0
        for range in set.ranges {
            bytes.appendVarint(range.lowerBound - end)
            bytes.appendVarint(range.upperBound - range.lowerBound)
            end = range.upperBound
        }
        bytes.sealChecksum(checksum)
        return bytes
    }

    /// - Returns: the ranges, ascending.
    static func ranges(_ bytes: UnsafeRawBufferPointer, _ checksum: Checksum) throws(ByteReader.Damage) -> [ClosedRange<UInt64>] {
        var reader = try ByteReader(sealed: bytes, checksum)
        let count = try reader.count(upTo: bytes.count)
        var ranges: [ClosedRange<UInt64>] = []
        var end: UInt64 = 0
        for _ in 0..<count {
            let (lower, lowerOverflow) = end.addingReportingOverflow(try reader.varint())
            let (upper, upperOverflow) = lower.addingReportingOverflow(try reader.varint())
            guard !lowerOverflow, !upperOverflow, upper < .max else { throw ByteReader.Damage() }
            ranges.append(lower...upper)
            end = upper
        }
        guard reader.isAtEnd else { throw ByteReader.Damage() }
        return ranges
    }

    // MARK: States

    private static let documentTag: UInt8 = 0
    private static let latestTag: UInt8 = 1

    private static func checksum(channel: ChannelID, sequence: UInt64) -> Checksum {
        var checksum = Checksum()
        checksum.add(UInt64(bitPattern: Int64(channel)))
        checksum.add(sequence)
        return checksum
    }

    static func encode(_ state: StateRecord) -> [UInt8] {
        var bytes = [UInt8].withRoomForChecksum
        let checksum = checksum(channel: state.channel, sequence: state.sequence)
        switch state.body {
        case .document(let text):
            bytes.append(documentTag)
            bytes.appendVarint(state.lastChangeOffset)
            bytes.appendVarint(UInt64(max(0, state.timeMilliseconds)))
            bytes.append(contentsOf: text)
            bytes.sealChecksum(checksum)
            return bytes
        case .latest(let entries):
            bytes.append(latestTag)
            bytes.appendVarint(UInt64(entries.count))
            var encoder = EntryEncoder(bytes: bytes, offset: 0, sequence: 0, time: 0, hasSequences: true)
            for entry in entries { encoder.append(entry) }
            return encoder.seal(checksum)
        }
    }

    static func state(
        _ bytes: UnsafeRawBufferPointer, channel: ChannelID, name: ChannelName, sequence: UInt64
    ) throws(ByteReader.Damage) -> StateRecord {
        var reader = try ByteReader(sealed: bytes, checksum(channel: channel, sequence: sequence))
        switch try reader.byte() {
        case documentTag:
            let lastChange = try reader.varint()
            guard let time = Int64(exactly: try reader.varint()) else { throw ByteReader.Damage() }
            return StateRecord(
                channel: channel, sequence: sequence, body: .document([UInt8](reader.rest)), lastChangeOffset: lastChange,
                timeMilliseconds: time
            )
        case latestTag:
            let count = try reader.count(upTo: bytes.count)
            var decoder = EntryDecoder(
                reader, channel: channel, name: name, offset: 0, sequence: 0, time: 0, hasSequences: true)
            var entries: [LogEntry] = []
            for _ in 0..<count { entries.append(try decoder.next()) }
            guard decoder.reader.isAtEnd else { throw ByteReader.Damage() }
            return StateRecord(channel: channel, sequence: sequence, body: .latest(entries))
        default:
            throw ByteReader.Damage()
        }
    }

    // MARK: Idempotency

    private static func checksum(_ record: IdempotencyRecord, total: Int64) -> Checksum {
        var checksum = Checksum()
        checksum.add(record.fingerprint ?? 0)
        checksum.add(UInt64(bitPattern: record.timeMilliseconds))
        checksum.add(UInt64(bitPattern: total))
        checksum.add(record.key.publisher)
        checksum.add(record.key.text.string)
        return checksum
    }

    /// Count of publications, then for each 0 if it was refused, or its channel plus one, its sequence, and its log number less the one
    /// before.
    static func encode(_ record: IdempotencyRecord) -> [UInt8] {
        var bytes = [UInt8].withRoomForChecksum
        bytes.appendVarint(UInt64(record.places.count))
        var before: UInt64 = 0
        for place in record.places {
            bytes.appendVarint(place.map { UInt64($0.channel) + 1 } ?? 0)
            guard let place else { continue }
            bytes.appendVarint(place.sequence)
            bytes.appendVarint(place.offset &- before)
            before = place.offset
        }
        return bytes
    }

    /// - Parameter total: which stands beside it.
    static func seal(_ bytes: inout [UInt8], of record: IdempotencyRecord, total: Int64) {
        bytes.sealChecksum(checksum(record, total: total))
    }

    /// - Parameter record: without its places.
    static func places(
        _ bytes: UnsafeRawBufferPointer, of record: IdempotencyRecord, total: Int64
    ) throws(ByteReader.Damage) -> [IdempotencyRecord.Place?] {
        var reader = try ByteReader(sealed: bytes, checksum(record, total: total))
        var places: [IdempotencyRecord.Place?] = []
        var before: UInt64 = 0
        for _ in 0..<(try reader.count(upTo: bytes.count)) {
            let channel = try reader.count(upTo: Int(ChannelID.max) + 1)
            guard channel > 0 else {
                places.append(nil)
                continue
            }
            let sequence = try reader.varint()
            before &+= try reader.varint()
            places.append(IdempotencyRecord.Place(channel: ChannelID(channel - 1), sequence: sequence, offset: before))
        }
        guard reader.isAtEnd else { throw ByteReader.Damage() }
        return places
    }

    /// As versions before the table `answer` wrote it: with names, and the sequence 0 for what was refused.
    static func earlierReceipts(
        _ bytes: UnsafeRawBufferPointer, key: FieldText, fingerprint: UInt64, time: Int64
    ) throws(ByteReader.Damage) -> [AppendReceipt] {
        var checksum = Checksum()
        checksum.add(fingerprint)
        checksum.add(UInt64(bitPattern: time))
        checksum.add(key.string)
        var reader = try ByteReader(sealed: bytes, checksum)
        var receipts: [AppendReceipt] = []
        var before: ChannelName?
        for _ in 0..<(try reader.count(upTo: bytes.count)) {
            let text = try reader.text()
            guard let channel = text.isEmpty ? before : ChannelName(text) else { throw ByteReader.Damage() }
            receipts.append(AppendReceipt(channel: channel, sequence: try reader.varint(), offset: try reader.varint()))
            before = channel
        }
        guard reader.isAtEnd else { throw ByteReader.Damage() }
        return receipts
    }

    // MARK: Rows without a body

    static func check(_ channel: ChannelRecord) -> Int64 {
        var checksum = Checksum()
        checksum.add(UInt64(bitPattern: Int64(channel.id)))
        checksum.add(channel.lastSequence)
        checksum.add(channel.lastOffset)
        checksum.add(channel.trimmedSequence)
        checksum.add(channel.trimmedOffset)
        checksum.add(channel.name.string)
        return Int64(checksum.value)
    }
}
