import NIOCore
import Presence
import Synchronization
import Transports

/// The book of the main process, as a worker has it: reports and questions go over the link, changes and answers come over it.
final class SharedPresence: PresenceService {
    private struct Waiting {
        var number: UInt64 = 0
        var questions: [UInt64: @Sendable (PresencePage?) -> Void] = [:]
    }

    private let link: NIOLoopBound<WorkerLink>
    private let waiting: NIOLoopBoundBox<Waiting>
    private let listener = Mutex<(@Sendable (Int, [PresenceChange]) -> Void)?>(nil)
    private let figuresBox = Mutex<[PresenceFigure]>([])

    /// Questions that have no answer yet; one more gets none.
    private static let questionsMax = 10_000
    /// A question is answered in some milliseconds, or the main process is not well.
    private static let questionMilliseconds: Int64 = 2000
    /// With so much on the link that has not been taken, reports wait: they become no more by that, only newer.
    private static let queuedBytesMax = 8 << 20

    init(_ link: NIOLoopBound<WorkerLink>) {
        self.link = link
        waiting = .makeBoxSendingValue(Waiting(), eventLoop: link.eventLoop)
    }

    var figures: [PresenceFigure] { figuresBox.withLock { $0 } }

    func start(tell: @escaping @Sendable (Int, [PresenceChange]) -> Void) {
        listener.withLock { $0 = tell }
        link.eventLoop.execute { self.link.value.onPresence = { [weak self] body in self?.take(body) } }
    }

    func report(_ updates: [PresenceUpdate], from source: Int, completion: @escaping @Sendable () -> Void) {
        let eventLoop = link.eventLoop
        eventLoop.execute {
            guard self.link.value.channel.queuedBytes < Self.queuedBytesMax else {
                eventLoop.scheduleTask(in: .milliseconds(250)) { self.report(updates, from: source, completion: completion) }
                return
            }
            for part in PresenceMessage.parts(updates, bytes: { $0.frameBytes }) {
                self.link.value.channel.send(.presence(PresenceMessage.report(source: source, Array(part)).bytes))
            }
            completion()
        }
    }

    func ask(_ question: PresenceQuestion, completion: @escaping @Sendable (PresencePage?) -> Void) {
        let eventLoop = link.eventLoop
        eventLoop.execute {
            guard self.link.value.channel.isOpen, self.waiting.value.questions.count < Self.questionsMax else { return completion(nil) }
            self.waiting.value.number += 1
            let number = self.waiting.value.number
            self.waiting.value.questions[number] = completion
            self.link.value.channel.send(.presence(PresenceMessage.question(number: number, question).bytes))
            eventLoop.scheduleTask(in: .milliseconds(Self.questionMilliseconds)) {
                self.waiting.value.questions.removeValue(forKey: number)?(nil)
            }
        }
    }

    private func take(_ body: [UInt8]) {
        guard let message = try? PresenceMessage(body) else { return }
        switch message {
        case .page(let number, let page): waiting.value.questions.removeValue(forKey: number)?(page)
        case .changes(let source, let changes): listener.withLock { $0 }?(source, changes)
        case .figures(let figures): figuresBox.withLock { $0 = figures }
        case .report, .question: break
        }
    }
}
