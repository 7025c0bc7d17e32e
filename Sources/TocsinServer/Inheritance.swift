import Glibc
import NotificationCore
import NotificationStore
import Synchronization

/// What a server that runs has given to the one that takes it over: its log, closed, and its listeners.
///
///     nobody there ──> nil: this server starts as usual
///     hello ──> hello ──> take ──> given
///            └──> refused     └──> refused
final class Inheritance: Sendable {
    let given: TakeoverMessage.Given
    let number: SharedNumber
    let process: Int32
    let version: String
    private let rest: Mutex<Rest>

    private struct Rest {
        /// Connected to the other server; becomes the link.
        var socket: Int32
        var lock: LockFile?
        var listeners: [(listener: TakeoverMessage.Listener, descriptor: Int32)]
    }

    /// The other server answers this at once.
    private static let helloSeconds = 5
    /// It has to end a commit before it can give anything.
    private static let givenSeconds = 20

    private init(
        _ given: TakeoverMessage.Given, number: SharedNumber, process: Int32, version: String, _ rest: Rest
    ) {
        (self.given, self.number, self.process, self.version) = (given, number, process, version)
        self.rest = Mutex(rest)
    }

    deinit {
        rest.withLock { rest in
            for (_, descriptor) in rest.listeners { close(descriptor) }
            if rest.socket >= 0 { close(rest.socket) }
        }
    }

    /// Asks for it, and waits. The thread is blocked meanwhile, for seconds at most.
    ///
    /// - Returns: nil if no server with this log is there.
    /// - Throws: why it does not give it; then it goes on.
    static func receive(log path: String, _ own: TakeoverMessage.Hello) throws(ServerStartFault) -> Inheritance? {
        let found: Int32?
        do throws(SystemFault) { found = try UnixSocket.connect(to: UnixSocket.path(ofLog: path)) } catch {
            throw ServerStartFault(description: "the server that runs cannot be reached: \(error)")
        }
        guard let socket = found else { return nil }
        var line = Line(socket: socket)
        do throws(ServerStartFault) {
            return try receive(&line, path, own)
        } catch {
            for descriptor in line.descriptors + [socket] { close(descriptor) }
            throw error
        }
    }

    private static func receive(
        _ line: inout Line, _ path: String, _ own: TakeoverMessage.Hello
    ) throws(ServerStartFault) -> Inheritance {
        guard let peer = UnixSocket.Peer(line.socket), peer.mayTakeOver(from: getuid()) else {
            throw ServerStartFault(description: "the server that runs is another user's")
        }
        UnixSocket.setPatience(line.socket, seconds: helloSeconds)
        try line.say(.hello(own))
        guard case .hello(let other) = try line.hear() else { throw ServerStartFault(description: "the server that runs says nonsense") }
        if let reason = own.reasonAgainst(other) {
            try? line.say(.refused(reason))
            throw ServerStartFault(description: "the server that runs cannot be taken over: \(reason): restart it instead")
        }
        UnixSocket.setPatience(line.socket, seconds: givenSeconds)
        try line.say(.take)
        guard case .given(let given) = try line.hear(), line.descriptors.count == 2 + given.listeners.count else {
            throw ServerStartFault(description: "the server that runs says nonsense")
        }
        let descriptors = line.descriptors
        line.descriptors = Array(descriptors[1...])
        let lock: LockFile
        do throws(StoreFault) { lock = try LockFile(inherited: descriptors[0], log: path) } catch {
            throw ServerStartFault(description: "\(error)")
        }
        line.descriptors = Array(descriptors[2...])
        guard let number = SharedNumber(descriptor: descriptors[1]) else {
            throw ServerStartFault(description: "there is no memory to share with the server that runs")
        }
        let rest = Rest(socket: line.socket, lock: lock, listeners: Array(zip(given.listeners, descriptors[2...])))
        line.descriptors = []
        UnixSocket.setPatience(line.socket, seconds: 0)
        return Inheritance(given, number: number, process: peer.process, version: other.version, rest)
    }

    /// The socket, which is the caller's from now on; nil: it was taken before.
    func takeSocket() -> Int32? {
        rest.withLock { rest in
            defer { rest.socket = -1 }
            return rest.socket < 0 ? nil : rest.socket
        }
    }

    /// Holds the log's lock.
    func takeLock() -> LockFile? {
        rest.withLock { rest in
            defer { rest.lock = nil }
            return rest.lock
        }
    }

    /// A listener that is where one is wanted, and is the caller's from now on.
    ///
    /// - Parameter port: 0: whichever it has.
    func takeListener(host: String, port: Int, isTLS: Bool) -> Int32? {
        rest.withLock { rest in
            let place = rest.listeners.firstIndex { listener, _ in
                listener.isTLS == isTLS && listener.host == host && (port == 0 || listener.port == port)
            }
            return place.map { rest.listeners.remove(at: $0).descriptor }
        }
    }

    /// The words before a link, from a thread that waits for them.
    private struct Line {
        let socket: Int32
        var reader = TakeoverMessageReader()
        /// That have come, and are nobody's yet.
        var descriptors: [Int32] = []

        init(socket: Int32) {
            self.socket = socket
        }

        func say(_ message: TakeoverMessage) throws(ServerStartFault) {
            do throws(SystemFault) { try UnixSocket.send(message.bytes, [], to: socket) } catch {
                throw ServerStartFault(description: "the server that runs has gone: \(error)")
            }
        }

        /// - Throws: also what the other side says against it.
        mutating func hear() throws(ServerStartFault) -> TakeoverMessage {
            while true {
                let message: TakeoverMessage?
                do throws(LinkDamage) { message = try reader.next() } catch {
                    throw ServerStartFault(description: "the server that runs says nonsense")
                }
                if case .refused(let why)? = message {
                    throw ServerStartFault(description: "the server that runs cannot be taken over: \(why)")
                }
                if let message { return message }
                do throws(SystemFault) {
                    let (bytes, more) = try UnixSocket.receive(socket)
                    descriptors += more
                    if bytes.isEmpty { throw SystemFault("it has ended", code: EPIPE) }
                    reader.feed(bytes)
                } catch {
                    throw ServerStartFault(description: "the server that runs does not answer: \(error)")
                }
            }
        }
    }
}
