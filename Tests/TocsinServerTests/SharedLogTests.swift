import Foundation
import Glibc
import JSONCodec
import Logging
import NIOCore
import NIOPosix
import NotificationCore
import NotificationStore
import Synchronization
import TestSupport
import Testing

@testable import TocsinServer

/// The log of another process, as it is to its followers.
@Suite struct SharedLogTests {
    /// What a follower was told, as text.
    final class Follower: LogFollower {
        let number: Int
        let eventLoop: any EventLoop
        var told: [String] = []
        var head: UInt64

        init(number: Int, eventLoop: any EventLoop, head: UInt64) {
            self.number = number
            self.eventLoop = eventLoop
            self.head = head
        }

        func apply(_ batch: LogBatch) {
            for notification in batch.notifications {
                #expect(notification.offset > head)
                head = notification.offset
                told.append(String(decoding: notification.object, as: UTF8.self))
            }
            // Of a commit that comes in two batches, each has the state at its own end.
            for (index, document) in batch.documents {
                var text: [UInt8] = []
                document.append(to: &text)
                told.append("\(batch.notifications[index].offset) \(String(decoding: text, as: UTF8.self))")
            }
        }
    }

    /// A worker in this process: there is only the link.
    struct Thread: WorkerProcess {
        var id: pid_t { 0 }
        let link: Int32
        let isEnded: Box

        final class Box: Sendable {
            let value = Mutex(false)
        }

        func reap() -> String? { isEnded.value.withLock { $0 } ? "its end" : nil }
        func kill() { isEnded.value.withLock { $0 = true } }
    }

    final class Worker: Sendable {
        let log: SharedLog
        let preload: LogPreload
        let followers: [NIOLoopBound<Follower>]
        let link: NIOLoopBound<WorkerLink>

        init(_ log: SharedLog, _ preload: LogPreload, _ followers: [NIOLoopBound<Follower>], _ link: NIOLoopBound<WorkerLink>) {
            (self.log, self.preload, self.followers, self.link) = (log, preload, followers, link)
        }

        func append(_ request: AppendRequest, follower: Int) async throws -> [AppendOutcome] {
            let loop = followers[follower].eventLoop
            let promise = loop.makePromise(of: [AppendOutcome].self)
            loop.execute { self.log.append(request, from: self.followers[follower].value) { promise.succeed($0) } }
            return try await promise.futureResult.get()
        }

        func acknowledge(_ user: String, _ channel: String, _ range: ClosedRange<UInt64>) async throws -> AcknowledgeOutcome {
            let loop = followers[0].eventLoop
            let promise = loop.makePromise(of: AcknowledgeOutcome.self)
            loop.execute {
                self.log.acknowledge(
                    FieldText(user)!, ChannelName(channel)!, [range], isDismissed: false, from: self.followers[0].value
                ) { promise.succeed($0) }
            }
            return try await promise.futureResult.get()
        }

        func read<Value: Sendable>(_ body: @escaping @Sendable (NotificationStore) throws(StoreFault) -> Value) async throws -> Value {
            let loop = followers[0].eventLoop
            let promise = loop.makePromise(of: Value.self)
            loop.execute { self.log.read(from: self.followers[0].value, body) { promise.completeWith($0.mapError { $0 }) } }
            return try await promise.futureResult.get()
        }

        func told(_ follower: Int) async throws -> [String] {
            try await followers[follower].eventLoop.submit { self.followers[follower].value.told }.get()
        }
    }

    final class Allowed: Sendable {
        let processes = Mutex<Set<Int>>([])
    }

    /// The main process's side, and threads of this process as workers.
    final class Machine: Sendable {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 3)
        let threads = MultiThreadedEventLoopGroup(numberOfThreads: 8)
        let folder = FileManager.default.temporaryDirectory.appending(path: "shared-log-\(UUID().uuidString)")
        let limits: LogLimits
        let newest = SharedNumber()!
        let log: EmbeddedLog
        let options: StoreOptions
        let ends: [Int32]
        /// Workers that may start.
        let allowed = Allowed()
        let boxes: [Thread.Box]
        let hub: NIOLoopBound<ProcessHub>
        let started: EventLoopFuture<Void>
        private let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

