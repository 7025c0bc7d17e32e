import HTTP1Codec
import HTTPTypes

/// The responses that a client reads (RFC 9112).
///
/// The first byte chooses the limits (bits 0 and 1), the method of the requests (bits 2 and 3), and whether the connection is closed
/// behind the rest (bit 4).
package func fuzzHTTP1Response(_ bytes: UnsafeRawBufferPointer) {
    guard let options = bytes.first else { return }
    let rest = Array(bytes.dropFirst())
    let limits = HTTP1Limits.ofFuzzing(options)
    let method = [HTTPRequest.Method.get, .head, .connect, .get][Int(options >> 2 & 3)]
    let isClosed = options & 16 != 0
    let trace = Cut.same(rest, "responses depend on the cut") { HTTP1ResponseTrace(rest, $0, limits, method, isClosed: isClosed) }
    trace.checkWrittenAgain(method)
}

private struct HTTP1ResponseTrace: Equatable {
    struct Response: Equatable {
        var head: HTTP1ResponseHead
        var fields: [PlainField]
        var body: [UInt8] = []
        var isComplete = false
    }

    private(set) var responses: [Response] = []
    private(set) var fault: HTTP1Fault?
    private var isComplete = false
    /// Bytes behind 101 or the answer to CONNECT.
    private var otherBytes = 0

    init(_ wire: [UInt8], _ cut: Cut, _ limits: HTTP1Limits, _ method: HTTPRequest.Method, isClosed: Bool) {
        var parser = HTTP1ResponseParser(limits: limits, requestMethod: method)
        cut.forEachPiece(of: wire) { piece in
            var consumed = 0
            do throws(HTTP1Fault) {
                while true {
                    let left = UnsafeRawBufferPointer(rebasing: piece[consumed...])
                    if let event = try parser.next(left, consumed: &consumed) {
                        take(event, left, limits)
                    } else if parser.isComplete, consumed < piece.count {
                        parser.nextResponse(to: method)
                    } else {
                        break
                    }
                }
                if consumed < piece.count {
                    let code = responses.last?.head.response.status.code ?? 0
                    require(code == 101 || method == .connect && (200..<300).contains(code), "bytes left behind")
                    otherBytes += piece.count - consumed
                }
                return true
            } catch {
                requireSame(consumed, piece.count, "bytes left behind a fault")
                fault = error
                return false
            }
        }
        if isClosed, fault == nil { close(&parser) }
        isComplete = parser.isComplete
    }

    private mutating func close(_ parser: inout HTTP1ResponseParser) {
        do throws(HTTP1Fault) {
            if let event = try parser.connectionClosed() {
                requireSame(event, .end, "something but an end at the end")
                require(responses.last?.head.body == .untilClose, "the end of the connection ends another body")
                responses[responses.count - 1].isComplete = true
            }
        } catch {
            requireSame(error, .connectionClosedEarly, "another fault at the end")
            fault = error
        }
    }

    private mutating func take(_ event: HTTP1ResponseEvent, _ input: UnsafeRawBufferPointer, _ limits: HTTP1Limits) {
        switch event {
        case .head(let head):
            require(responses.last?.isComplete ?? true, "a head inside a response")
            let code = head.response.status.code
            require(code == 101 || (200...599).contains(code), "another status")
            PlainField.requireHarmless(head.response.headerFields)
            responses.append(Response(head: head, fields: PlainField.list(head.response.headerFields)))
        case .body(let range):
            require(responses.last?.isComplete == false, "a body outside a response")
            require(!range.isEmpty && range.lowerBound >= 0 && range.upperBound <= input.count, "a body outside the input")
            responses[responses.count - 1].body += input[range]
            require(responses.last!.body.count <= limits.bodyBytesMax, "a body above the limit")
        case .end:
            require(responses.last?.isComplete == false, "an end outside a response")
            switch responses.last!.head.body {
            case .none: require(responses.last!.body.isEmpty, "a body that was not announced")
            case .length(let length): require(responses.last!.body.count == length, "a body of another length")
            case .chunked: break
            case .untilClose: preconditionFailure("an end that is not the connection's")
            }
            responses[responses.count - 1].isComplete = true
        }
    }

    /// Each response, written by the encoder, reads as it did.
    func checkWrittenAgain(_ method: HTTPRequest.Method) {
        for response in responses where response.isComplete {
            let head = response.head
            var wire: [UInt8] = []
            HTTP1ResponseEncoder.head(
                head.response, framing: head.body, keepAlive: head.keepAlive, requestMinorVersion: 1, into: &wire)
            if head.body == .chunked {
                HTTP1ResponseEncoder.chunk(response.body, into: &wire)
                wire += HTTP1ResponseEncoder.lastChunk
            } else {
                wire += response.body
            }
            let limits = HTTP1Limits(headBytesMax: 1 << 16, fieldsMax: 200)
            let trace = HTTP1ResponseTrace(wire, .drawn, limits, method, isClosed: head.body == .untilClose)
            require(trace.fault == nil && trace.responses.count == 1, "a written response is refused")
            let again = trace.responses[0]
            require(again.isComplete && again.body == response.body, "another body when written again")
            requireSame(again.head.body, head.body, "another framing when written again")
            requireSame(again.head.response.status.code, head.response.status.code, "another status when written again")
            let (reason, reasonAgain) = (head.response.status.reasonPhrase, again.head.response.status.reasonPhrase)
            requireSame(reasonAgain.bytes, reason.bytes, "another reason when written again")
            requireSame(again.head.keepAlive, head.keepAlive, "another end of the connection when written again")
            let framing: Set = ["content-length", "transfer-encoding"]
            var fields = PlainField.list(head.response.headerFields, without: framing)
            if !head.keepAlive { fields.append(PlainField(name: "connection".bytes, value: "close".bytes)) }
            require(
                PlainField.list(again.head.response.headerFields, without: framing) == fields, "other fields when written again")
        }
    }
}
