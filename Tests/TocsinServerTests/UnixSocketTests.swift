import CUnixSocket
import Foundation
import Glibc
import NotificationCore
import NotificationStore
import TestSupport
import Testing

@testable import TocsinServer

/// What two servers say before one takes the other over, and the socket that they say it on.
@Suite struct UnixSocketTests {
    private static func withFolder(_ name: String = UUID().uuidString, _ body: (String) throws -> Void) throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: name).path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try body(folder)
    }

    private static func pair() -> (Int32, Int32) {
        var ends: [Int32] = [-1, -1]
        #expect(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
        return (ends[0], ends[1])
    }

    @Test("descriptors come out at the other end as what they are")
    func descriptors() throws {
        let (one, other) = Self.pair()
        defer { close(other) }
        let pipe = try #require(SystemCall.pipe())
        try UnixSocket.send([1, 2, 3], [pipe.write, pipe.read], to: one)
        let (bytes, found) = try UnixSocket.receive(other)
        #expect(bytes == [1, 2, 3] && found.count == 2)
        #expect(Set(found).isDisjoint(with: [pipe.read, pipe.write]))
        SystemCall.writeByte(found[0])
        var byte: UInt8 = 7
        #expect(Glibc.read(pipe.read, &byte, 1) == 1 && byte == 0)
        // A program that this one starts has no part in them.
        for descriptor in found { #expect(fcntl(descriptor, F_GETFD) & FD_CLOEXEC != 0) }
        for descriptor in found + [pipe.read, pipe.write] { close(descriptor) }
        try UnixSocket.send([4], [], to: one)
        #expect(try UnixSocket.receive(other).descriptors.isEmpty)
        close(one)
        #expect(try UnixSocket.receive(other).bytes.isEmpty)
    }

    @Test("more descriptors than there is room for are not sent, and those that have no room are closed")
    func tooMany() async throws {
        let (one, other) = Self.pair()
        defer { for descriptor in [one, other] { close(descriptor) } }
        let pipe = try #require(SystemCall.pipe())
        defer { close(pipe.read) }
        let many = (0...Int(TOCSIN_DESCRIPTORS_MAX)).map { _ in fcntl(pipe.write, F_DUPFD_CLOEXEC, 0) }
        #expect(throws: SystemFault.self) { try UnixSocket.send([1], many, to: one) }
        try UnixSocket.send([1], Array(many.dropLast()), to: one)
        var bytes: [UInt8] = [0]
        var found: [Int32] = [-1, -1, -1]
        var number: Int32 = 0
        #expect(tocsin_receive_descriptors(other, &bytes, 1, &found, 3, &number) == 1)
        #expect(number == 3)
        for descriptor in many + [pipe.write] { close(descriptor) }
        // The end of the pipe says that nobody has its other end any more.
        var byte: UInt8 = 0
        #expect(Glibc.read(pipe.read, &byte, 1) == -1 && errno == EAGAIN)
        for descriptor in found { close(descriptor) }
        try await until("those without room are closed") { Glibc.read(pipe.read, &byte, 1) == 0 }
    }

    @Test("the socket is its user's alone, and takes the place of one that is there")
    func listening() throws {
        try Self.withFolder { folder in
            let path = folder + "/log.sqlite.takeover"
            #expect(try UnixSocket.connect(to: path) == nil)
            let first = try UnixSocket.listen(at: path)
            let file = try #require(UnixSocket.File(path))
            #expect(file.mode & 0o777 == 0o600)
            close(first)
            // The file is still there, and nobody listens.
            #expect(try UnixSocket.connect(to: path) == nil)
            let second = try UnixSocket.listen(at: path)
            #expect(UnixSocket.File(path) != file)
            let client = try #require(try UnixSocket.connect(to: path))
            let server = accept(second, nil, nil)
            for end in [client, server] {
                let peer = try #require(UnixSocket.Peer(end))
                #expect(peer.user == getuid() && peer.process == getpid())
                close(end)
            }
            close(second)
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["log.sqlite.takeover"])
        }
        #expect(UnixSocket.Peer(SystemCall.openNothing()) == nil)
    }

    @Test("a path that is longer than the address of a socket has room for is reached all the same", arguments: [60, 90, 150, 240])
    func longPath(length: Int) throws {
        try Self.withFolder(String(repeating: "d", count: length)) { folder in
            let path = folder + "/log.sqlite.takeover"
            let listener = try UnixSocket.listen(at: path)
            let client = try #require(try UnixSocket.connect(to: path))
            close(client)
            close(listener)
            #expect(try UnixSocket.connect(to: path) == nil)
        }
    }

    @Test("where no socket can be, that is said")
    func noFolder() {
        #expect(throws: SystemFault.self) { try UnixSocket.listen(at: "/nowhere/at/all/log.takeover") }
        #expect(throws: SystemFault.self) { try UnixSocket.listen(at: "/nowhere/" + String(repeating: "x", count: 200) + "/log.takeover") }
    }

    @Test("only its own user, and who may do everything, takes a server over")
    func users() {
        #expect(UnixSocket.Peer(user: 1000, process: 2).mayTakeOver(from: 1000))
        #expect(UnixSocket.Peer(user: 0, process: 2).mayTakeOver(from: 1000))
        #expect(!UnixSocket.Peer(user: 1001, process: 2).mayTakeOver(from: 1000))
        #expect(!UnixSocket.Peer(user: 1000, process: 2).mayTakeOver(from: 0))
    }

    // MARK: messages

    private static let messages: [TakeoverMessage] = [
        .hello(TakeoverMessage.Hello(form: 3, schema: 1, version: "0.2 é", drainMilliseconds: 60_000)), .refused("no\nreason"), .take,
        .given(
            TakeoverMessage.Given(
                place: 1, epoch: LogEpoch(random: 0xabc), head: .max, channelCount: 7,
                listeners: [
                    TakeoverMessage.Listener(host: "127.0.0.1", port: 65_535, isTLS: false),
                    TakeoverMessage.Listener(host: "::", port: 1, isTLS: true),
                ]
            )
        ),
        .given(TakeoverMessage.Given(place: 0, epoch: LogEpoch(random: 0), head: 0, channelCount: 0, listeners: [])),
    ]

    private static func read(_ pieces: [[UInt8]]) -> [TakeoverMessage?] {
        var reader = TakeoverMessageReader()
        var found: [TakeoverMessage?] = []
        for piece in pieces {
            reader.feed(piece)
            do throws(LinkDamage) {
                while let message = try reader.next() { found.append(message) }
            } catch {
                return found + [nil]
            }
        }
        return found
    }

    @Test("every message comes out as it went in, wherever the bytes are cut")
    func roundTrip() throws {
        let events = try SplitVerifier.verify(Array(Self.messages.map(\.bytes).joined())) { Self.read($0) }
        #expect(events == Self.messages)
    }

    @Test("bytes that are changed or made up are refused or are another message, and never trap")
    func garbage() {
        var random = SeededRandom(seed: 12)
        for message in Self.messages.map(\.bytes) {
            for _ in 0..<300 {
                var bytes = message
                bytes[Int.random(in: 4..<bytes.count, using: &random)] = .random(in: 0...255, using: &random)
                _ = Self.read([bytes])
            }
            for length in 0..<(message.count - 4) {
                #expect(Self.read([[UInt8(length & 0xff), UInt8(length >> 8), 0, 0] + message[4..<4 + length]]) == [nil])
            }
        }
        #expect(Self.read([[1, 0, 1, 0, 1]]) == [nil])
    }

    @Test("servers whose links or logs have another form do not fit, and each is told why")
    func hellos() {
        let own = TakeoverMessage.Hello.own(version: "1", drainMilliseconds: 0)
        #expect(own.reasonAgainst(own) == nil)
        var other = TakeoverMessage.Hello.own(version: "2", drainMilliseconds: 60_000)
        #expect(own.reasonAgainst(other) == nil)
        other.form += 1
        #expect(own.reasonAgainst(other)?.contains("form") == true)
        other = own
        other.schema += 1
        #expect(other.reasonAgainst(own)?.contains("schema") == true)
    }
}
