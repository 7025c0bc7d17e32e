import Testing

@testable import HTTP2Session

@Suite struct SparseBlocksTests {
    @Test("blocks do not overlap, are zero when they come, and come again when they were given back")
    func blocks() throws {
        let blocks = try #require(SparseBlocks.shared)
        let taken = try (0..<50).map { _ in try #require(blocks.take()) }
        #expect(Set(taken).count == taken.count)
        for block in taken {
            let bytes = UnsafeMutableRawBufferPointer(start: block, count: SparseBlocks.blockBytes)
            #expect(bytes.allSatisfy { $0 == 0 })
            #expect(blocks.contains(block) && blocks.contains(block + SparseBlocks.blockBytes - 1))
            bytes.initializeMemory(as: UInt8.self, repeating: 0xee)
        }
        for block in taken {
            #expect(UnsafeRawBufferPointer(start: block, count: SparseBlocks.blockBytes).allSatisfy { $0 == 0xee })
            blocks.give(block)
        }
        let again = try #require(blocks.take())
        #expect(UnsafeRawBufferPointer(start: again, count: SparseBlocks.blockBytes).allSatisfy { $0 == 0 })
        blocks.give(again)
        let other = UnsafeMutableRawPointer.allocate(byteCount: 16, alignment: 16)
        defer { other.deallocate() }
        #expect(!blocks.contains(other))
    }
}
