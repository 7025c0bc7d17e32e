import Identity
import Transports

/// The commands of one request, at the loop of their session: done one after the other, at turns; some replies come later than others.
final class SessionCommands {
    typealias Command = Result<WebSocketCommand, WebSocketCommand.Refusal>

    let session: SessionID
    /// Who says them; a session obeys its own user only.
    let identity: Identity?
    /// Of the hook, to all that the commands ask of it.
    var answers: Hook.Answers = [:]
    private let commands: [Command]
    private var isAtWork = false
    /// What they have cost the loop.
    private var microseconds: UInt32 = 0
    private var done = 0
    private var replies: [[UInt8]?]
    private var missing: Int
    private var completion: (([[UInt8]]?, UInt32) -> Void)?

    /// - Parameter completion: gets the replies in order, nil if there is no such session; and what they have cost, in microseconds.
    init(
        _ commands: [Command], of session: SessionID, identity: Identity?,
        completion: @escaping @Sendable (_ replies: [[UInt8]]?, _ microseconds: UInt32) -> Void
    ) {
        self.commands = commands
        self.session = session
        self.identity = identity
        self.completion = completion
        replies = Array(repeating: nil, count: commands.count)
        missing = commands.count
    }

    var isDone: Bool { done == commands.count }

    /// Those that are commands at all.
    var good: [WebSocketCommand] { commands.compactMap { try? $0.get() } }

    /// Has the next one done, if there is one.
    func next(_ perform: (Command, _ reply: @escaping ([UInt8]) -> Void) -> Void) {
        guard !isDone else { return }
        isAtWork = true
        let index = done
        done += 1
        perform(commands[index]) { [self] in set(index, $0) }
    }

    /// There is no such session; or an earlier command was the end of it.
    func sessionIsGone() {
        if done == 0 { return complete(nil) }
        while !isDone {
            done += 1
            set(done - 1, WebSocketReply.refused(nil, code: "bad_command", message: "the session has ended"))
        }
    }

    /// A slice is over, and has cost so much.
    func pause(microseconds: UInt32) {
        isAtWork = false
        self.microseconds += microseconds
        answerIfWhole()
    }

    private func answerIfWhole() {
        // What the last one costs is known at the end of its slice.
        if isDone, missing == 0, !isAtWork { complete(replies.map { $0! }) }
    }

    private func set(_ index: Int, _ reply: [UInt8]) {
        guard replies[index] == nil else { return }
        replies[index] = reply
        missing -= 1
        answerIfWhole()
    }

    private func complete(_ replies: [[UInt8]]?) {
        done = commands.count
        completion?(replies, microseconds)
        completion = nil
    }
}

extension SessionCommands.Command {
    var isPublish: Bool { (try? get())?.isPublish ?? false }
}

extension WebSocketCommand {
    var isPublish: Bool {
        if case .publish = action { true } else { false }
    }
}
