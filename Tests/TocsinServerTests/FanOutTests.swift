import Foundation
import Logging
import NIOCore
import NotificationCore
import Testing

@testable import TocsinServer

/// Plain sockets, many at once, read by polling: enough to see what arrives where.
private final class Crowd {
    struct Client {
        var descriptor: Int32
        var rest: [UInt8] = []
        var sequences: [Int] = []
    }

    var clients: [Client] = []

    deinit {
        for client in clients { Glibc.close(client.descriptor) }
    }

    /// Subscribes to a channel over SSE.
    func join(_ count: Int, port: Int, channel: String, receiveBuffer: Int32? = nil) throws {
        for _ in 0..<count {
            let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            try #require(descriptor >= 0)
            if var size = receiveBuffer { setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, 4) }
            let address = try SocketAddress(ipAddress: "127.0.0.1", port: port)
            let result = address.withSockAddr { connect(descriptor, $0, socklen_t($1)) }
            try #require(result == 0)
            let request = "GET /v1/subscribe?channel=\(channel) HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"
            try #require(send(descriptor, request, request.utf8.count, Int32(MSG_NOSIGNAL)) == request.utf8.count)
            clients.append(Client(descriptor: descriptor))
        }
    }

    /// Reads what is there, and notes the sequence numbers in it. Kept to C's search, as this is many times what a test usually reads.
    func read() {
        let mark = "\"sequence\":"
        let markBytes = mark.utf8.count
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 17, alignment: 16)
        defer { buffer.deallocate() }
        for index in clients.indices {
            while true {
                // What a read cuts in two is looked at again with the next.
                let rest = clients[index].rest
                buffer.copyBytes(from: rest)
                let count = recv(clients[index].descriptor, buffer.baseAddress! + rest.count, 1 << 16, Int32(MSG_DONTWAIT))
                if count <= 0 { break }
                let end = rest.count + count
                var at = 0
                buffer[end] = 0
                let text = buffer.baseAddress!.assumingMemoryBound(to: CChar.self)
                while let found = strstr(text + at, mark) {
                    let start = UnsafePointer(found) - UnsafePointer(text)
                    if end - start < 40 { break }
                    clients[index].sequences.append(Int(strtol(found + markBytes, nil, 10)))
                    at = start + markBytes
                }
                clients[index].rest = Array(buffer[max(at, end - 40)..<end])
            }
        }
    }
}

@Suite(.serialized) struct FanOutTests {
    private func start(loops: Int = 1, keep: Int = 10_000) async throws -> Server {
        var configuration = ServerConfiguration()
        configuration.port = 0
        configuration.allowedHosts = ["*"]
        configuration.loops = loops
        configuration.drainSeconds = 1
        configuration.log.feeds.other.retention.countMax = keep
        return try await Server.start(configuration, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, version: "0")
    }

    private func wait(_ what: String, seconds: Int = 120, until done: () async throws -> Bool) async throws {
        let deadline = ContinuousClock.now + .seconds(seconds)
        while try await !done() {
            try #require(ContinuousClock.now < deadline, "\(what) took more than \(seconds) s")
            try await Task.sleep(for: .milliseconds(5))
        }
    }

    private func publish(_ count: Int, bytes: Int, on server: Server) async throws {
        let data = Array("\"".utf8) + Array(repeating: UInt8(ascii: "x"), count: bytes) + Array("\"".utf8)
        try await server.publish((0..<count).map { _ in Publication(channel: ChannelName("alerts.x")!, data: data) })
    }

    @Test("100 readers that never read hold nobody up, and lose nothing when they do read")
    func stalledReaders() async throws {
        let server = try await start()
        let stalled = Crowd()
        let readers = Crowd()
        try stalled.join(100, port: server.port, channel: "alerts.x", receiveBuffer: 4096)
        try readers.join(900, port: server.port, channel: "alerts.x")
        try await wait("subscribing") { try await server.connectionCounts().eventStream == 1000 }
        let rounds = 20
        // (What they cost in memory, the interop tests look at, in a process of its own.)
        for round in 1...rounds {
            try await publish(10, bytes: 2000, on: server)
            try await wait("round \(round)") {
                readers.read()
                return readers.clients.allSatisfy { $0.sequences.count >= round * 10 }
            }
        }
        for client in readers.clients { #expect(client.sequences == Array(1...rounds * 10)) }
        // 3 MB more for each of the stalled ones, 300 MB in all, if anything were queued for them.
        for round in 1...15 {
            try await publish(100, bytes: 2000, on: server)
            try await wait("round \(round) of the second part") {
                readers.read()
                return readers.clients.allSatisfy { $0.sequences.count >= rounds * 10 + round * 100 }
            }
        }
        // And they lose nothing without a word when they do read.
        try await wait("the stalled ones") {
            stalled.read()
            return stalled.clients.allSatisfy { $0.sequences.last == rounds * 10 + 1500 }
        }
        for client in stalled.clients { #expect(client.sequences == Array(1...rounds * 10 + 1500)) }
        try await server.shutDown()
    }

    @Test("subscribers of several loops all get the same order")
    func loops() async throws {
        let server = try await start(loops: 2)
        let crowd = Crowd()
        try crowd.join(40, port: server.port, channel: "alerts.%3E")
        try await wait("subscribing") { try await server.connectionCounts().eventStream == 40 }
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<4 {
                group.addTask { for _ in 0..<50 { try? await publish(3, bytes: 10, on: server) } }
            }
        }
        try await wait("delivery") {
            crowd.read()
            return crowd.clients.allSatisfy { $0.sequences.count >= 600 }
        }
        for client in crowd.clients { #expect(client.sequences == Array(1...600)) }
        try await server.shutDown()
    }
}
