import CProcess
import Glibc
import Synchronization

/// A number that the processes of a server share: the newest that the log has given out. The main process writes it, before anybody is
/// told of what it stands for; workers read it, so that a read through one finds what was published through another.
package final class SharedNumber: Sendable {
    package let descriptor: Int32
    /// Unchecked: the memory is there as long as this object, and is only used through the atomic in it.
    nonisolated(unsafe) private let memory: UnsafeMutablePointer<Atomic<UInt64>>
    private static let bytes = 4096
    static let offset = bytes

    /// - Parameters:
    ///   - inherited: of the number that another process has made; nil makes one.
    ///   - room: bytes of memory behind it that are shared as well, from `offset` on.
    /// - Returns: nil if there is no memory, or the descriptor is of something else.
    package init?(descriptor inherited: Int32? = nil, room: Int = 0) {
        let descriptor = inherited ?? tocsin_shared_memory(UInt(Self.bytes + room))
        guard descriptor >= 0 else { return nil }
        guard let address = mmap(nil, Self.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0), address != MAP_FAILED else {
            SystemCall.close(descriptor)
            return nil
        }
        self.descriptor = descriptor
        // The kernel's memory is of zeros, which is an atomic of 0.
        memory = address.bindMemory(to: Atomic<UInt64>.self, capacity: 1)
    }

    deinit {
        munmap(memory, Self.bytes)
        SystemCall.close(descriptor)
    }

    package var value: UInt64 { memory.pointee.load(ordering: .acquiring) }

    package func set(_ value: UInt64) { memory.pointee.store(value, ordering: .releasing) }
}
