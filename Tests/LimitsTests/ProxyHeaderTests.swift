import TestSupport
import Testing

@testable import Limits

/// Headers, good and bad.
private enum Cases {
    static let signature: [UInt8] = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]
    static let addresses4: [UInt8] = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0, 80]
    static let addresses6: [UInt8] = [0x20, 1, 0xd, 0xb8] + Array(repeating: 0, count: 11) + [1] + Array(repeating: 9, count: 20)

    static func binary(_ command: UInt8, _ family: UInt8, _ block: [UInt8], length: Int? = nil) -> [UInt8] {
        let length = length ?? block.count
        return signature + [command, family, UInt8(length >> 8), UInt8(length & 0xff)] + block
    }

    static func value(_ type: UInt8, _ bytes: [UInt8]) -> [UInt8] {
        [type, UInt8(bytes.count >> 8), UInt8(bytes.count & 0xff)] + bytes
    }

    static let withChecksum: [UInt8] = {
        var header = binary(0x21, 0x11, addresses4 + value(0x01, Array("h2".utf8)) + value(0x03, [0, 0, 0, 0]))
        let sum = CRC32C.of(header)
        for index in 0..<4 { header[header.count - 4 + index] = UInt8(truncatingIfNeeded: sum >> UInt32(24 - 8 * index)) }
        return header
    }()

    static let good: [(name: String, bytes: [UInt8], source: String?)] = [
        ("TCP4", Array("PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n".utf8), "192.0.2.7"),
        ("TCP6", Array("PROXY TCP6 2001:db8::1 ::1 65535 0\r\n".utf8), "2001:db8::1"),
        ("the longest of version 1", Array("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n".utf8), nil),
        ("UNKNOWN alone", Array("PROXY UNKNOWN\r\n".utf8), nil),
        ("107 bytes", Array(("PROXY UNKNOWN " + String(repeating: "x", count: 91) + "\r\n").utf8), nil),
        ("version 2, TCP over IPv4", binary(0x21, 0x11, addresses4), "192.0.2.7"),
        ("version 2, TCP over IPv6", binary(0x21, 0x21, addresses6), "2001:db8::1"),
        ("version 2, UNIX", binary(0x21, 0x31, Array(repeating: 0, count: 216)), nil),
        ("version 2, LOCAL", binary(0x20, 0x00, []), nil),
        ("version 2, LOCAL with what does not count", binary(0x20, 0x11, addresses4), nil),
        ("version 2, LOCAL, shorter than addresses", binary(0x20, 0x11, [1, 2]), nil),
        ("version 2, of no family", binary(0x21, 0x00, [1, 2, 3]), nil),
        ("version 2, values", binary(0x21, 0x11, addresses4 + value(0x01, Array("h2".utf8)) + value(0xe0, [])), "192.0.2.7"),
        ("version 2, a checksum", withChecksum, "192.0.2.7"),
    ]

    static let bad: [(name: String, bytes: [UInt8])] = [
        ("a request", Array("GET / HTTP/1.1\r\n".utf8)), ("a TLS handshake", [0x16, 3, 1, 2, 0]), ("lower case", Array("proxy TCP4".utf8)),
        ("HTTP/2", Array("PRI * HTTP/2.0\r\n".utf8)),
        ("no CR", Array("PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\n".utf8)),
        ("no words", Array("PROXY \r\n".utf8)),
        ("another protocol", Array("PROXY UDP4 192.0.2.7 10.0.0.1 4711 80\r\n".utf8)),
        ("protocol in lower case", Array("PROXY tcp4 192.0.2.7 10.0.0.1 4711 80\r\n".utf8)),
        ("two spaces", Array("PROXY TCP4  192.0.2.7 10.0.0.1 4711 80\r\n".utf8)),
        ("a tab", Array("PROXY TCP4\t192.0.2.7 10.0.0.1 4711 80\r\n".utf8)),
        ("a space at the end", Array("PROXY TCP4 192.0.2.7 10.0.0.1 4711 80 \r\n".utf8)),
        ("no port", Array("PROXY TCP4 192.0.2.7 10.0.0.1 4711\r\n".utf8)),
        ("a word more", Array("PROXY TCP4 192.0.2.7 10.0.0.1 4711 80 9\r\n".utf8)),
        ("a port too large", Array("PROXY TCP4 192.0.2.7 10.0.0.1 65536 80\r\n".utf8)),
        ("a port with a zero", Array("PROXY TCP4 192.0.2.7 10.0.0.1 04711 80\r\n".utf8)),
        ("a port with a sign", Array("PROXY TCP4 192.0.2.7 10.0.0.1 +471 80\r\n".utf8)),
        ("an address of version 6 in TCP4", Array("PROXY TCP4 ::1 ::1 4711 80\r\n".utf8)),
        ("an address of version 4 in TCP6", Array("PROXY TCP6 192.0.2.7 10.0.0.1 4711 80\r\n".utf8)),
        ("an address with a zero", Array("PROXY TCP4 192.0.2.07 10.0.0.1 4711 80\r\n".utf8)),
        ("a name", Array("PROXY TCP4 localhost localhost 4711 80\r\n".utf8)),
        ("no end in 107 bytes", Array(("PROXY UNKNOWN " + String(repeating: "x", count: 93)).utf8)),
        ("version 2: another signature", Array(signature[..<11]) + [0x0b]),
        ("version 2: version 1", binary(0x11, 0x11, addresses4)), ("version 2: version 3", binary(0x31, 0x11, addresses4)),
        ("version 2: another command", binary(0x22, 0x11, addresses4)), ("version 2: another family", binary(0x21, 0x41, addresses4)),
        ("version 2: no transport", binary(0x21, 0x10, addresses4)), ("version 2: datagrams", binary(0x21, 0x12, addresses4)),
        ("version 2: another transport", binary(0x21, 0x13, addresses4)),
        ("version 2: LOCAL of another family", binary(0x20, 0x51, [])),
        ("version 2: too short for addresses", binary(0x21, 0x11, Array(addresses4.dropLast()))),
        ("version 2: too short for version 6", binary(0x21, 0x21, addresses4)),
        ("version 2: too short for UNIX", binary(0x21, 0x31, addresses6)),
        ("version 2: too long", binary(0x21, 0x11, addresses4, length: 4081)),
        ("version 2: a value cut off", binary(0x21, 0x11, addresses4 + [1, 0])),
        ("version 2: a value too long", binary(0x21, 0x11, addresses4 + [1, 0, 3, 1, 2])),
        ("version 2: a checksum of 3 bytes", binary(0x21, 0x11, addresses4 + [3, 0, 3, 1, 2, 3])),
        ("version 2: a wrong checksum", withChecksum.dropLast() + [withChecksum.last! ^ 1]),
    ]
}

