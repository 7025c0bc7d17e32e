package import Presence
package import Transports

/// The book of who is on which channels, as the loops of a process use it: `PresenceHub` where it is in this process, `SharedPresence`
/// where it is in the main process.
package protocol PresenceService: AnyObject, Sendable {
    /// Channels that somebody is on, by feed.
    var figures: [PresenceFigure] { get }

    /// What is new at an event loop.
    ///
    /// - Parameters:
    ///   - source: the loop, by its number through all processes.
    ///   - completion: told, on any thread, when more may be reported. So one report of a loop is under way at a time.
    func report(_ updates: [PresenceUpdate], from source: Int, completion: @escaping @Sendable () -> Void)

    /// - Parameter completion: told the answer, on any thread; nil: there is none at the moment. Times are in milliseconds since 1970.
    func ask(_ question: PresenceQuestion, completion: @escaping @Sendable (PresencePage?) -> Void)

    /// From now on loops are told what changes.
    ///
    /// - Parameter tell: called on any thread.
    func start(tell: @escaping @Sendable (_ source: Int, [PresenceChange]) -> Void)
}
