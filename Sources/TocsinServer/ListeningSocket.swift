import Glibc
import NIOCore

/// A socket that listens, and what is said on it.
struct ListeningSocket: Sendable {
    /// Owned by the `Acceptor` that it is given to.
    let descriptor: Int32
    /// As it was configured: a name or an address.
    let host: String
    let address: SocketAddress
    let isTLS: Bool
    /// What the kernel keeps of connections that were not taken up yet; `net.core.somaxconn` is 4096 on Linux.
    private static let backlog: Int32 = 4096

    /// - Parameters:
    ///   - host: a name or an address; of a name, its first address.
    ///   - port: 0: any free one.
    ///   - isShared: other processes of this server listen on the same port (SO_REUSEPORT, socket(7)).
    init(host: String, port: Int, isShared: Bool, isTLS: Bool) throws(ServerStartFault) {
        let name = "\(host):\(port)"
        let wanted: SocketAddress
        do {
            wanted = try SocketAddress.makeAddressResolvingHost(host, port: port)
        } catch {
            throw ServerStartFault(description: "cannot listen on \(name): there is no such host")
        }
        do throws(SystemFault) {
            self = try Self(host, on: wanted, isShared: isShared, isTLS: isTLS)
        } catch {
            throw ServerStartFault(description: "cannot listen on \(name): \(error.reason)")
        }
    }

    private init(_ host: String, on wanted: SocketAddress, isShared: Bool, isTLS: Bool) throws(SystemFault) {
        let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        let descriptor = Glibc.socket(wanted.protocol == .inet6 ? AF_INET6 : AF_INET, kind, 0)
        guard descriptor >= 0 else { throw SystemFault("socket") }
        var on: Int32 = 1
        let size = socklen_t(MemoryLayout<Int32>.size)
        guard Glibc.setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, size) == 0,
            !isShared || Glibc.setsockopt(descriptor, SOL_SOCKET, SO_REUSEPORT, &on, size) == 0,
            wanted.withSockAddr({ Glibc.bind(descriptor, $0, socklen_t($1)) }) == 0,
            Glibc.listen(descriptor, Self.backlog) == 0
        else {
            let fault = SystemFault("listen")
            SystemCall.close(descriptor)
            throw fault
        }
        self.init(host: host, descriptor: descriptor, isTLS: isTLS)
    }

    /// - Parameter descriptor: bound to an address of the internet.
    init(host: String, descriptor: Int32, isTLS: Bool) {
        var storage = sockaddr_storage()
        var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let address = withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { name -> SocketAddress? in
                guard Glibc.getsockname(descriptor, name, &size) == 0 else { return nil }
                switch Int32(name.pointee.sa_family) {
                case AF_INET: return SocketAddress(UnsafeRawPointer(name).loadUnaligned(as: sockaddr_in.self))
                case AF_INET6: return SocketAddress(UnsafeRawPointer(name).loadUnaligned(as: sockaddr_in6.self))
                default: return nil
                }
            }
        }
        guard let address else { preconditionFailure("a socket that listens has an address") }
        self.descriptor = descriptor
        self.host = host
        self.address = address
        self.isTLS = isTLS
    }
}