@Suite struct ProxyHeaderTests {
    @Test("good headers, whole, byte by byte, and with what follows them", arguments: Cases.good.indices)
    func good(_ index: Int) throws {
        let (name, bytes, source) = Cases.good[index]
        for rest in [[], Array("GET / HTTP/1.1\r\n".utf8), [0x16, 3, 1]] {
            let found = try #require(try ProxyHeader.parse(bytes + rest), "\(name)")
            #expect(found.header.source?.description == source && found.length == bytes.count, "\(name)")
        }
        for count in bytes.indices { #expect(try ProxyHeader.parse(Array(bytes[..<count])) == nil, "\(name), \(count) bytes of it") }
    }

    @Test("malformed headers are refused", arguments: Cases.bad.indices)
    func bad(_ index: Int) {
        let (name, bytes) = Cases.bad[index]
        #expect(throws: ProxyHeaderFault.self, "\(name)") { _ = try ProxyHeader.parse(bytes) }
        // Nor does more of it help.
        #expect(throws: ProxyHeaderFault.self, "\(name)") { _ = try ProxyHeader.parse(bytes + Array(repeating: 0, count: 300)) }
    }

    @Test("CRC32C of RFC 3720, appendix B.4")
    func checksum() {
        #expect(CRC32C.of(Array(repeating: 0, count: 32)) == 0x8a91_36aa)
        #expect(CRC32C.of(Array(0..<32)) == 0x46dd_794e)
    }

    @Test("whatever comes, it is taken, refused or waited for, never beyond its bounds; and more bytes never change what was taken")
    func anything() {
        var random = SeededRandom(seed: 11)
        for _ in 0..<50_000 {
            var bytes = Cases.good.randomElement(using: &random)!.bytes
            for _ in 0..<Int.random(in: 0...3, using: &random) {
                let at = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<4, using: &random) {
                case 0: bytes[at] = UInt8.random(in: 0...255, using: &random)
                case 1: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                case 2: bytes.remove(at: at)
                default: bytes.insert(UInt8.random(in: 0...255, using: &random), at: at)
                }
                if bytes.isEmpty { break }
            }
            var taken: (ProxyHeader, Int)?
            var isRefused = false
            for count in [0, bytes.count / 2, bytes.count, bytes.count + 5000] {
                let some = Array((bytes + Array(repeating: 0x41, count: 5000)).prefix(count))
                do {
                    let found = try ProxyHeader.parse(some)
                    #expect(!isRefused, "refused, then not: \(bytes)")
                    if let found { #expect(found.length <= some.count && found.length <= ProxyHeader.bytesMax) }
                    if let taken { #expect(found.map { $0 == taken } == true, "\(bytes)") }
                    taken = found
                } catch {
                    #expect(taken == nil, "taken, then refused: \(bytes)")
                    isRefused = true
                }
            }
            #expect(taken != nil || isRefused, "it waits for ever: \(bytes)")
        }
    }
}
