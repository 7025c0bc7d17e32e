import Logging
import NIOCore
import NotificationStore
import Webhooks

extension Server {
    /// Of the process that has the log.
    static func ownStoreOptions(_ configuration: ServerConfiguration) -> StoreOptions {
        var options = storeOptions(configuration)
        options.outbox = configuration.webhooks?.outbox
        return options
    }

    /// Begins to tell others, before anybody can come.
    ///
    /// - Returns: nil if nobody is to be told of anything.
    static func makeWebhooks(
        _ configuration: ServerConfiguration, _ log: EmbeddedLog, _ logger: Logger
    ) throws(ServerStartFault) -> WebhookService? {
        guard let webhooks = configuration.webhooks else { return nil }
        let service = try WebhookService(webhooks, log: log, authorityFile: configuration.identity.authorityFile, logger: logger)
        service.start()
        return service
    }

    /// Hands on once a second what was refused. Ends with the loop.
    static func reportRefusals(
        _ state: ServerState, on eventLoop: any EventLoop, _ take: @escaping @Sendable ([RefusalBook.Report]) -> Void
    ) {
        guard state.limits.tellsRefusals else { return }
        eventLoop.scheduleRepeatedTask(initialDelay: .seconds(1), delay: .seconds(1)) { _ in
            let reports = state.limits.takeRefusals()
            if !reports.isEmpty { take(reports) }
        }
    }

    /// Reads the secrets of webhooks again. If a file is not good, the old ones stay and the log says why.
    package func reloadWebhooks() { state.webhooks?.reloadSecrets() }
}

extension WebhookConfiguration {
    /// What of it the store has to know.
    var outbox: OutboxOptions {
        var options = OutboxOptions()
        options.rowsMax = outboxRowsMax
        options.bytesMax = outboxBytesMax
        options.ageSecondsMax = ageSecondsMax
        options.watchesAlerts = wants(.alertUnread)
        options.watchedMax = watchedMax
        return options
    }
}
