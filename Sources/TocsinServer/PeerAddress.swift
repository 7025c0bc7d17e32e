import Glibc
import Limits
import NIOCore

/// Where a connection comes from: address and port.
struct PeerAddress: Hashable, Sendable {
    var address: NetworkAddress
    var port: UInt16

    init(_ address: NetworkAddress, port: UInt16) {
        self.address = address
        self.port = port
    }

    /// - Parameter storage: what accept(2) or getsockname(2) wrote; nil if it is of another family than the internet's.
    init?(_ storage: UnsafeRawBufferPointer) {
        // Where the address stands in a `sockaddr_in`; RFC 3493 section 3.3 has the other one. The port stands at the same place in both.
        let place: Range<Int>
        switch Int32(storage.loadUnaligned(as: sa_family_t.self)) {
        case AF_INET: place = 4..<8
        case AF_INET6: place = 8..<24
        default: return nil
        }
        guard storage.count >= place.upperBound, let address = NetworkAddress(bytes: UnsafeRawBufferPointer(rebasing: storage[place]))
        else {
            return nil
        }
        self.init(address, port: UInt16(storage[2]) << 8 | UInt16(storage[3]))
    }

    init?(_ address: SocketAddress?) {
        guard let address, let peer = address.withSockAddr({ Self(UnsafeRawBufferPointer(start: $0, count: $1)) }) else { return nil }
        self = peer
    }
}
