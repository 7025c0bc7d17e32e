import TestSupport
import Testing

@testable import Limits

@Suite struct AddressTests {
    @Test(
        "addresses are read, and written as RFC 5952 has it",
        arguments: [
            ("192.0.2.7", "192.0.2.7"), ("0.0.0.0", "0.0.0.0"), ("255.255.255.255", "255.255.255.255"), ("::", "::"), ("::1", "::1"),
            ("1::", "1::"), ("2001:DB8::1", "2001:db8::1"), ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
            ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"), ("::ffff:192.0.2.7", "192.0.2.7"), ("::ffff:c000:207", "192.0.2.7"),
            ("64:ff9b::192.0.2.33", "64:ff9b::c000:221"), ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"), ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"),
            ("::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"), ("fe80::0:1", "fe80::1"),
        ])
    func good(_ text: String, _ written: String) throws {
        let address = try #require(NetworkAddress(text))
        #expect(address.description == written)
        #expect(NetworkAddress(written) == address)
    }

    @Test(
        "what is no address is refused",
        arguments: [
            "", " ", "1.2.3", "1.2.3.4.5", "1.2.3.256", "1.2.3.04", "01.2.3.4", "1.2.3.4 ", " 1.2.3.4", "1.2.3.-4", "0x1.2.3.4", "1.2..4",
            ":", ":::", "1", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3", "1:2:3:4:5:6:7:8::", "::1:2:3:4:5:6:7:8", "12345::", "g::",
            "::1%eth0", "[::1]", "::1/64", ":1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8:", "::1.2.3", "1.2.3.4::", "::1.2.3.4:5", "+1::",
            "1:2:3:4:5:6:7:1.2.3.4", "１.2.3.4",
        ])
    func bad(_ text: String) {
        #expect(NetworkAddress(text) == nil)
    }

    @Test(
        "a range has the addresses of its prefix",
        arguments: [
            ("10.0.0.0/8", "10.255.1.2", true), ("10.0.0.0/8", "11.0.0.1", false), ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("192.0.2.7", "192.0.2.7", true), ("192.0.2.7", "192.0.2.8", false), ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "2001:db8::1", false), ("::/0", "1.2.3.4", true), ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false), ("2001:db8:0:8000::/49", "2001:db8:0:ffff::", true),
            ("2001:db8:0:8000::/49", "2001:db8:0:7fff::", false), ("::1/128", "::1", true), ("::1/128", "::2", false),
            ("2001:db8::/65", "2001:db8::7fff:0:0:1", true), ("2001:db8::/65", "2001:db8::8000:0:0:1", false),
        ])
    func range(_ range: String, _ address: String, _ isIn: Bool) throws {
        #expect(try #require(NetworkRange(range)).contains(try #require(NetworkAddress(address))) == isIn)
    }

    @Test(
        "what is no range is refused",
        arguments: ["", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.1/8", "::/129", "10.0.0.0/08", "10.0.0.0/8/8", "a/8", "::1/64"])
    func badRange(_ text: String) {
        #expect(NetworkRange(text) == nil)
    }

    @Test("a site is the address itself, or the /64 of one of version 6")
    func site() throws {
        #expect(try #require(NetworkAddress("192.0.2.7")).site.description == "192.0.2.7")
        #expect(try #require(NetworkAddress("2001:db8:1:2:3:4:5:6")).site.description == "2001:db8:1:2::")
        #expect(try #require(NetworkAddress("127.9.9.9")).isLoopback && #require(NetworkAddress("::1")).isLoopback)
        #expect(try !#require(NetworkAddress("128.0.0.1")).isLoopback && !#require(NetworkAddress("::2")).isLoopback)
    }

    // MARK: forwarded

    @Test(
        "the client is the first from the right that is no proxy of ours",
        arguments: [
            // Nobody is believed but the configured.
            ("203.0.113.9", ["192.0.2.7"], "203.0.113.9"), ("10.0.0.1", [], "10.0.0.1"), ("10.0.0.1", ["192.0.2.7"], "192.0.2.7"),
            ("10.0.0.1", ["192.0.2.66, 192.0.2.7"], "192.0.2.7"), ("10.0.0.1", ["192.0.2.66, 192.0.2.7, 10.0.0.2"], "192.0.2.7"),
            ("10.0.0.1", ["192.0.2.66", "192.0.2.7", "10.0.0.2"], "192.0.2.7"), ("10.0.0.1", ["10.0.0.9, 10.0.0.2"], "10.0.0.9"),
            ("10.0.0.1", ["192.0.2.7:4711"], "192.0.2.7"), ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
            ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"), ("10.0.0.1", ["[2001:db8::1]"], "2001:db8::1"),
            ("10.0.0.1", [" 192.0.2.7\t"], "192.0.2.7"),
            // What cannot be read ends it: nothing to the left of it is believed.
            ("10.0.0.1", ["192.0.2.7, unknown"], "10.0.0.1"), ("10.0.0.1", ["192.0.2.7, rubbish, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", ["192.0.2.7,"], "10.0.0.1"), ("10.0.0.1", ["192.0.2.7, ::"], "10.0.0.1"), ("10.0.0.1", [""], "10.0.0.1"),
            ("10.0.0.1", ["192.0.2.7:"], "10.0.0.1"),
            ("10.0.0.1", ["192.0.2.7:x"], "10.0.0.1"), ("10.0.0.1", ["[192.0.2.7]"], "10.0.0.1"), ("10.0.0.1", ["[::1"], "10.0.0.1"),
            ("10.0.0.1", ["192.0.2.7:123456"], "10.0.0.1"),
        ])
    func xForwardedFor(_ peer: String, _ lines: [String], _ client: String) throws {
        let trusted = [try #require(NetworkRange("10.0.0.0/8"))]
        let found = ForwardedFor.xForwardedFor.client(peer: try #require(NetworkAddress(peer)), lines: lines, trusted: trusted)
        #expect(found.description == client)
    }

    @Test(
        "Forwarded, RFC 7239",
        arguments: [
            (["for=192.0.2.7"], "192.0.2.7"), (["For=\"[2001:db8::1]:4711\""], "2001:db8::1"),
            (["for=192.0.2.60;proto=http;by=203.0.113.43"], "192.0.2.60"), (["for=192.0.2.43, for=192.0.2.7"], "192.0.2.7"),
            (["for=192.0.2.43", "for=192.0.2.7;by=10.0.0.1", "for=10.0.0.2"], "192.0.2.7"), (["for=\"192.0.2.7:80\""], "192.0.2.7"),
            (["for=\"192.0.2.7:_port\""], "192.0.2.7"), (["proto=https;for=192.0.2.7 , , "], "192.0.2.7"),
            (["for=\"192.0.2\\.7\""], "192.0.2.7"),
            (["by=10.0.0.2"], "10.0.0.1"), (["for=unknown"], "10.0.0.1"), (["for=192.0.2.7, for=_hidden"], "10.0.0.1"),
            (["for=\"10.0.0.9,for=192.0.2.7\""], "10.0.0.1"),
            // Malformed: it says nothing.
            (["for=192.0.2.7;for=192.0.2.8"], "10.0.0.1"), (["for=192.0.2.7;"], "10.0.0.1"), (["for = 192.0.2.7"], "10.0.0.1"),
            (["for=\"192.0.2.7"], "10.0.0.1"), (["for=2001:db8::1"], "10.0.0.1"), (["192.0.2.7"], "10.0.0.1"), (["for="], "10.0.0.1"),
            (["for=192.0.2.7 for=192.0.2.8"], "10.0.0.1"), (["for=192.0.2.7;\"proto\"=http"], "10.0.0.1"),
        ])
    func forwarded(_ lines: [String], _ client: String) throws {
        let trusted = [try #require(NetworkRange("10.0.0.0/8"))]
        let found = ForwardedFor.forwarded.client(peer: try #require(NetworkAddress("10.0.0.1")), lines: lines, trusted: trusted)
        #expect(found.description == client)
    }

    @Test("no text makes a client of somebody whom no proxy of ours has named")
    func anything() throws {
        var random = SeededRandom(seed: 7)
        let trusted = [try #require(NetworkRange("10.0.0.0/8"))]
        let peer = try #require(NetworkAddress("10.0.0.1"))
        let parts = [
            "for=", "\"", "[", "]", ":", ",", ";", " ", "192.0.2.7", "2001:db8::1", "10.0.0.2", "_a", "\\", "unknown", "=", "\u{e9}",
        ]
        for _ in 0..<20_000 {
            let line = (0..<Int.random(in: 0...12, using: &random)).map { _ in parts.randomElement(using: &random)! }.joined()
            for field in ForwardedFor.allCases {
                let client = field.client(peer: peer, lines: [line], trusted: trusted)
                // It stands in the text as a whole, or is the peer.
                #expect(client == peer || ["192.0.2.7", "2001:db8::1", "10.0.0.2"].contains { line.contains($0) }, "\(line): \(client)")
                // What the last proxy says it was called by is the only one that counts, if that is none of ours.
                let last = field.client(
                    peer: peer, lines: [line, field == .forwarded ? "for=203.0.113.9" : "203.0.113.9"], trusted: trusted)
                #expect(last.description == "203.0.113.9" || field == .forwarded && last == peer, "\(line): \(last)")
            }
        }
    }
}
