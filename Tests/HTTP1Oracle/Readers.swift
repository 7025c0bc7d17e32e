import HTTP1Codec
import HTTPTypes
import NIOCore
import NIOEmbedded
import NIOHTTP1

/// What `HTTP1RequestParser` reads. After a request that ends the connection it reads no more, as the server does.
func tocsinReading(_ message: [UInt8]) -> Reading {
    var parser = HTTP1RequestParser()
    var reading = Reading()
    var offset = 0
    do throws(HTTP1Fault) {
        while true {
            let start = offset
            let event = try message.withUnsafeBufferPointer { bytes throws(HTTP1Fault) in
                try parser.next(UnsafeRawBufferPointer(UnsafeBufferPointer(rebasing: bytes[start...])), consumed: &offset)
            }
            switch event {
            case .head(let head): reading.partial = ReadRequest(head)
            case .body(let range): reading.partial?.body += message[start + range.lowerBound..<start + range.upperBound]
            case .end:
                guard let request = reading.partial else { preconditionFailure("the end of no request") }
                reading.requests.append(request)
                reading.partial = nil
                guard request.keepAlive else { return reading }
            case nil:
                reading.end = parser.isBetweenRequests ? .complete : .incomplete
                return reading
            }
        }
    } catch {
        reading.end = .refused("\(error)")
        return reading
    }
}

/// What NIO's `HTTPRequestDecoder` reads.
func nioReading(_ message: [UInt8]) -> Reading {
    let channel = EmbeddedChannel()
    var reading = Reading()
    do {
        try channel.pipeline.syncOperations.addHandler(ByteToMessageHandler(HTTPRequestDecoder()))
        try channel.writeInbound(ByteBuffer(bytes: message))
    } catch {
        reading.end = .refused("\(error)")
    }
    while let part = try? channel.readInbound(as: HTTPServerRequestPart.self) {
        switch part {
        case .head(let head): reading.partial = ReadRequest(head)
        case .body(let bytes): reading.partial?.body += bytes.readableBytesView
        case .end:
            guard let request = reading.partial else { preconditionFailure("the end of no request") }
            reading.requests.append(request)
            reading.partial = nil
        }
    }
    // The end of the connection tells whether a message was under way.
    do {
        _ = try channel.finish(acceptAlreadyClosed: true)
    } catch {
        if case .complete = reading.end { reading.end = .incomplete }
    }
    return reading
}

extension ReadRequest {
    init(_ head: HTTP1RequestHead) {
        let request = head.request
        self.init(
            method: request.method.rawValue,
            target: request.path ?? request.authority ?? "",
            authority: request.authority,
            minorVersion: head.minorVersion,
            headers: request.headerFields.map { field in (field.name.canonicalName, field.withUnsafeBytesOfValue { Array($0) }) },
            keepAlive: head.keepAlive
        )
    }

    init(_ head: HTTPRequestHead) {
        self.init(
            method: head.method.rawValue,
            target: head.uri,
            authority: nil,
            minorVersion: head.version.minor,
            headers: head.headers.map { name, value in (name.lowercased(), Array(value.utf8)) },
            keepAlive: head.isKeepAlive
        )
    }
}
