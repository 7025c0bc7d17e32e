import HTTP1Codec
import HTTPTypes

/// The requests of one HTTP/1.1 connection (RFC 9112).
///
/// The first byte chooses the limits (bits 0 and 1); the rest is what the client sends.
package func fuzzHTTP1Request(_ bytes: UnsafeRawBufferPointer) {
    guard let options = bytes.first else { return }
    let rest = Array(bytes.dropFirst())
    let limits = HTTP1Limits.ofFuzzing(options)
    let trace = Cut.same(rest, "requests depend on the cut") { HTTP1RequestTrace(rest, $0, limits) }
    trace.checkWrittenAgain()
}

extension HTTP1Limits {
    /// The usual ones, two that are often reached, and one that lets nothing through.
    static func ofFuzzing(_ options: UInt8) -> HTTP1Limits {
        switch options & 3 {
        case 0: HTTP1Limits()
        case 1:
            HTTP1Limits(
                startLineBytesMax: 40, headBytesMax: 200, fieldsMax: 5, chunkExtensionBytesMax: 6, trailerBytesMax: 20, bodyBytesMax: 30)
        case 2:
            HTTP1Limits(
                startLineBytesMax: 300, headBytesMax: 120, fieldsMax: 2, chunkExtensionBytesMax: 0, trailerBytesMax: 0, bodyBytesMax: 0)
        default:
            HTTP1Limits(
                startLineBytesMax: 1, headBytesMax: 1, fieldsMax: 0, chunkExtensionBytesMax: 0, trailerBytesMax: 0, bodyBytesMax: 0)
        }
    }
}

private struct HTTP1RequestTrace: Equatable {
    struct Request: Equatable {
        var head: HTTP1RequestHead
        var fields: [PlainField]
        var body: [UInt8] = []
        var isComplete = false
    }

    private(set) var requests: [Request] = []
    private(set) var fault: HTTP1Fault?
    private var isBetweenRequests = false
    private var headStarted = false

    init(_ wire: [UInt8], _ cut: Cut, _ limits: HTTP1Limits) {
        var parser = HTTP1RequestParser(limits: limits)
        cut.forEachPiece(of: wire) { piece in
            var consumed = 0
            do throws(HTTP1Fault) {
                while true {
                    let left = UnsafeRawBufferPointer(rebasing: piece[consumed...])
                    guard let event = try parser.next(left, consumed: &consumed) else { break }
                    take(event, left, limits)
                }
                requireSame(consumed, piece.count, "bytes left behind")
                return true
            } catch {
                requireSame(consumed, piece.count, "bytes left behind a fault")
                require((400...505).contains(error.status), "a fault without a status")
                fault = error
                checkStaysFailed(&parser, error)
                return false
            }
        }
        isBetweenRequests = parser.isBetweenRequests
        headStarted = parser.headStarted
    }

    private mutating func take(_ event: HTTP1RequestEvent, _ input: UnsafeRawBufferPointer, _ limits: HTTP1Limits) {
        switch event {
        case .head(let head):
            require(requests.last?.isComplete ?? true, "a head inside a request")
            Self.check(head, limits)
            requests.append(Request(head: head, fields: PlainField.list(head.request.headerFields)))
        case .body(let range):
            require(requests.last?.isComplete == false, "a body outside a request")
            require(!range.isEmpty && range.lowerBound >= 0 && range.upperBound <= input.count, "a body outside the input")
            requests[requests.count - 1].body += input[range]
            require(requests.last!.body.count <= limits.bodyBytesMax, "a body above the limit")
        case .end:
            require(requests.last?.isComplete == false, "an end outside a request")
            switch requests.last!.head.body {
            case .none: require(requests.last!.body.isEmpty, "a body that was not announced")
            case .length(let length): require(requests.last!.body.count == length, "a body of another length")
            case .chunked: break
            }
            requests[requests.count - 1].isComplete = true
        }
    }

    private static func check(_ head: HTTP1RequestHead, _ limits: HTTP1Limits) {
        let request = head.request
        PlainField.requireHarmless(request.headerFields)
        require(request.headerFields.count <= limits.fieldsMax, "too many fields")
        require(head.minorVersion == 0 || head.minorVersion == 1, "another version")
        require(head.minorVersion == 0 || request.authority != nil, "HTTP/1.1 without a host")
        require(request.authority.map(HTTP1RequestEncoder.isValidAuthority) ?? true, "a bad authority")
        require((request.path == nil) == (request.method == .connect), "a path with CONNECT, or none without")
        require(request.path.map(HTTP1RequestEncoder.isValidPath) ?? true, "a bad path")
        require(request.headerFields[HTTPField.Name("Host")!] == nil, "Host among the fields")
        let isFramedTwice = request.headerFields[.contentLength] != nil && request.headerFields[.transferEncoding] != nil
        require(!isFramedTwice, "framed in two ways")
    }

    /// Each request, written by the encoder, reads as it did.
    func checkWrittenAgain() {
        let written = requests.filter { $0.isComplete && $0.head.request.authority != nil }
        var wire: [UInt8] = []
        for request in written {
            HTTP1RequestEncoder.head(request.head.request, framing: request.head.body, into: &wire)
            if request.head.body == .chunked {
                HTTP1ResponseEncoder.chunk(request.body.prefix(7), into: &wire)
                HTTP1ResponseEncoder.chunk(request.body.dropFirst(7), into: &wire)
                wire += HTTP1ResponseEncoder.lastChunk
            } else {
                wire += request.body
            }
        }
        // A field line is written with a space and a number without its leading zeros, so a head may become longer.
        let again = HTTP1RequestTrace(wire, .drawn, HTTP1Limits(headBytesMax: 1 << 16, fieldsMax: 200))
        require(again.fault == nil && again.isBetweenRequests, "a written request is refused")
        requireSame(again.requests.count, written.count, "another count of requests when written again")
        for (request, again) in zip(written, again.requests) {
            let (head, headAgain) = (request.head, again.head)
            requireSame(head.request.method, headAgain.request.method, "another method when written again")
            require(head.request.authority?.bytes == headAgain.request.authority?.bytes, "another authority when written again")
            require(head.request.path?.bytes == headAgain.request.path?.bytes, "another path when written again")
            let framing: Set = ["content-length", "transfer-encoding"]
            require(
                PlainField.list(head.request.headerFields, without: framing)
                    == PlainField.list(headAgain.request.headerFields, without: framing),
                "other fields when written again"
            )
            require(head.body == headAgain.body && request.body == again.body, "another body when written again")
            // It is written as HTTP/1.1, where these mean something else.
            guard head.minorVersion == 1 else { continue }
            requireSame(head.keepAlive, headAgain.keepAlive, "another end of the connection when written again")
            requireSame(head.expectsContinue, headAgain.expectsContinue, "another expectation when written again")
            require(head.upgrade?.bytes == headAgain.upgrade?.bytes, "another upgrade when written again")
        }
    }
}

/// A parser that has failed says so for ever, and keeps nothing.
private func checkStaysFailed(_ parser: inout HTTP1RequestParser, _ fault: HTTP1Fault) {
    let more = Array("GET / HTTP/1.1\r\nHost: a\r\n\r\n".utf8)
    more.withUnsafeBytes { more in
        var consumed = 0
        do throws(HTTP1Fault) {
            _ = try parser.next(more, consumed: &consumed)
            preconditionFailure("a parser that has failed goes on")
        } catch {
            require(error == fault && consumed == more.count, "a parser that has failed says something else")
        }
    }
    require(!parser.headStarted && !parser.isBetweenRequests, "a parser that has failed waits for a request")
}
