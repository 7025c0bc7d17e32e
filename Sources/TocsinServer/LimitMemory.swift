import CProcess
import Glibc
import Limits
import Synchronization

/// The memory in which a server counts what is limited: of one process its own, of several a part of what they share.
///
///     page: key of the hash, 16 bytes | open connections of each process, 4 bytes each, from byte 64
///     counts by name, of each process | buckets by name
final class LimitMemory: Sendable {
    /// Unchecked: used through atomics; the key is written before anybody else has it.
    nonisolated(unsafe) private let start: UnsafeMutableRawPointer
    private let bytes: Int
    let process: Int
    let processes: Int

    private static let page = 4096
    private static let totalsOffset = 64
    /// As many totals as find room on the page.
    static let processesMax = (page - totalsOffset) / MemoryLayout<Atomic<Int32>>.stride

    /// - Parameter descriptor: of memory that is shared, of zeros at first; nil: memory of this process alone.
    /// - Returns: nil if there is none to be had.
    init?(descriptor: Int32? = nil, offset: Int = 0, process: Int = 0, processes: Int = 1) {
        precondition(processes <= Self.processesMax, "there are too many processes")
        bytes = Self.bytes(processes: processes)
        let flags = descriptor == nil ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED
        guard let address = mmap(nil, bytes, PROT_READ | PROT_WRITE, flags, descriptor ?? -1, off_t(offset)), address != MAP_FAILED else {
            return nil
        }
        start = address
        self.process = process
        self.processes = processes
        if descriptor == nil { writeKey() }
    }

    deinit {
        munmap(start, bytes)
    }

    static func bytes(processes: Int) -> Int { page + CountTable.bytes(processes: processes) + BucketTable.bytes }

    /// To be called by one process, before the others are there.
    func writeKey() {
        // The system's generator is getrandom(2).
        var generator = Randomness()
        for offset in [0, 8] { start.storeBytes(of: generator.next(), toByteOffset: offset, as: UInt64.self) }
    }

    var hash: KeyedHash {
        KeyedHash(key: start.load(as: UInt64.self), start.load(fromByteOffset: 8, as: UInt64.self))
    }

    var counts: CountTable { CountTable(start + Self.page, process: process, processes: processes) }

    var buckets: BucketTable { BucketTable(start + Self.page + CountTable.bytes(processes: processes)) }

    private func total(_ process: Int) -> UnsafeMutablePointer<Atomic<Int32>> {
        (start + Self.totalsOffset).assumingMemoryBound(to: Atomic<Int32>.self) + process
    }

    /// - Returns: open connections of all processes.
    @discardableResult
    func addConnection(_ count: Int32) -> Int {
        total(process).pointee.add(count, ordering: .relaxed)
        return connections
    }

    var connections: Int { (0..<processes).reduce(0) { $0 + Int(total($1).pointee.load(ordering: .relaxed)) } }

    /// What an earlier process of this place had has ended with it.
    func clear() {
        total(process).pointee.store(0, ordering: .relaxed)
        counts.clear()
    }
}
