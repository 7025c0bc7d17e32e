import Logging
import NIOCore
import NIOEmbedded
import NotificationCore
import NotificationStore
import Presence
import Synchronization
import Testing

@testable import TocsinServer

/// A clock that moves on only when it is looked at.
final class TestClock {
    var nanoseconds: Int64 = 0
    var step: Int64

    init(step: Int64) {
        self.step = step
    }

    func read() -> Int64 {
        nanoseconds += step
        return nanoseconds
    }
}

/// A clock that moves on when it is told to.
final class PresenceClock: Sendable {
    private let now = Atomic<Int64>(1_000_000)

    var milliseconds: Int64 { now.load(ordering: .relaxed) }

    func advance(_ milliseconds: Int64) {
        now.add(milliseconds, ordering: .relaxed)
    }
}

/// A server's loop and connections without a network: bytes in, bytes out.
final class Bench {
    let eventLoop = EmbeddedEventLoop()
    /// Of the thread for large bodies.
    let worker = EmbeddedEventLoop()
    let clock: TestClock
    /// Of the book of who is on which channels.
    let presenceClock = PresenceClock()
    let loop: ServerLoop

    /// - Parameter step: what each look at the clock takes, in microseconds. With 0 a slice never ends.
    init(step: Int64 = 0, _ change: (inout ServerConfiguration) -> Void = { _ in }) {
        clock = TestClock(step: step * 1000)
        var configuration = ServerConfiguration()
        configuration.allowedHosts = ["*"]
        change(&configuration)
        let options = StoreOptions(path: ":memory:", durability: .memory, limits: configuration.log)
        let (log, preload) = try! EmbeddedLog.open(
            options, newEpoch: LogEpoch(random: 0xabc), writerLoop: eventLoop, readerLoop: eventLoop,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        )
        let state = ServerState(
            configuration: configuration, log: log, worker: worker, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
            version: "0", pages: [:],
            presence: configuration.presence.isOn
                ? PresenceHub(configuration.presence, eventLoop: worker, clock: { [presenceClock] in presenceClock.milliseconds }) : nil
        )
        loop = ServerLoop(number: 0, eventLoop: eventLoop, server: state, preload: preload, nanoseconds: { [clock] in clock.read() })
        log.follow(loop)
        state.loops = [NIOLoopBound(loop, eventLoop: eventLoop)]
        state.startPresence()
        loop.start()
    }

    func connect(behind dam: Dam? = nil, from address: String = "127.0.0.1") throws -> EmbeddedChannel {
        let channel = EmbeddedChannel(handlers: (dam.map { [$0] } ?? []) + [Connection(loop: loop, tls: nil)], loop: eventLoop)
        try channel.connect(to: SocketAddress(ipAddress: address, port: 1)).wait()
        return channel
    }

    func publish(_ channel: String, _ json: String) {
        loop.server.log.append(AppendRequest([Publication(channel: ChannelName(channel)!, data: Array(json.utf8))]), from: loop) { _ in }
        eventLoop.run()
    }

    /// Lets everything that waits have its turns.
    func drain() {
        for _ in 0..<100_000 {
            worker.run()
            eventLoop.run()
            if loop.turns.count == 0 { return }
            turn()
        }
        Issue.record("there is no end of turns")
    }

    /// One turn.
    func turn() {
        eventLoop.advanceTime(by: TurnQueue.pause)
    }

    /// Lets the wheel turn.
    func pass(seconds: Int) {
        for _ in 0..<(4 * seconds) { eventLoop.advanceTime(by: .milliseconds(250)) }
    }

    /// The same, with the clock of the book and its timer.
    func passTogether(milliseconds: Int64) {
        for _ in 0..<(milliseconds / 250) {
            presenceClock.advance(250)
            eventLoop.advanceTime(by: .milliseconds(250))
            worker.advanceTime(by: .milliseconds(250))
            drain()
        }
    }

    static func output(_ channel: EmbeddedChannel) throws -> String {
        var text = ""
        while var buffer = try channel.readOutbound(as: ByteBuffer.self) { text += buffer.readString(length: buffer.readableBytes)! }
        return text
    }
}

/// Between a connection and its socket: holds writes back while it is shut, as a full socket does.
final class Dam: ChannelOutboundHandler {
    typealias OutboundIn = ByteBuffer

    var isShut = false
    private var held: [(NIOAny, EventLoopPromise<Void>?)] = []
    private var context: ChannelHandlerContext?

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        if isShut { held.append((data, promise)) } else { context.write(data, promise: promise) }
    }

    /// Lets through what waits, and shuts again what follows from it.
    func letThrough() {
        let waiting = held
        held = []
        for (data, promise) in waiting { context?.writeAndFlush(data, promise: promise) }
    }
}

extension String {
    func components(_ separator: String) -> [Substring] {
        ranges(of: separator).map { self[$0.upperBound...] }
    }
}
