import Foundation
import TestSupport
import Testing

@testable import TLSEngine

@Suite("TLS ticket keys")
struct TicketKeysTests {
    static func random(_ seed: UInt64) -> [UInt8] {
        var random = SeededRandom(seed: seed)
        return (0..<TicketKeys.randomBytes).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    }

    /// Which of the keys from seeds 1 and up are there.
    private static func known(_ keys: TicketKeys) -> [UInt64] {
        (1...10).filter { seed in random(seed).withUnsafeBytes { keys.find(UnsafeRawBufferPointer(rebasing: $0[..<16])) } != nil }
    }

    @Test("A key opens tickets for as many rotations as were asked for", arguments: 0...3)
    func generations(previousMax: Int) {
        var keys = TicketKeys(random: Self.random(1), previousMax: previousMax)
        for seed in UInt64(2)...8 {
            keys.rotate(random: Self.random(seed))
            let oldest = max(1, seed - min(seed - 1, UInt64(previousMax)))
            #expect(Self.known(keys) == Array(oldest...seed))
            #expect(keys.count == Int(seed - oldest) + 1)
            #expect(keys.current.name.elementsEqual(Self.random(seed)[..<16]))
        }
    }

    @Test("It is a value")
    func value() {
        let before = TicketKeys(random: Self.random(1))
        var after = before
        after.rotate(random: Self.random(2))
        #expect(Self.known(before) == [1])
        #expect(Self.known(after) == [1, 2])
    }

    @Test("The parts of a key do not overlap, and are those of the random bytes")
    func parts() {
        let random = Self.random(1)
        let key = TicketKeys(random: random).current
        #expect(Array(key.name) + Array(key.cipher) + Array(key.mac) == random)
        #expect((key.name.count, key.cipher.count, key.mac.count) == (16, 32, 32))
    }

    @Test("Nothing that prints a key prints its bytes")
    func secret() {
        let keys = TicketKeys(random: [UInt8](repeating: 0xab, count: TicketKeys.randomBytes))
        var texts = ["\(keys)", String(reflecting: keys), ""]
        dump(keys, to: &texts[2])
        for text in texts {
            #expect(text.components(separatedBy: "171").count < TicketKeys.randomBytes / 4)
            #expect(!text.lowercased().contains("abababab"))
        }
    }

    @Test("Bytes that are not random are a mistake of the caller")
    func mistakes() async {
        await #expect(processExitsWith: .failure) { _ = TicketKeys(random: [UInt8](repeating: 0, count: 80)) }
        await #expect(processExitsWith: .failure) { _ = TicketKeys(random: [UInt8](repeating: 1, count: 79)) }
        await #expect(processExitsWith: .failure) {
            var keys = TicketKeys(random: [UInt8](repeating: 1, count: 80))
            keys.rotate(random: [UInt8](repeating: 1, count: 80))
        }
    }
}

@Suite("TLS tickets")
struct TicketTests {
    private static func server(
        _ keys: SharedTicketKeys, _ change: (inout TLSConfiguration) -> Void = { _ in }
    ) throws -> TLSContext {
        var configuration = TLSConfiguration(certificates: [TestCertificates.files("ecdsa"), TestCertificates.files("wildcard")])
        change(&configuration)
        return try TLSContext(server: configuration, ticketKeys: keys)
    }

    /// A handshake of a client that has what `earlier` left.
    private static func connect(
        _ server: TLSContext, _ version: LibSSL.Version, name: String = "a.example", after earlier: TLSPair? = nil
    ) throws -> TLSPair {
        let pair = TLSPair(server: server, client: try TestCertificates.client(), name: name, version: version)
        if let earlier { LibSSL.resume(pair.client, earlier.client) }
        try pair.handshake()
        #expect(pair.server.isEstablished)
        #expect(pair.server.isResumed == pair.client.isResumed)
        return pair
    }

    private static func keyName(_ pair: TLSPair) -> [UInt8] { Array(LibSSL.ticket(pair.client).prefix(16)) }

