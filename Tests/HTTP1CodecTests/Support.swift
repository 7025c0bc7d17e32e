import Foundation
import HTTP1Codec
import HTTPTypes
import Testing

/// What came out of a parser, in the words of `Fixtures/HTTP1/README.md`.
struct Transcript: Equatable {
    private(set) var lines: [String] = []
    private var body: [UInt8] = []

    mutating func add(_ head: HTTP1RequestHead) {
        lines.append("head \(head.request.method) \(head.request.path.map(Self.escaped) ?? "-") HTTP/1.\(head.minorVersion)")
        if let authority = head.request.authority { lines.append("authority \(authority)") }
        add(head.request.headerFields)
        lines.append("connection \(head.keepAlive ? "keep-alive" : "close")")
        switch head.body {
        case .none: lines.append("body none")
        case .length(let length): lines.append("body length \(length)")
        case .chunked: lines.append("body chunked")
        }
        if let upgrade = head.upgrade { lines.append("upgrade \(upgrade)") }
        if head.expectsContinue { lines.append("expects continue") }
    }

    mutating func add(_ head: HTTP1ResponseHead) {
        let status = head.response.status
        lines.append("head HTTP/1.\(head.minorVersion) \(status.code) \(status.reasonPhrase)")
        add(head.response.headerFields)
        lines.append("connection \(head.keepAlive ? "keep-alive" : "close")")
        switch head.body {
        case .none: lines.append("body none")
        case .length(let length): lines.append("body length \(length)")
        case .chunked: lines.append("body chunked")
        case .untilClose: lines.append("body until close")
        }
    }

    private mutating func add(_ fields: HTTPFields) {
        for field in fields {
            let value = field.withUnsafeBytesOfValue { Self.escaped($0) }
            lines.append("field \(field.name.canonicalName): \(value)")
        }
    }

    mutating func add(data: some Sequence<UInt8>) {
        body += data
    }

    mutating func addEnd() {
        flush()
        lines.append("end")
    }

    mutating func add(_ fault: HTTP1Fault) {
        flush()
        lines.append("fault \(fault.status) \(fault)")
    }

    mutating func flush() {
        if !body.isEmpty { lines.append("data \"\(Self.escaped(body))\"") }
        body = []
    }

    static func escaped(_ text: String) -> String {
        escaped(Array(text.utf8))
    }

    static func escaped(_ bytes: some Sequence<UInt8>) -> String {
        var text = ""
        for byte in bytes {
            switch byte {
            case UInt8(ascii: "\\"): text += "\\\\"
            case 0x20...0x7E: text.unicodeScalars.append(Unicode.Scalar(byte))
            default: text += "\\x" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
            }
        }
        return text
    }
}

/// Gives the pieces to a request parser as a connection would.
func requestLines(_ pieces: [[UInt8]], limits: HTTP1Limits = HTTP1Limits()) -> [String] {
    var parser = HTTP1RequestParser(limits: limits)
    var transcript = Transcript()
    for piece in pieces {
        do throws(HTTP1Fault) {
            try piece.feed { input throws(HTTP1Fault) in
                var consumed = 0
                guard let event = try parser.next(input, consumed: &consumed) else {
                    precondition(consumed == input.count, "bytes left behind")
                    return nil
                }
                switch event {
                case .head(let head): transcript.add(head)
                case .body(let range):
                    precondition(!range.isEmpty && range.upperBound <= consumed, "body outside what was read")
                    transcript.add(data: input[range])
                case .end: transcript.addEnd()
                }
                return consumed
            }
        } catch {
            transcript.add(error)
            return transcript.lines
        }
    }
    transcript.flush()
    return transcript.lines
}

/// Gives the pieces to a response parser, and then the end of the connection. Bytes that it leaves are told.
func responseLines(
    _ pieces: [[UInt8]],
    to method: HTTPRequest.Method = .get,
    limits: HTTP1Limits = HTTP1Limits(),
    closed: Bool = true
) -> [String] {
    var parser = HTTP1ResponseParser(limits: limits, requestMethod: method)
    var transcript = Transcript()
    var left: [UInt8] = []
    do throws(HTTP1Fault) {
        for piece in pieces {
            var read = 0
            try piece.feed { input throws(HTTP1Fault) in
                var consumed = 0
                let event = try parser.next(input, consumed: &consumed)
                read += consumed
                switch event {
                case .head(let head): transcript.add(head)
                case .body(let range):
                    precondition(!range.isEmpty && range.upperBound <= consumed, "body outside what was read")
                    transcript.add(data: input[range])
                case .end: transcript.addEnd()
                case nil: return nil
                }
                return consumed
            }
            left += piece[read...]
        }
        if closed, try parser.connectionClosed() != nil { transcript.addEnd() }
    } catch {
        transcript.add(error)
        return transcript.lines
    }
    transcript.flush()
    return transcript.lines + (left.isEmpty ? [] : ["left \"\(Transcript.escaped(left))\""])
}

extension [UInt8] {
    init(_ text: String) {
        self = Array(text.utf8)
    }

    /// Calls `step` with what is left until it returns nil. It returns how many bytes it took.
    func feed(_ step: (UnsafeRawBufferPointer) throws(HTTP1Fault) -> Int?) throws(HTTP1Fault) {
        try withUnsafeBufferPointer { buffer throws(HTTP1Fault) in
            var rest = UnsafeRawBufferPointer(buffer)[...]
            while let taken = try step(UnsafeRawBufferPointer(rebasing: rest)) {
                rest = rest.dropFirst(taken)
            }
        }
    }
}

/// One pair of files under `Fixtures/HTTP1/requests`.
struct GoldenCase: CustomTestStringConvertible, Sendable {
    let name: String
    let bytes: [UInt8]
    let lines: [String]

    var testDescription: String { name }

    static func all(_ folder: String) -> [GoldenCase] {
        var root = URL(fileURLWithPath: #filePath).resolvingSymlinksInPath()
        while !FileManager.default.fileExists(atPath: root.appendingPathComponent("Fixtures").path) {
            precondition(root.path != "/", "no Fixtures above the tests")
            root.deleteLastPathComponent()
        }
        let folder = root.appendingPathComponent("Fixtures/HTTP1/requests/\(folder)")
        let files = try! FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
        return files.filter { $0.pathExtension == "http" }
            .sorted { $0.path < $1.path }
            .map { file in
                let text = try! String(contentsOf: file.deletingPathExtension().appendingPathExtension("events"), encoding: .utf8)
                return GoldenCase(
                    name: file.deletingPathExtension().lastPathComponent,
                    bytes: Array(try! Data(contentsOf: file)),
                    lines: text.split(separator: "\n").map(String.init)
                )
            }
    }
}
