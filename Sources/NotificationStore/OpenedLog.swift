package import NotificationCore

/// A store, and a writer that stands where it does: what begins and ends with the file of the log.
package struct OpenedLog {
    package let store: NotificationStore
    package var writer: LogWriter
    /// What a loop that begins to follow the log has to know.
    package let preload: LogPreload
    /// Why it can be read and not written; the store is good for reading only then.
    package let writeFault: StoreFault?

    /// Opens the file, or makes it, brings the states of the channels up to date and sees whether the disk can be written.
    ///
    /// - Parameters:
    ///   - newEpoch: as of `NotificationStore`.
    ///   - needsWriting: whether it is an error that it cannot be written.
    ///   - isAfterFault: whether this process could not write it.
    ///   - isFull: whether the disk is known to be full, though a little may still go: then nothing is tried.
    package init(
        _ options: StoreOptions, newEpoch: LogEpoch, nowMilliseconds: Int64, needsWriting: Bool = true, isAfterFault: Bool = false,
        isFull: Bool = false
    ) throws(StoreFault) {
        store = try NotificationStore(options, newEpoch: newEpoch, nowMilliseconds: nowMilliseconds)
        do throws(StoreFault) {
            let contents = try store.contents()
            writer = LogWriter(contents, limits: options.limits, answered: { [store] in try store.answer(to: $0) })
            for (channel, sequence) in writer.channelsToRestore(contents) {
                var after = sequence
                while true {
                    let entries = try store.entries(of: channel, afterSequence: after, limit: 1000)
                    guard let last = entries.last else { break }
                    for entry in entries { writer.restore(entry) }
                    after = last.sequence
                }
            }
            var preload = writer.preload()
            preload.pastEpochs = contents.pastEpochs
            self.preload = preload
            do throws(StoreFault) {
                if isFull { throw .full(path: options.path) }
                do throws(StoreFault) {
                    if store.wasFull { throw .full(path: options.path) }
                    // A log that another process has just handed over is as it should be.
                    if isAfterFault { try store.emptyWriteAheadLog() } else if options.ongoingEpoch == nil { try store.emptyIfIdle() }
                    try store.probe()
                } catch {
                    guard case .full = error else { throw error }
                    store.relieve(nowMilliseconds: nowMilliseconds)
                    try store.probe()
                }
                store.takeReserve()
                writeFault = nil
            } catch {
                if needsWriting { throw error }
                writeFault = error
            }
        } catch {
            store.close(isOrderly: false)
            throw error
        }
    }

    /// What the store has after this log number: a commit that was said to have failed may be in it all the same.
    package func batch(after head: UInt64, nowMilliseconds: Int64) throws(StoreFault) -> LogBatch {
        let channels = preload.channels.indices.filter { preload.channels[$0].lastOffset > head }.map { ChannelID($0) }
        let query = LogQuery(
            .messages, channels: channels, after: head, through: writer.head, notificationsMax: .max, bytesMax: .max
        )
        if channels.isEmpty { return writer.batch([]) }
        let answer = try store.answer(query, nowMilliseconds: nowMilliseconds)
        guard !answer.trimmed.contains(where: { $0.damagedFrom != nil }) else {
            throw .corrupt("\(store.options.path) is corrupt: the newest messages are not as they were written")
        }
        return writer.batch(answer.notifications)
    }
}