    @Test("A ticket of the previous key is accepted and renewed, and an older one is not", arguments: LibSSL.Version.supported)
    func rotation(version: LibSSL.Version) throws {
        let names = (0...3).map { Array(TicketKeysTests.random($0)[..<16]) }
        let keys = SharedTicketKeys(TicketKeys(random: TicketKeysTests.random(0)))
        let server = try Self.server(keys)
        let first = try Self.connect(server, version)
        #expect(!first.server.isResumed)
        #expect(Self.keyName(first) == names[0])
        let again = try Self.connect(server, version, after: first)
        #expect(again.server.isResumed)
        // With the current key, TLS 1.2 goes on with the ticket; a ticket of TLS 1.3 is for one connection.
        #expect((LibSSL.ticket(again.client) == LibSSL.ticket(first.client)) == (version == .tls12))

        keys.rotate(random: TicketKeysTests.random(1))
        let renewed = try Self.connect(server, version, after: first)
        #expect(renewed.server.isResumed)
        #expect(Self.keyName(renewed) == names[1])

        keys.rotate(random: TicketKeysTests.random(2))
        let old = try Self.connect(server, version, after: first)
        #expect(!old.server.isResumed)
        #expect(Self.keyName(old) == names[2])
        #expect(try Self.connect(server, version, after: renewed).server.isResumed)
        keys.rotate()
        keys.rotate()
        #expect(try !Self.connect(server, version, after: renewed).server.isResumed)
    }

    @Test("All contexts of a server open its tickets, and those of another server do not", arguments: LibSSL.Version.supported)
    func shared(version: LibSSL.Version) throws {
        let keys = SharedTicketKeys()
        let first = try Self.connect(try Self.server(keys), version, name: "x.b.example")
        #expect(try Self.connect(try Self.server(keys), version, name: "x.b.example", after: first).server.isResumed)
        #expect(try !Self.connect(try Self.server(SharedTicketKeys()), version, name: "x.b.example", after: first).server.isResumed)
        let same = TicketKeys(random: TicketKeysTests.random(7))
        let left = try Self.connect(try Self.server(SharedTicketKeys(same)), version)
        let node = SharedTicketKeys()
        let right = try Self.server(node)
        #expect(try !Self.connect(right, version, after: left).server.isResumed)
        node.replace(with: same)
        #expect(try Self.connect(right, version, after: left).server.isResumed)
    }

    @Test("A TLS 1.2 session is resumed for its own name only (RFC 6066 section 3)")
    func otherName() throws {
        let server = try Self.server(SharedTicketKeys())
        let names = ["a.example", "www.a.example", "x.b.example", "127.0.0.1"]
        for (before, after) in names.flatMap({ before in names.map { (before, $0) } }) {
            func connect(_ name: String, after earlier: TLSPair?) throws -> TLSPair {
                let client = try TestCertificates.client(verifies: false)
                let pair = TLSPair(server: server, client: client, name: name, version: .tls12)
                if let earlier { LibSSL.resume(pair.client, earlier.client) }
                try pair.handshake()
                return pair
            }
            let second = try connect(after, after: try connect(before, after: nil))
            #expect(second.server.isResumed == (before == after), "\(before), then \(after)")
            #expect(second.server.serverName == (after == "127.0.0.1" ? nil : after))
            if before != after {
                #expect(LibSSL.peerHasName(second.client, after == "x.b.example" ? "b.example" : "a.example"))
            }
        }
    }

    @Test("One ticket comes behind a handshake of TLS 1.3, for as long as is configured and without early data")
    func one() throws {
        let server = try Self.server(SharedTicketKeys()) { $0.ticketSecondsMax = 1234 }
        let pair = TLSPair(server: server, client: try TestCertificates.client(), version: .tls13)
        try pair.client.startHandshake(outgoing: &pair.toServer)
        try pair.deliverToServer()
        try pair.deliverToClient()
        try pair.deliverToServer()
        #expect(TLSRecords.kinds(pair.toClient) == [23])
        try pair.pump()
        #expect(LibSSL.ticketSeconds(pair.client) == 1234)
        #expect(LibSSL.earlyDataMax(pair.client) == 0)
        #expect(LibSSL.ticketSeconds(try Self.connect(server, .tls12).client) == 1234)
        #expect(LibSSL.ticketSeconds(try Self.connect(try Self.server(SharedTicketKeys()), .tls13).client) == 12 * 3600)
    }

