import CNghttp2
import Glibc

private func with<Result>(_ user: UnsafeMutableRawPointer?, _ body: (HTTP2AllocationMeter) -> Result) -> Result {
    body(Unmanaged<HTTP2AllocationMeter>.fromOpaque(user!).takeUnretainedValue())
}

/// Counts what nghttp2 allocates for the sessions that are given it, and can make an allocation fail. For tests: nothing else sees
/// whether a C library gave everything back.
package final class HTTP2AllocationMeter {
    /// Blocks that are allocated now.
    package private(set) var liveBlocks = 0
    /// Allocations ever asked for.
    package private(set) var allocations = 0
    /// When set, the allocation with this number (from 0) and all later ones fail.
    package var failsFrom: Int?

    package init() {}

    /// The table of functions for nghttp2. The meter has to outlive the sessions that use it.
    var memory: nghttp2_mem {
        nghttp2_mem(
            mem_user_data: Unmanaged.passUnretained(self).toOpaque(),
            malloc: { size, user in with(user) { $0.allocate { Glibc.malloc(size) } } },
            free: { pointer, user in
                guard let pointer else { return }
                with(user) { $0.liveBlocks -= 1 }
                Glibc.free(pointer)
            },
            calloc: { count, size, user in with(user) { $0.allocate { Glibc.calloc(count, size) } } },
            realloc: { pointer, size, user in
                with(user) { meter in
                    guard let pointer else { return meter.allocate { Glibc.malloc(size) } }
                    guard meter.countAndAllow() else { return nil }
                    return Glibc.realloc(pointer, size)
                }
            }
        )
    }

    private func countAndAllow() -> Bool {
        defer { allocations += 1 }
        guard let failsFrom else { return true }
        return allocations < failsFrom
    }

    private func allocate(_ body: () -> UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
        guard countAndAllow() else { return nil }
        liveBlocks += 1
        return body()
    }
}
