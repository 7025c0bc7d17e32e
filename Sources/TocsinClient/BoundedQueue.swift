import Synchronization

/// A queue between one task that fills it and one that empties it. It bounds what waits: who fills it asks for room first.
final class BoundedQueue<Element: Sendable>: Sendable {
    /// A task that waits, for elements or for room.
    private struct Waiter {
        var continuation: CheckedContinuation<Void, Never>?

        mutating func take() -> CheckedContinuation<Void, Never>? {
            defer { continuation = nil }
            return continuation
        }
    }

    private struct State {
        var elements: [(element: Element, weight: Int)] = []
        /// Elements before it are taken.
        var head = 0
        var weight = 0
        var isFinished = false
        var fault: (any Error)?
        var reader = Waiter()
        var writer = Waiter()

        var isEmpty: Bool { head == elements.count }

        subscript(end: End) -> Waiter {
            get { end == .reader ? reader : writer }
            set { if end == .reader { reader = newValue } else { writer = newValue } }
        }

        mutating func takeFirst() -> Element {
            let (element, weight) = elements[head]
            head += 1
            self.weight -= weight
            if head == elements.count {
                elements.removeAll(keepingCapacity: true)
                head = 0
            } else if head > 256, head > elements.count / 2 {
                elements.removeFirst(head)
                head = 0
            }
            return element
        }
    }

    private let state = Mutex(State())
    private let weightMax: Int
    /// Called each time there is room again after there was none; from the reader's task.
    private let onRoom: @Sendable () -> Void

    /// - Parameter weightMax: there is room while what waits weighs less.
    init(weightMax: Int, onRoom: @escaping @Sendable () -> Void = {}) {
        self.weightMax = weightMax
        self.onRoom = onRoom
    }

    /// Of all that waits.
    var weight: Int { state.withLock { $0.weight } }

    var hasRoom: Bool { state.withLock { $0.weight < weightMax || $0.isFinished } }

    /// Adds an element, even if there is no room.
    ///
    /// - Returns: whether there is still room.
    @discardableResult
    func push(_ element: Element, weight: Int = 1) -> Bool {
        let (reader, hasRoom) = state.withLock { state -> (CheckedContinuation<Void, Never>?, Bool) in
            guard !state.isFinished else { return (nil, true) }
            state.elements.append((element, weight))
            state.weight += weight
            return (state.reader.take(), state.weight < weightMax)
        }
        reader?.resume()
        return hasRoom
    }

    /// What is in it can still be taken.
    ///
    /// - Parameter fault: thrown behind the last element.
    func finish(_ fault: (any Error)? = nil) {
        let waiters = state.withLock { state in
            if !state.isFinished {
                state.isFinished = true
                state.fault = fault
            }
            return [state.reader.take(), state.writer.take()]
        }
        for waiter in waiters { waiter?.resume() }
    }

    /// Waits for room, or for the end of the task or the queue.
    func room() async {
        await wait(.writer) { $0.weight < self.weightMax || $0.isFinished }
    }

    /// - Returns: nil at the end of the queue, or when the task is cancelled.
    func next() async throws -> Element? {
        while !Task.isCancelled {
            let (element, fault, isOver, isRoom, writer) = state.withLock {
                state -> (Element?, (any Error)?, Bool, Bool, CheckedContinuation<Void, Never>?) in
                guard state.isEmpty else {
                    let wasFull = state.weight >= weightMax
                    let element = state.takeFirst()
                    let isRoom = wasFull && state.weight < weightMax
                    return (element, nil, false, isRoom, isRoom ? state.writer.take() : nil)
                }
                defer { if state.isFinished { state.fault = nil } }
                return (nil, state.fault, state.isFinished, false, nil)
            }
            writer?.resume()
            if isRoom { onRoom() }
            if let fault { throw fault }
            if let element { return element }
            if isOver { return nil }
            await wait(.reader) { !$0.isEmpty || $0.isFinished }
        }
        return nil
    }

    private enum End {
        case reader
        case writer
    }

    private func wait(_ end: End, until isReady: @Sendable (State) -> Bool) async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isWaiting = state.withLock { state in
                    // Cancellation is looked at inside the lock: the handler takes it too, before or after.
                    guard !isReady(state), !Task.isCancelled else { return false }
                    precondition(state[end].continuation == nil, "two tasks at one end of a queue")
                    state[end].continuation = continuation
                    return true
                }
                if !isWaiting { continuation.resume() }
            }
        } onCancel: {
            state.withLock { $0[end].take() }?.resume()
        }
    }
}
