package import NIOCore
import NotificationCore
package import Presence
import Synchronization
package import Transports

/// The book of who is on which channels, in the process that has the log, on a thread that neither serves clients nor writes the log.
package final class PresenceHub: PresenceService {
    private let eventLoop: any EventLoop
    private let book: NIOLoopBoundBox<PresenceBook>
    private let clock: @Sendable () -> Int64
    /// From the book's clock to milliseconds since 1970; the same for good, so that a time does not change.
    private let wallOffset: Int64
    private let listener = Mutex<(@Sendable (Int, [PresenceChange]) -> Void)?>(nil)
    private let observer = Mutex<(any ChannelOccupancyObserver)?>(nil)
    private let figuresBox = Mutex<[PresenceFigure]>([])

    /// - Parameter eventLoop: the thread.
    package convenience init(_ configuration: PresenceConfiguration, eventLoop: any EventLoop) {
        self.init(configuration, eventLoop: eventLoop, clock: { Clock.monotonicMilliseconds() })
    }

    /// - Parameter clock: milliseconds, which do not run backwards.
    init(_ configuration: PresenceConfiguration, eventLoop: any EventLoop, clock: @escaping @Sendable () -> Int64) {
        self.eventLoop = eventLoop
        self.clock = clock
        wallOffset = Clock.wallMilliseconds() - clock()
        book = .makeBoxSendingValue(PresenceBook(configuration), eventLoop: eventLoop)
    }

    /// Who is told when channels are occupied and vacated.
    package func setObserver(_ new: (any ChannelOccupancyObserver)?) {
        observer.withLock { $0 = new }
    }

    package var figures: [PresenceFigure] { figuresBox.withLock { $0 } }

    package func start(tell: @escaping @Sendable (Int, [PresenceChange]) -> Void) {
        listener.withLock { $0 = tell }
        let interval = TimeAmount.milliseconds(PresenceBook.tickMilliseconds)
        eventLoop.scheduleRepeatedTask(initialDelay: interval, delay: interval) { [weak self] _ in self?.onTick() }
    }

    package func report(_ updates: [PresenceUpdate], from source: Int, completion: @escaping @Sendable () -> Void) {
        eventLoop.execute {
            self.book.value.take(updates, from: source, now: self.clock())
            self.tellNews()
            completion()
        }
    }

    package func ask(_ question: PresenceQuestion, completion: @escaping @Sendable (PresencePage?) -> Void) {
        eventLoop.execute { completion(self.page(question)) }
    }

    /// The process with these loops has ended.
    func drop(_ sources: Range<Int>) {
        eventLoop.execute {
            self.book.value.drop(sources, now: self.clock())
            self.tellNews()
        }
    }

    /// What a worker says.
    ///
    /// - Parameter reply: gets the bytes of the answer, if there is one, on the thread of the book.
    func take(_ body: [UInt8], reply: @escaping @Sendable ([UInt8]) -> Void) {
        eventLoop.execute {
            guard let message = try? PresenceMessage(body) else { return }
            switch message {
            case .report(let source, let updates):
                self.book.value.take(updates, from: source, now: self.clock())
                self.tellNews()
            case .question(let number, let question):
                reply(PresenceMessage.page(number: number, self.page(question)).bytes)
            case .page, .changes, .figures: break
            }
        }
    }

    // MARK: on its thread

    private func page(_ question: PresenceQuestion) -> PresencePage {
        var page = book.value.page(of: question.channel, after: question.after, limit: question.limit)
        page.members = page.members?.map { member in
            var member = member
            member.sinceMilliseconds += wallOffset
            return member
        }
        return page
    }

    private func onTick() {
        book.value.advance(now: clock())
        tellNews()
        let figures = book.value.figures
        figuresBox.withLock { $0 = figures }
    }

    private func tellNews() {
        let news = book.value.takeNews()
        if news.isEmpty { return }
        if let observer = observer.withLock({ $0 }) {
            let now = clock() + wallOffset
            for transition in news.transitions {
                if transition.isOccupied {
                    observer.channelOccupied(transition.channel, atMilliseconds: now)
                } else {
                    observer.channelVacated(transition.channel, atMilliseconds: now)
                }
            }
        }
        guard !news.tells.isEmpty, let listener = listener.withLock({ $0 }) else { return }
        var changes: [Int: [PresenceChange]] = [:]
        for tell in news.tells {
            for source in tell.sources { changes[source, default: []].append(tell.change) }
        }
        for (source, changes) in changes { listener(source, changes) }
    }
}
