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
        let count = try reader.count(upTo: SequenceSet.rangesMax)
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

    private static func checksum(_ key: FieldText, _ fingerprint: UInt64, _ time: Int64) -> Checksum {
        var checksum = Checksum()
        checksum.add(fingerprint)
        checksum.add(UInt64(bitPattern: time))
        checksum.add(key.string)
        return checksum
    }

    static func encode(_ record: IdempotencyRecord) -> [UInt8] {
        var bytes = [UInt8].withRoomForChecksum
        bytes.appendVarint(UInt64(record.receipts.count))
        var before: ChannelName?
        for receipt in record.receipts {
            // An empty name: the same channel as before.
            bytes.appendLengthAndBytes(of: receipt.channel == before ? "" : receipt.channel.string)
            bytes.appendVarint(receipt.sequence)
            bytes.appendVarint(receipt.offset)
            before = receipt.channel
        }
        bytes.sealChecksum(checksum(record.key, record.fingerprint, record.timeMilliseconds))
        return bytes
    }

    static func idempotency(
        _ bytes: UnsafeRawBufferPointer, key: FieldText, fingerprint: UInt64, time: Int64
    ) throws(ByteReader.Damage) -> IdempotencyRecord {
        var reader = try ByteReader(sealed: bytes, checksum(key, fingerprint, time))
        let count = try reader.count(upTo: bytes.count)
        var receipts: [AppendReceipt] = []
        var before: ChannelName?
        for _ in 0..<count {
            let text = try reader.text()
            guard let channel = text.isEmpty ? before : ChannelName(text) else { throw ByteReader.Damage() }
            receipts.append(AppendReceipt(channel: channel, sequence: try reader.varint(), offset: try reader.varint()))
            before = channel
        }
        guard reader.isAtEnd else { throw ByteReader.Damage() }
        return IdempotencyRecord(key: key, fingerprint: fingerprint, receipts: receipts, timeMilliseconds: time)
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