        /// - Parameter before: what the log has before anybody follows it.
        init(workers: Int, limits: LogLimits = LogLimits(), before: [AppendRequest] = []) async throws {
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            self.limits = limits
            let options = StoreOptions(path: folder.path + "/log.sqlite", durability: .memory, limits: limits)
            self.options = options
            let loops = Array(group.makeIterator())
            let newest = newest
            let (log, preload) = try await EmbeddedLog.open(
                options, writerLoop: loops[0], readerLoop: loops[2], logger: logger, onHead: { newest.set($0) })
            self.log = log
            boxes = (0..<workers).map { _ in Thread.Box() }
            var pairs: [(Int32, Int32)] = []
            for _ in 0..<workers {
                var ends: [Int32] = [-1, -1]
                #expect(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
                pairs.append((ends[0], ends[1]))
            }
            ends = pairs.map(\.1)
            let (loop, boxes, fixedPairs, fixedLogger, allowed) = (loops[1], boxes, pairs, logger, allowed)
            let welcome = LinkFrame.Welcome(
                process: 0, port: 1, tlsPort: nil, path: options.path, folder: nil, epoch: preload.epoch, pastEpochs: [:], head: 0,
                channelCount: 0)
            hub = try await loop.submit {
                let settings = ProcessHub.Settings(processes: workers, welcome: welcome) { process throws(SystemFault) in
                    // It is tried again, a little later.
                    guard allowed.processes.withLock({ $0.contains(process) }) else { throw SystemFault("start", code: EAGAIN) }
                    return Thread(link: fixedPairs[process].0, isEnded: boxes[process])
                }
                return NIOLoopBound(ProcessHub(loop, log, settings, ticketKeys: [[7]], logger: fixedLogger), eventLoop: loop)
            }.get()
            let hub = hub
            started = try await loop.submit { hub.value.start() }.get()
            for request in before {
                let promise = loop.makePromise(of: Void.self)
                loop.execute { log.append(request, from: hub.value) { _ in promise.succeed(()) } }
                try await promise.futureResult.get()
            }
        }

        func join(_ process: Int) async throws -> Worker {
            let linkLoop = threads.next()
            let descriptor = ends[process]
            allowed.processes.withLock { _ = $0.insert(process) }
            let feeds = limits.feeds
            let link = try await linkLoop.submit {
                NIOLoopBound(WorkerLink(linkLoop, feeds: feeds, processID: UInt64(process + 1)), eventLoop: linkLoop)
            }.get()
            let opening = try await linkLoop.flatSubmit { link.value.open(descriptor) }.get()
            #expect(opening.ticketKeys == [[7]] && opening.welcome.process == process)
            let log = try SharedLog(link, opening, options, newest: newest, readerLoop: threads.next(), logger: logger)
            var followers: [NIOLoopBound<Follower>] = []
            for number in 0..<2 {
                let loop = threads.next()
                followers.append(
                    try await loop.submit {
                        let follower = Follower(number: number, eventLoop: loop, head: opening.preload.head)
                        log.follow(follower)
                        return NIOLoopBound(follower, eventLoop: loop)
                    }.get())
            }
            try await log.begin()
            try await linkLoop.submit { link.value.serve() }.get()
            return Worker(log, opening.preload, followers, link)
        }

