import NotificationCore
import Synchronization

/// A run's messages as they are handed out.
struct DecodedRun: Sendable {
    let header: RunHeader
    let notifications: [Notification]

    /// Of the first message after `offset`; the count if there is none.
    func index(after offset: UInt64) -> Int {
        var low = 0
        var high = notifications.count
        while low < high {
            let middle = (low + high) / 2
            if notifications[middle].offset <= offset { low = middle + 1 } else { high = middle }
        }
        return low
    }
}

/// Runs that were decoded of late, for readers that follow each other: those not asked for longest go first.
final class PageCache: Sendable {
    private struct Node {
        var run: DecodedRun?
        var bytes = 0
        /// Neighbours in the order of use; the ends are at index 0.
        var newer = 0
        var older = 0
    }

    private struct State {
        /// The first is the ring's beginning and end: its `older` is the newest, its `newer` the oldest.
        var nodes = [Node()]
        var free: [Int] = []
        var places: [Int64: Int] = [:]
        var bytes = 0

        mutating func unlink(_ place: Int) {
            let node = nodes[place]
            nodes[node.newer].older = node.older
            nodes[node.older].newer = node.newer
        }

        mutating func linkAsNewest(_ place: Int) {
            let second = nodes[0].older
            nodes[place].older = second
            nodes[place].newer = 0
            nodes[second].newer = place
            nodes[0].older = place
        }

        mutating func remove(_ place: Int) {
            unlink(place)
            bytes -= nodes[place].bytes
            if let run = nodes[place].run { places[run.header.id] = nil }
            nodes[place] = Node()
            free.append(place)
        }
    }

    private let state = Mutex(State())
    private let bytesMax: Int
    /// What a run costs beside its messages.
    private static let runBytes = 160

    init(bytesMax: Int) {
        self.bytesMax = bytesMax
    }

    var figures: (runs: Int, bytes: Int) { state.withLock { ($0.places.count, $0.bytes) } }

    func find(_ id: Int64) -> DecodedRun? {
        state.withLock { state in
            guard let place = state.places[id] else { return nil }
            if state.nodes[0].older != place {
                state.unlink(place)
                state.linkAsNewest(place)
            }
            return state.nodes[place].run
        }
    }

    func insert(_ run: DecodedRun) {
        let bytes = run.notifications.reduce(Self.runBytes) { $0 + $1.bytes }
        guard bytes <= bytesMax else { return }
        state.withLock { state in
            guard state.places[run.header.id] == nil else { return }
            while state.bytes + bytes > bytesMax { state.remove(state.nodes[0].newer) }
            let place: Int
            if let reused = state.free.popLast() {
                place = reused
            } else {
                place = state.nodes.count
                state.nodes.append(Node())
            }
            state.nodes[place].run = run
            state.nodes[place].bytes = bytes
            state.places[run.header.id] = place
            state.bytes += bytes
            state.linkAsNewest(place)
        }
    }

    func remove(_ ids: [Int64]) {
        state.withLock { state in
            for id in ids {
                if let place = state.places[id] { state.remove(place) }
            }
        }
    }
}
