import Synchronization

/// What is counted by address or user, for all loops and processes of a server, in memory of a fixed size that they share: no lock, no
/// list of names, nothing to forget. Two rows of cells; a name has one in each, by its keyed hash:
///
///     row 0   … | cell | …            a name has at most what the lesser of its cells says (a count-min sketch, Cormode and
///     row 1   … | cell | …            Muthukrishnan 2005): others that fall on both of them are needed to make it more
///
/// With 20,000 names at a time a name meets others in both of its cells once in fifteen, and then is taken for about one more than it has.
package enum LimitTables {
    package static let rows = 2
    package static let cells = 1 << 16

    /// The cells of a name.
    static func places(_ hash: UInt64) -> (Int, Int) {
        (Int(hash & UInt64(cells - 1)), cells + Int(hash >> 32 & UInt64(cells - 1)))
    }
}

/// How many of something each name has. Each process has cells of its own, so that what one that has ended had can be taken out.
package struct CountTable: @unchecked Sendable {
    // Unchecked: the memory is only used through the atomics in it.
    private let memory: UnsafeMutablePointer<Atomic<Int32>>
    private let process: Int
    private let processes: Int
    private static let cellsOfProcess = LimitTables.rows * LimitTables.cells

    /// - Parameter memory: zeros at first; of `bytes(processes:)`; has to outlive the table.
    package init(_ memory: UnsafeMutableRawPointer, process: Int, processes: Int) {
        precondition((0..<processes).contains(process), "there is no such process")
        self.memory = memory.bindMemory(to: Atomic<Int32>.self, capacity: processes * Self.cellsOfProcess)
        self.process = process
        self.processes = processes
    }

    package static func bytes(processes: Int) -> Int { processes * cellsOfProcess * MemoryLayout<Atomic<Int32>>.stride }

    /// - Returns: how many it has now, in all processes.
    @discardableResult
    package func add(_ hash: UInt64, _ count: Int32 = 1) -> Int {
        let (first, second) = LimitTables.places(hash)
        let start = process * Self.cellsOfProcess
        memory[start + first].add(count, ordering: .relaxed)
        memory[start + second].add(count, ordering: .relaxed)
        return self.count(hash)
    }

    package func remove(_ hash: UInt64) { add(hash, -1) }

    package func count(_ hash: UInt64) -> Int {
        let (first, second) = LimitTables.places(hash)
        var sums = (0, 0)
        for process in 0..<processes {
            let start = process * Self.cellsOfProcess
            sums.0 += Int(memory[start + first].load(ordering: .relaxed))
            sums.1 += Int(memory[start + second].load(ordering: .relaxed))
        }
        return min(sums.0, sums.1)
    }

    /// What an earlier process of this place had.
    package func clear() {
        for index in 0..<Self.cellsOfProcess {
            let cell = process * Self.cellsOfProcess + index
            // A page that was never written to stays unwritten.
            if memory[cell].load(ordering: .relaxed) != 0 { memory[cell].store(0, ordering: .relaxed) }
        }
    }
}

/// A token bucket for each name. One that was not used for a while is full, which is what it would be if it were forgotten.
package struct BucketTable: @unchecked Sendable {
    // Unchecked: the memory is only used through the atomics in it.
    private let memory: UnsafeMutablePointer<Atomic<Int64>>

    /// - Parameter memory: zeros at first; of `bytes`; has to outlive the table.
    package init(_ memory: UnsafeMutableRawPointer) {
        self.memory = memory.bindMemory(to: Atomic<Int64>.self, capacity: LimitTables.rows * LimitTables.cells)
    }

    package static let bytes = LimitTables.rows * LimitTables.cells * MemoryLayout<Atomic<Int64>>.stride

    /// Takes so many tokens of a name.
    ///
    /// - Parameter now: the same clock in all processes.
    /// - Returns: 0, or how long to wait until there are so many, in nanoseconds; then nothing is taken.
    package func take(_ hash: UInt64, _ count: Int = 1, of limit: RateLimit, nowNanoseconds now: Int64) -> Int64 {
        let (first, second) = LimitTables.places(hash)
        while true {
            let (one, other) = (memory[first].load(ordering: .relaxed), memory[second].load(ordering: .relaxed))
            let (full, wait) = TokenBucket.take(count, of: limit, full: min(one, other), now: now)
            if wait > 0 { return wait }
            // The lesser cell is the one that counts: who is first there has the tokens.
            let (lesser, larger) = one <= other ? (first, second) : (second, first)
            guard memory[lesser].compareExchange(expected: min(one, other), desired: full, ordering: .relaxed).exchanged else { continue }
            memory[larger].max(full, ordering: .relaxed)
            return 0
        }
    }
}
