/// Writes an event stream (WHATWG HTML section 9.2.5) at the end of a byte array.
///
///     id: 41            optional; an empty value makes the client forget its last id
///     event: goal       optional; without it the client says "message"
///     retry: 3000       optional; milliseconds
///     data: one line    one for each line of the data, at least one
///     (empty line)      dispatches
///
/// Nothing that is given here can end an event early or add a field: `id` and `event` by their type, `data` by being split.
package enum EventStreamEncoder {
    /// One event.
    ///
    /// - Parameters:
    ///   - data: UTF-8. It is split at CR, LF and CRLF, so the client sees each of them as LF. Empty data is dispatched too, as "".
    ///   - retryMilliseconds: how long the client waits before it connects again; at least 0.
    package static func event(
        id: EventStreamField? = nil,
        event: EventStreamField? = nil,
        data: UnsafeRawBufferPointer,
        retryMilliseconds: Int? = nil,
        into output: inout [UInt8]
    ) {
        if let id { field("id: ", id.value, into: &output) }
        if let event { field("event: ", event.value, into: &output) }
        if let retryMilliseconds {
            precondition(retryMilliseconds >= 0, "a client cannot wait for less than no time")
            field("retry: ", String(retryMilliseconds), into: &output)
        }
        lines(data, into: &output)
        output.append(LineScanner.lf)
    }

    /// One event; see the other form.
    package static func event(
        id: EventStreamField? = nil,
        event: EventStreamField? = nil,
        data: [UInt8],
        retryMilliseconds: Int? = nil,
        into output: inout [UInt8]
    ) {
        data.withUnsafeBytes {
            Self.event(id: id, event: event, data: $0, retryMilliseconds: retryMilliseconds, into: &output)
        }
    }

    /// One event; see the other form.
    package static func event(
        id: EventStreamField? = nil,
        event: EventStreamField? = nil,
        data: String,
        retryMilliseconds: Int? = nil,
        into output: inout [UInt8]
    ) {
        var data = data
        data.withUTF8 {
            Self.event(
                id: id, event: event, data: UnsafeRawBufferPointer($0), retryMilliseconds: retryMilliseconds, into: &output)
        }
    }

    /// A comment, which a client skips: the heartbeat.
    ///
    /// - Parameter padding: so many bytes more than the three of the shortest comment, for proxies that hold small writes back.
    package static func comment(padding: Int = 0, into output: inout [UInt8]) {
        precondition(padding >= 0, "padding of fewer than no bytes")
        output.append(UInt8(ascii: ":"))
        output.append(contentsOf: repeatElement(UInt8(ascii: " "), count: padding))
        output.append(LineScanner.lf)
        output.append(LineScanner.lf)
    }

    private static func append(_ text: StaticString, to output: inout [UInt8]) {
        output.append(contentsOf: UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    private static func field(_ name: StaticString, _ value: String, into output: inout [UInt8]) {
        append(name, to: &output)
        output.append(contentsOf: value.utf8)
        output.append(LineScanner.lf)
    }

    private static func lines(_ data: UnsafeRawBufferPointer, into output: inout [UInt8]) {
        var start = 0
        while true {
            let end = LineScanner.lineEnd(in: data, from: start)
            append("data: ", to: &output)
            output.append(contentsOf: UnsafeRawBufferPointer(rebasing: data[start..<end]))
            output.append(LineScanner.lf)
            guard end < data.count else { return }
            let isPair = data[end] == LineScanner.cr && end + 1 < data.count && data[end + 1] == LineScanner.lf
            start = end + (isPair ? 2 : 1)
        }
    }
}
