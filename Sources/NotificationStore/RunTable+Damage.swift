import GRDB
import NotificationCore

/// What of a channel cannot be read: a run that is not as it was written, or that is not there.
///
/// What is known of such a run are its neighbours: sequences of a channel have no hole, so it has what lies between the last message before
/// it that can be read and the first one behind it. Its own columns are not believed.
extension RunTable {
    /// The damage that begins behind `offset`, up to the next run that can be read.
    ///
    /// - Parameter last: the sequence of the message at `offset`, if it is known.
    /// - Returns: the stretch; none if nothing is missing there, and only what stands in the way is to be passed over. And the log number
    ///   behind which the channel is read on; nil: nothing comes behind it.
    func damage(
        _ channel: ChannelID, _ state: ChannelState, after offset: UInt64, last: UInt64?
    ) throws -> (mark: TrimMark?, next: (after: UInt64, sequence: UInt64)?) {
        let before =
            try last
            ?? max(state.trimmedSequence, lastID(channel, through: offset).flatMap { try sound($0, state.name) }?.lastSequence ?? 0)
        var (first, place): (UInt64?, UInt64) = (nil, offset)
        var next: RunHeader?
        while let id = try nextID(channel, after: place) {
            if let header = try sound(id, state.name), header.firstSequence > before {
                next = header
                break
            }
            place = RunID.offset(id)
            first = first ?? place
        }
        let through = next.map { $0.firstSequence - 1 } ?? state.lastSequence
        let end = next.map { $0.firstOffset - 1 } ?? state.lastOffset
        // Others' messages may come before it as far as its place is known: a page that ends there begins with it again.
        let known = first.map { $0 <= end ? $0 - 1 : offset } ?? offset
        let mark =
            before < through
            ? TrimMark(
                channel: channel, sequence: through, offset: known, damagedFrom: before + 1,
                damagedThrough: max(end, min(place, state.lastOffset))) : nil
        return (mark, next == nil ? nil : (max(end, place), through))
    }

    /// Whether no run is missing between `offset` and the first one behind it: a row that is gone would otherwise not be noticed.
    func isNext(_ header: RunHeader, _ state: ChannelState, after offset: UInt64) throws -> Bool {
        if header.firstOffset <= offset || header.firstSequence <= state.trimmedSequence + 1 { return true }
        do {
            // In a table that is out of order a row may be found anywhere.
            guard let before = try last(header.channel, through: offset), before.lastOffset <= offset else { return false }
            if before.lastSequence + 1 == header.firstSequence { return true }
            // If that one is damaged itself it says nothing, and who stands behind it has been told.
            return try sound(before.id, state.name) == nil
        } catch let error where StoreProblem.isDamage(error) {
            return true
        }
    }

    /// The columns of the first run behind `offset` whose columns may be right.
    func firstSound(_ channel: ChannelID, after offset: UInt64) throws -> RunHeader? {
        do {
            return try first(channel, after: offset)?.header
        } catch let problem where StoreProblem.isDamage(problem) {
            guard let id = try nextID(channel, after: offset) else { throw problem }
            return try firstSound(channel, after: RunID.offset(id))
        }
    }

    /// The row number of the next run, whatever its other columns say.
    private func nextID(_ channel: ChannelID, after offset: UInt64) throws -> Int64? {
        let query = try Query(database, "SELECT id FROM run WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT 1")
        query.bind(1, RunID.make(channel, offset))
        query.bind(2, RunID.make(channel, RunID.offsetMax))
        guard try query.step() else { return nil }
        let id = try query.integer(0)
        return id > RunID.make(channel, offset) ? id : nil
    }

    /// The row number of the last run that ends at or before `offset`.
    private func lastID(_ channel: ChannelID, through offset: UInt64) throws -> Int64? {
        let query = try Query(database, "SELECT id FROM run WHERE id > ?1 AND id <= ?2 ORDER BY id DESC LIMIT 1")
        query.bind(1, RunID.make(channel, 0))
        query.bind(2, RunID.make(channel, offset))
        guard try query.step() else { return nil }
        let id = try query.integer(0)
        return id <= RunID.make(channel, offset) ? id : nil
    }

    /// The columns of a run, if all of it is as it was written.
    private func sound(_ id: Int64, _ name: ChannelName) throws -> RunHeader? {
        do {
            let query = try Query(
                database, "SELECT id, first_offset, first_sequence, count, first_time, duration, total, body FROM run WHERE id = ?")
            query.bind(1, id)
            guard try query.step() else { return nil }
            let header = try Self.header(query)
            _ = try query.withBlob(7) { try RunCodec.decode(header, $0, name: name) }
            return header
        } catch let error where StoreProblem.isDamage(error) {
            return nil
        }
    }
}
