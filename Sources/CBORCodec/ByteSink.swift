/// Writes one thing behind the other into memory that has room for all of it.
struct ByteSink {
    private let start: UnsafeMutablePointer<UInt8>
    private let capacity: Int
    private(set) var count = 0

    init(_ memory: UnsafeMutableBufferPointer<UInt8>) {
        start = memory.baseAddress!
        capacity = memory.count
    }

    /// What is written.
    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: start, count: count) }

    /// Moves the end so many bytes on.
    ///
    /// - Returns: where they are to be written.
    @inline(__always)
    mutating func room(_ bytes: Int) -> UnsafeMutablePointer<UInt8> {
        precondition(bytes >= 0 && bytes <= capacity &- count, "the capacity was computed too small")
        defer { count &+= bytes }
        return start + count
    }

    @inline(__always)
    mutating func append(_ byte: UInt8) { room(1).pointee = byte }

    @inline(__always)
    mutating func append(_ bytes: UnsafeRawBufferPointer) {
        guard let first = bytes.baseAddress else { return }
        UnsafeMutableRawPointer(room(bytes.count)).copyMemory(from: first, byteCount: bytes.count)
    }

    /// Appends the lowest bytes of a number, most significant first.
    @inline(__always)
    mutating func appendBigEndian(_ number: UInt64, bytes: Int) {
        let place = room(bytes)
        for index in 0..<bytes { place[index] = UInt8(truncatingIfNeeded: number >> UInt64(8 &* (bytes &- 1 &- index))) }
    }

    /// Moves what is behind `place` up.
    mutating func makeRoom(_ bytes: Int, at place: Int) {
        precondition(place <= count)
        let behind = count - place
        _ = room(bytes)
        UnsafeMutableRawPointer(start + place + bytes).copyMemory(from: start + place, byteCount: behind)
    }

    /// Sets one byte that is written.
    mutating func set(_ byte: UInt8, at place: Int) {
        precondition(place >= 0 && place < count)
        start[place] = byte
    }

    mutating func removeAll(from place: Int) {
        precondition(place >= 0 && place <= count)
        count = place
    }

    /// Moves bytes down to the end of what is left.
    mutating func keep(_ range: Range<Int>, writtenBefore end: Int) {
        precondition(range.lowerBound >= count && range.upperBound <= end && end <= capacity)
        UnsafeMutableRawPointer(room(range.count)).copyMemory(from: start + range.lowerBound, byteCount: range.count)
    }
}
