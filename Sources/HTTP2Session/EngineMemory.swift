import CNghttp2
import Glibc
import Synchronization

/// Where nghttp2 gets its memory.
///
/// Each session has a buffer of 16 KB for a frame, of which a connection with short messages only ever uses the beginning. So blocks of
/// that size lie on pages of their own, and what is never touched takes no memory. All others are malloc's.
enum EngineMemory {
    /// Unsafe nonisolated: written once, before anybody sees it. nghttp2 copies it into each session.
    nonisolated(unsafe) static let functions = nghttp2_mem(
        mem_user_data: nil,
        malloc: { size, _ in allocate(size) },
        free: { block, _ in free(block) },
        calloc: { count, size, _ in
            let (bytes, isTooMuch) = count.multipliedReportingOverflow(by: size)
            guard !isTooMuch else { return nil }
            return sparse(bytes) ?? Glibc.calloc(count, size)
        },
        realloc: { block, size, _ in
            guard let block else { return allocate(size) }
            guard SparseBlocks.shared?.contains(block) == true else { return Glibc.realloc(block, size) }
            if size <= SparseBlocks.blockBytes { return block }
            guard let larger = Glibc.malloc(size) else { return nil }
            larger.copyMemory(from: block, byteCount: SparseBlocks.blockBytes)
            free(block)
            return larger
        }
    )

    private static func allocate(_ size: Int) -> UnsafeMutableRawPointer? {
        sparse(size) ?? Glibc.malloc(size)
    }

    private static func sparse(_ size: Int) -> UnsafeMutableRawPointer? {
        SparseBlocks.sizes.contains(size) ? SparseBlocks.shared?.take() : nil
    }

    private static func free(_ block: UnsafeMutableRawPointer?) {
        guard let block else { return }
        if let blocks = SparseBlocks.shared, blocks.contains(block) { blocks.give(block) } else { Glibc.free(block) }
    }
}

/// Blocks of whole pages in one stretch of addresses. The kernel gives a page when it is first touched, filled with zeros.
final class SparseBlocks: Sendable {
    static let blockBytes = 20 << 10
    /// Shorter blocks are malloc's.
    static let sizes = (12 << 10)...blockBytes
    /// As many connections as a process has descriptors, and some; more get malloc's.
    private static let blocksMax = 32 << 10

    /// nil: the kernel does not give so many addresses.
    static let shared = SparseBlocks()

    private struct Unused {
        /// Blocks that were given back.
        var blocks: [UInt32] = []
        /// From here on no block was ever taken.
        var next: UInt32 = 0
    }

    /// Unsafe nonisolated: only an address.
    private nonisolated(unsafe) let base: UnsafeMutableRawPointer
    private let unused = Mutex(Unused())

    private init?() {
        let bytes = Self.blockBytes * Self.blocksMax
        guard let base = mmap(nil, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), base != MAP_FAILED
        else { return nil }
        // A huge page would be there as a whole with the first byte of it.
        _ = madvise(base, bytes, MADV_NOHUGEPAGE)
        self.base = base
    }

    func contains(_ block: UnsafeMutableRawPointer) -> Bool {
        (base..<base + Self.blockBytes * Self.blocksMax).contains(block)
    }

    /// - Returns: nil if there are none left.
    func take() -> UnsafeMutableRawPointer? {
        let index = unused.withLock { unused -> UInt32? in
            if let block = unused.blocks.popLast() { return block }
            guard unused.next < Self.blocksMax else { return nil }
            defer { unused.next += 1 }
            return unused.next
        }
        return index.map { base + Int($0) * Self.blockBytes }
    }

    /// Gives its pages back, too.
    func give(_ block: UnsafeMutableRawPointer) {
        _ = madvise(block, Self.blockBytes, MADV_DONTNEED)
        unused.withLock { $0.blocks.append(UInt32((block - base) / Self.blockBytes)) }
    }
}
