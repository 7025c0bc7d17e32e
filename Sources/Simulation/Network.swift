import TocsinServer

/// The simulated network, and the rest of what a server has from outside.
final class Network: SimulatedWorld {
    unowned let run: Run
    private var channels: [Int32: SimulatedChannel] = [:]
    private var count: Int32 = 0

    init(_ run: Run) {
        self.run = run
    }

    /// - Returns: the client's end of a connection to a loop of the server, or nil if nobody listens.
    func connect(loop number: Int) -> SimulatedChannel? {
        guard let server = run.server.embedded else { return nil }
        count += 1
        let channel = SimulatedChannel(
            self, descriptor: World.firstDescriptor + count, loop: run.server.eventLoops[number], server: server.connect(loop: number),
            room: run.chance.one(of: [200, 1500, 6000])
        )
        channels[channel.descriptor] = channel
        channel.activate()
        return channel
    }

    func forget(_ channel: SimulatedChannel) { channels[channel.descriptor] = nil }

    /// The server is gone, and with it its ends of all connections.
    func abandon() {
        for channel in channels.values { channel.abandon() }
        channels = [:]
    }

    // MARK: what the server has from outside

    var milliseconds: Int64 { run.now }

    func random() -> UInt64 { run.chance.next() }

    func send(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Int { channels[descriptor]?.take(bytes) ?? -1 }

    func receive(_ descriptor: Int32, _ buffer: UnsafeMutableRawBufferPointer) -> Int { channels[descriptor]?.give(buffer) ?? -1 }

    func shutDownWriting(_ descriptor: Int32) { channels[descriptor]?.shutDownWriting() }
}