        func stop(_ workers: [Worker]) async throws {
            let hub = hub
            for box in boxes { box.kill() }
            try await hub.eventLoop.flatSubmit { hub.value.stop(milliseconds: 1000) }.get()
            for worker in workers { try await worker.link.eventLoop.submit { worker.link.value.channel.close() }.get() }
            await log.close()
            try await threads.shutdownGracefully()
            try await group.shutdownGracefully()
            try FileManager.default.removeItem(at: folder)
        }
    }

    private static func request(_ number: Int, _ random: inout SeededRandom) -> AppendRequest {
        let channel = ["plain.a", "scores.m", "scores.n", "alerts.x", "dashboards.d"][Int.random(in: 0..<5, using: &random)]
        let isChange = channel.hasPrefix("scores") && Int.random(in: 0..<4, using: &random) > 0
        let publication = Publication(
            channel: ChannelName(channel)!, data: Array(#"{"n\#(number % 7)":\#(number)}"#.utf8),
            key: channel.hasPrefix("dash") ? FieldText("k\(number % 5)") : nil, change: isChange ? .merge : nil)
        let key = number.isMultiple(of: 9) ? FieldText("key\(number / 18)") : nil
        return AppendRequest([publication, publication], idempotencyKey: key, fingerprint: UInt64(number % 2))
    }

    @Test("workers are told what the log has, once and in order, and are answered as by the log itself")
    func follows() async throws {
        var random = SeededRandom(seed: 8)
        let early = (0..<40).map { Self.request($0, &random) }
        let machine = try await Machine(workers: 2, before: early)
        let first = try await machine.join(0)
        // The same requests to a log of this process's own.
        let loop = machine.threads.next()
        let (own, _) = try await EmbeddedLog.open(
            StoreOptions(path: ":memory:", durability: .memory), writerLoop: loop, readerLoop: loop,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        let follower = try await loop.submit {
            let follower = Follower(number: 0, eventLoop: loop, head: 0)
            own.follow(follower)
            return NIOLoopBound(follower, eventLoop: loop)
        }.get()
        @Sendable func appendToOwn(_ request: AppendRequest) async throws -> [AppendOutcome] {
            let promise = loop.makePromise(of: [AppendOutcome].self)
            loop.execute { own.append(request, from: follower.value) { promise.succeed($0) } }
            return try await promise.futureResult.get()
        }
        for request in early { _ = try await appendToOwn(request) }
        var second: Worker?
        for number in 40..<160 {
            // The other one comes in the midst of it.
            if number == 100 { second = try await machine.join(1) }
            let request = Self.request(number, &random)
            let worker = second.flatMap { number.isMultiple(of: 2) ? $0 : nil } ?? first
            let outcomes = try await worker.append(request, follower: number / 2 % 2)
            #expect(outcomes == (try await appendToOwn(request)))
            if let last = outcomes.compactMap(\.receipt).last { #expect(worker.log.head >= last.offset) }
        }
        try await machine.started.get()
        let epoch = machine.log.epoch
        let all = try await loop.submit { follower.value.told }.get().map {
            $0.replacing(/"time":"[^"]*"/, with: "").replacing(own.epoch.description, with: epoch.description)
        }
        for worker in [first, try #require(second)] {
            for number in 0..<2 {
                // Answers come from the main process by another way than the batches of others: wait for the last.
                let head = machine.log.head
                for _ in 0..<500
                where try await worker.followers[number].eventLoop.submit({ worker.followers[number].value.head }).get() < head {
                    try await Task.sleep(for: .milliseconds(10))
                }
                let told = try await worker.told(number).map { $0.replacing(/"time":"[^"]*"/, with: "") }
                #expect(!told.isEmpty && told == all.suffix(told.count), "follower \(number)")
                let before = worker.preload.head
                #expect(told.filter { $0.hasPrefix("{") }.count == Int(head - before))
            }
        }
        // A state that is begun with, and what comes of it.
        let seed = try #require(first.preload.channels.first { $0.name.string == "scores.m" })
        #expect(seed.document != nil && seed.lastSequence > 0)
        #expect(first.preload.channels.first { $0.name.string == "dashboards.d" }?.latest.isEmpty == false)
        try await machine.stop([first, second!])
    }

    @Test("a worker reads what the main process's own reader does, also when retention drops messages meanwhile")
    func reads() async throws {
        var limits = LogLimits()
        limits.feeds.other.retention.countMax = 50
        let machine = try await Machine(workers: 1, limits: limits)
        let worker = try await machine.join(0)
        for number in 0..<300 {
            let publication = Publication(channel: ChannelName("plain.a")!, data: Array("\(number)".utf8))
            _ = try await worker.append(AppendRequest([publication]), follower: 0)
        }
        let hub = machine.hub
        @Sendable func readMain<Value: Sendable>(
            _ body: @escaping @Sendable (NotificationStore) throws(StoreFault) -> Value
        ) async throws -> Value {
            let promise = hub.eventLoop.makePromise(of: Value.self)
            hub.eventLoop.execute { machine.log.read(from: hub.value, body) { promise.completeWith($0.mapError { $0 }) } }
            return try await promise.futureResult.get()
        }
        try await until("the rows have been dropped, which is about once a second") {
            try await readMain { store throws(StoreFault) in try store.info(channel: 0) }.count == 50
        }
        for after in [0, 100, 249, 250, 251, 299, 300] as [UInt64] {
            let query = LogQuery(.messages, channels: [0, 5], after: after, through: 300, notificationsMax: 20)
            let here = try await worker.read { store throws(StoreFault) in try store.answer(query, nowMilliseconds: 0) }
            let there = try await readMain { store throws(StoreFault) in try store.answer(query, nowMilliseconds: 0) }
            #expect(here.notifications.map(\.object) == there.notifications.map(\.object))
            #expect(here.through == there.through && here.trimmed == there.trimmed, "after \(after)")
        }
        let info = try await worker.read { store throws(StoreFault) in try store.info(channel: 0) }
        #expect(info == (try await readMain { store throws(StoreFault) in try store.info(channel: 0) }))
        #expect(info.count == 50)
        let history = try await worker.read { store throws(StoreFault) in
            try store.history(channel: 0, afterSequence: 0, limit: 1000, bytesMax: 1 << 20).map(\.sequence)
        }
        #expect(history == Array(251...300))
        try await machine.stop([worker])
    }

    @Test("what a user has read is stored, and told to all")
    func acknowledgements() async throws {
        let machine = try await Machine(workers: 2)
        let workers = [try await machine.join(0), try await machine.join(1)]
        let publication = Publication(channel: ChannelName("alerts.a")!, data: Array("1".utf8))
        _ = try await workers[0].append(AppendRequest([publication, publication]), follower: 1)
        #expect(try await workers[1].acknowledge("u", "alerts.a", 1...1) == .done)
        #expect(try await workers[1].acknowledge("u", "alerts.none", 1...1) == .noChannel)
        let unread = try await workers[1].read { store throws(StoreFault) in
            try store.unreadCount(user: FieldText("u")!, channels: [0], nowMilliseconds: 0)
        }
        #expect(unread == 1)
        for _ in 0..<500 {
            if try await workers[0].told(0).contains(where: { $0.contains(#""type":"ack""#) }) { break }
            try await Task.sleep(for: .milliseconds(10))
        }
        #expect(try await workers[0].told(0).last?.contains(#""type":"ack""#) == true)
        try await machine.stop(workers)
    }
}

extension SharedLogTests.Thread.Box {
    func kill() { value.withLock { $0 = true } }
}
