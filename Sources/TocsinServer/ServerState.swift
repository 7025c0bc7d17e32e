package import Logging
import Synchronization
import TLSEngine

/// What all loops of a server share. Nothing in it changes often.
package final class ServerState: Sendable {
    package let configuration: ServerConfiguration
    package let log: EmbeddedLog
    package let logger: Logger
    package let version: String
    /// Further pages, by path: the demo's.
    let pages: [String: StaticPage]
    let startedMilliseconds = Clock.monotonicMilliseconds()
    private let draining = Atomic<Bool>(false)
    private let loopsBox = Mutex<[LoopReference]>([])

    init(configuration: ServerConfiguration, log: EmbeddedLog, logger: Logger, version: String, pages: [String: StaticPage]) {
        self.configuration = configuration
        self.log = log
        self.logger = logger
        self.version = version
        self.pages = pages
    }

    /// The server goes down: it answers what it has, and takes nobody new.
    var isDraining: Bool { draining.load(ordering: .relaxed) }

    func beginDraining() { draining.store(true, ordering: .relaxed) }

    var loops: [LoopReference] {
        get { loopsBox.withLock { $0 } }
        set { loopsBox.withLock { $0 = newValue } }
    }
}

/// A fixed answer to a GET.
package struct StaticPage: Sendable {
    package var contentType: String
    package var bytes: [UInt8]

    package init(contentType: String, bytes: [UInt8]) {
        self.contentType = contentType
        self.bytes = bytes
    }
}
