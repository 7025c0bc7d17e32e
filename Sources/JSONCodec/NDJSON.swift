/// Newline-delimited JSON: one text a line, lines ended by LF. Blank lines count for nothing, and a CR before the LF is no part of
/// its line.
package enum NDJSON {
    /// Finds the lines.
    ///
    /// - Parameter linesMax: it stops after so many, so that a body of very short lines costs no more than its reader wants of it.
    /// - Returns: where the lines are, without their ends. The last one needs no LF.
    package static func lines(_ bytes: UnsafeRawBufferPointer, linesMax: Int = .max) -> [Range<Int>] {
        var lines: [Range<Int>] = []
        var start = 0
        while start < bytes.count, lines.count < linesMax {
            let end = ByteScan.firstIndex(of: 0x0a, in: bytes, from: start) ?? bytes.count
            if !isBlank(bytes, start..<end) { lines.append(start..<(bytes[end - 1] == 0x0d ? end - 1 : end)) }
            start = end + 1
        }
        return lines
    }

    private static func isBlank(_ bytes: UnsafeRawBufferPointer, _ line: Range<Int>) -> Bool {
        for index in line where bytes[index] != 0x20 && bytes[index] != 0x09 && bytes[index] != 0x0d { return false }
        return true
    }
}
