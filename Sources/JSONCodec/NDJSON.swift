/// Newline-delimited JSON: one text a line.
package enum NDJSON {
    /// - Returns: where the lines are, without their ends; blank lines are left out, and a CR before the LF.
    package static func lines(_ bytes: UnsafeRawBufferPointer) -> [Range<Int>] {
        var lines: [Range<Int>] = []
        var start = 0
        while start < bytes.count {
            let end = bytes[start...].firstIndex(of: 0x0a) ?? bytes.count
            let isBlank = bytes[start..<end].allSatisfy { $0 == 0x20 || $0 == 0x09 || $0 == 0x0d }
            if !isBlank { lines.append(start..<(bytes[end - 1] == 0x0d ? end - 1 : end)) }
            start = end + 1
        }
        return lines
    }
}