    @Test("Without a lifetime there are no tickets", arguments: LibSSL.Version.supported)
    func noTickets(version: LibSSL.Version) throws {
        let server = try Self.server(SharedTicketKeys()) { $0.ticketSecondsMax = 0 }
        let first = try Self.connect(server, version)
        #expect(LibSSL.ticket(first.client).isEmpty)
        #expect(try !Self.connect(server, version, after: first).server.isResumed)
    }

    @Test("A damaged ticket leads to a full handshake", arguments: LibSSL.Version.supported)
    func damaged(version: LibSSL.Version) throws {
        let server = try Self.server(SharedTicketKeys())
        let first = try Self.connect(server, version)
        let ticket = LibSSL.ticket(first.client)
        for index in stride(from: 0, to: ticket.count, by: 7) + [15, 16, 31, 32, ticket.count - 33, ticket.count - 1] {
            var other = ticket
            other[index] ^= 1
            let pair = TLSPair(server: server, client: try TestCertificates.client(), version: version)
            LibSSL.resume(pair.client, first.client, ticket: other)
            try pair.handshake()
            #expect(pair.server.isEstablished)
            #expect(!pair.server.isResumed, "byte \(index)")
        }
        // And as it was.
        let pair = TLSPair(server: server, client: try TestCertificates.client(), version: version)
        LibSSL.resume(pair.client, first.client, ticket: ticket)
        try pair.handshake()
        #expect(pair.server.isResumed)
    }

    @Test("The time of the full handshake goes from ticket to ticket, and ends them", arguments: LibSSL.Version.supported)
    func authenticationAge(version: LibSSL.Version) throws {
        let keys = SharedTicketKeys()
        let server = try Self.server(keys)
        let hoursAgo = withUnsafeBytes(of: Int64(Date().timeIntervalSince1970) - 7200) { Array($0) }
        let first = TLSPair(server: server, client: try TestCertificates.client(), version: version)
        try first.client.startHandshake(outgoing: &first.toServer)
        try first.deliverToServer()
        // The session is there and its ticket is not.
        LibSSL.setTicketData(first.server, hoursAgo)
        try first.pump()
        keys.rotate()
        let second = try Self.connect(server, version, after: first)
        #expect(second.server.isResumed)
        #expect(LibSSL.ticketData(second.server) == hoursAgo)
        for earlier in [first, second] {
            #expect(
                try !Self.connect(try Self.server(keys) { $0.authenticationSecondsMax = 7200 }, version, after: earlier).server.isResumed)
            #expect(
                try Self.connect(try Self.server(keys) { $0.authenticationSecondsMax = 9000 }, version, after: earlier).server.isResumed)
        }
    }

    @Test("Keys may change while other threads shake hands")
    func threads() async throws {
        let keys = SharedTicketKeys()
        let server = try Self.server(keys)
        let resumed = try await withThrowingTaskGroup(of: Int.self) { group in
            for number in 0..<4 {
                group.addTask {
                    var resumed = 0
                    var earlier: TLSPair?
                    for round in 0..<40 {
                        let pair = try Self.connect(server, round % 2 == 0 ? .tls12 : .tls13)
                        let next = try Self.connect(server, round % 2 == 0 ? .tls12 : .tls13, after: pair)
                        resumed += next.server.isResumed ? 1 : 0
                        earlier = next
                        if number == 0 { keys.rotate() }
                    }
                    #expect(earlier?.server.isEstablished == true)
                    return resumed
                }
            }
            return try await group.reduce(0, +)
        }
        #expect(resumed > 0)
    }
}
