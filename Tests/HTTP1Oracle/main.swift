import Foundation
import HTTP1Codec
import HTTPTypes
import NIOCore
import NIOEmbedded
import NIOHTTP1

// Says what Tocsin's parser and NIOHTTP1's (llhttp) read in the same bytes, for `Tests/Conformance/http1` to compare.
//
//     stdin    { length: 4 bytes, big-endian | so many bytes: all that one client sends }
//     stdout   one line of JSON for each: {"tocsin": READING, "nio": READING}
//
//     READING  {"requests": [REQUEST], "partial": REQUEST or null, "end": "complete" | "incomplete" | "refused: WHY"}
//     REQUEST  {"method", "target", "authority" or null, "version", "headers": [[name, value]], "body": base64, "keepAlive"}
//
// `partial` is a request whose head came and whose end did not. A character of a string is a byte (ISO Latin 1). Tocsin's target is what
// its router sees, and Host stands in `authority`; NIO's target and headers are as received.

let input = try FileHandle.standardInput.readToEnd() ?? Data()
var bytes = [UInt8](input)[...]
var output: [UInt8] = []
while !bytes.isEmpty {
    precondition(bytes.count >= 4, "a length of less than four bytes")
    let count = bytes.prefix(4).reduce(0) { $0 << 8 | Int($1) }
    bytes = bytes.dropFirst(4)
    precondition(bytes.count >= count, "less bytes than were announced")
    let message = Array(bytes.prefix(count))
    bytes = bytes.dropFirst(count)
    output += "{\"tocsin\":\(tocsinReading(message).json),\"nio\":\(nioReading(message).json)}\n".utf8
}
try FileHandle.standardOutput.write(contentsOf: output)
