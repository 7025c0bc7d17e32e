// What follows from the figures by arithmetic.
//
//     cost of a client a second at rate r  =  idle + r * one more message
//     one more message                     =  (all that the run took - (idle * clients + server without clients) * seconds) / deliveries
//
// So a poll without an answer counts as idle, and what a message costs beyond that shrinks when one answer has many.

extension Comparison.Figures {
    /// The run at this rate; nil when there was none.
    package func at(rate: Double) -> Comparison.AtRate? {
        rates.first { abs($0.rate - rate) < 1e-6 }
    }

    /// The run at the lowest rate.
    package var rarest: Comparison.AtRate? { rates.min { $0.rate < $1.rate } }

    /// Microseconds of processor time that a client takes in a second, at a rate that was measured.
    package func cpuPerClientSecond(rate: Double) -> Double? {
        guard let run = at(rate: rate), let idle else { return nil }
        return idle.cpu + rate * Self.beyondIdle(run.cpuPerMessage, idle.cpu, server: idle.cpuWithoutClients, run)
    }

    /// Clients at this rate that one core has time for.
    package func clientsPerCore(rate: Double) -> Double? {
        cpuPerClientSecond(rate: rate).flatMap { $0 > 0 ? 1e6 / $0 : nil }
    }

    /// Idle clients whose user-space memory is 1 GB (10^9 bytes).
    package var clientsPerGigabyte: Double? {
        memory.flatMap { $0.user > 0 ? 1e9 / $0.user : nil }
    }

    /// The same of the kernel's memory, half of what both ends take.
    package var clientsPerKernelGigabyte: Double? {
        memory.flatMap { $0.kernelBothEnds > 0 ? 2e9 / $0.kernelBothEnds : nil }
    }

    /// What one client costs in an hour at one message a minute.
    package struct HourCost: Sendable {
        /// Both ways, with the estimate of TCP's and IP's headers.
        package var bytes: Double
        /// Milliseconds of the server's processor time.
        package var cpuMilliseconds: Double
    }

    /// Computed from what an idle client costs, and a message of the run at one a second, or the lowest rate above it.
    package var hourAtOneAMinute: HourCost? {
        guard let idle, let run = rates.filter({ $0.rate >= 1 }).min(by: { $0.rate < $1.rate }) else { return nil }
        let bytes = Self.beyondIdle(run.wire.allBytes, idle.wire.allBytes, run)
        let cpu = Self.beyondIdle(run.cpuPerMessage, idle.cpu, server: idle.cpuWithoutClients, run)
        return HourCost(bytes: idle.wire.allBytes * 3600 + bytes * 60, cpuMilliseconds: (idle.cpu * 3600 + cpu * 60) / 1000)
    }

    private static func beyondIdle(_ perMessage: Double, _ idle: Double, server: Double = 0, _ run: Comparison.AtRate) -> Double {
        let secondsPerMessage = run.latency.count > 0 ? run.seconds / Double(run.latency.count) : 0
        return max(0, perMessage - (idle * Double(run.clients) + server) * secondsPerMessage)
    }
}

extension Comparison.Shape.Cell {
    /// How long the handshake took, in round trips of its shape.
    package func roundTrips(_ shape: Comparison.Shape) -> Double? {
        shape.roundTripMilliseconds > 0 ? handshake.p50 / shape.roundTripMilliseconds : nil
    }
}
