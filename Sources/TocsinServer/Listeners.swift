import Glibc
import NIOCore
import NIOPosix
import Synchronization

/// The sockets that a server listens on. Each has a second descriptor: to be given to another process, and to listen again should that one
/// end. As long as any process has one, the kernel takes connections up.
final class Listeners: Sendable {
    private struct Listener {
        var place: TakeoverMessage.Listener
        /// nil: nobody is taken up here at the moment.
        var channel: (any Channel)?
        /// -1: there is none.
        var descriptor: Int32
    }

    private let listeners = Mutex<[Listener]>([])
    private let bootstrap: @Sendable (_ isTLS: Bool) -> ServerBootstrap
    /// Connections that the kernel keeps until they are taken up.
    static let backlog: Int32 = 4096

    init(_ bootstrap: @escaping @Sendable (_ isTLS: Bool) -> ServerBootstrap) {
        self.bootstrap = bootstrap
    }

    deinit {
        listeners.withLock { for listener in $0 where listener.descriptor >= 0 { SystemCall.close(listener.descriptor) } }
    }

    /// - Parameter inherited: a socket that listens there already, and is this object's from now on; nil makes one.
    func listen(_ host: String, _ port: Int, isTLS: Bool, inherited: Int32?) async throws {
        let channel: any Channel
        if let inherited {
            channel = try await listen(inherited, isTLS: isTLS)
        } else {
            do {
                channel = try await bootstrap(isTLS).bind(host: host, port: port).get()
            } catch let error as IOError {
                throw ServerStartFault(description: "cannot listen on \(host):\(port): \(String(cString: strerror(error.errnoCode)))")
            }
        }
        let found = try await channel.eventLoop.submit {
            try channel.pipeline.syncOperations.withUnsafeTransportIfAvailable(of: NIOBSDSocket.Handle.self) {
                fcntl($0, F_DUPFD_CLOEXEC, 3)
            }
        }.get()
        let place = TakeoverMessage.Listener(host: host, port: channel.localAddress?.port ?? port, isTLS: isTLS)
        listeners.withLock { $0.append(Listener(place: place, channel: channel, descriptor: found ?? -1)) }
    }

    private func listen(_ descriptor: Int32, isTLS: Bool) async throws -> any Channel {
        let channel = try await bootstrap(isTLS).withBoundSocket(descriptor).get()
        // NIO has set its own default for it.
        _ = Glibc.listen(descriptor, Self.backlog)
        return channel
    }

    func port(isTLS: Bool) -> Int? { listeners.withLock { $0.first { $0.place.isTLS == isTLS }?.place.port } }

    /// Where plain connections are taken up; nil: nowhere at the moment.
    var plainAddress: SocketAddress? {
        listeners.withLock { $0.first { !$0.place.isTLS }?.channel?.localAddress }
    }

    /// What another process may have of them. They stay this object's.
    var descriptors: [(listener: TakeoverMessage.Listener, descriptor: Int32)] {
        listeners.withLock { $0.filter { $0.descriptor >= 0 }.map { ($0.place, $0.descriptor) } }
    }

    /// Nobody is taken up any more; those who were and wait to enter a loop do.
    func pause() async {
        for channel in listeners.withLock({ $0.compactMap(\.channel) }) { try? await channel.setOption(.autoRead, value: false).get() }
    }

    /// Nobody is taken up any more.
    ///
    /// - Parameter keepsDescriptors: another process takes them up. Otherwise the kernel refuses them.
    func close(keepsDescriptors: Bool) async {
        let channels = listeners.withLock { listeners in
            let channels = listeners.compactMap(\.channel)
            for place in listeners.indices {
                listeners[place].channel = nil
                guard !keepsDescriptors, listeners[place].descriptor >= 0 else { continue }
                SystemCall.close(listeners[place].descriptor)
                listeners[place].descriptor = -1
            }
            return channels
        }
        for channel in channels { try? await channel.close() }
    }

    /// Takes connections up again, where it did.
    func reopen() async throws {
        let closed = listeners.withLock { listeners in listeners.indices.filter { listeners[$0].channel == nil } }
        for place in closed {
            let (isTLS, descriptor) = listeners.withLock { ($0[place].place.isTLS, fcntl($0[place].descriptor, F_DUPFD_CLOEXEC, 3)) }
            guard descriptor >= 0 else { throw SystemFault("fcntl") }
            let channel = try await listen(descriptor, isTLS: isTLS)
            listeners.withLock { $0[place].channel = channel }
        }
    }
}
