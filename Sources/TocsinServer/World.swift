/// What a server has from outside besides its event loops: clocks, chance and sockets.
package enum World {
    /// In place of the system's. To be set before there is a server, or never.
    @exclusivity(unchecked) nonisolated(unsafe) package static var simulated: (any SimulatedWorld)?
    /// Descriptors from here on are of simulated sockets. No system gives so many.
    package static let firstDescriptor: Int32 = 1 << 30
}

/// The world of a simulation.
package protocol SimulatedWorld: AnyObject {
    /// Of all clocks.
    var milliseconds: Int64 { get }

    func random() -> UInt64

    /// As send(2), recv(2), and shutdown(2) with `SHUT_WR`, are on a socket that does not block.
    func send(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Int
    func receive(_ descriptor: Int32, _ buffer: UnsafeMutableRawBufferPointer) -> Int
    func shutDownWriting(_ descriptor: Int32)
}

/// The one place that draws random numbers: from the system's generator, which is getrandom(2).
struct Randomness: RandomNumberGenerator {
    private var system = SystemRandomNumberGenerator()

    mutating func next() -> UInt64 {
        World.simulated?.random() ?? system.next()
    }
}
