import HTTP1Codec
import NIOCore
import TLSEngine

/// What a peer says is taken in pieces, for a slice of time; what is left then waits for a turn, and the peer is not listened to meanwhile.
extension Connection {
    /// A few requests or commands.
    private static let pieceBytes = 512
    /// Of TLS, where records of a byte each cost a tenth of what a command does; and of HTTP/2, whose events are looked at one by one.
    private static let largePieceBytes = 2048
    /// Above it a connection is costly; it halves with each tick of the wheel. In the long run a hundredth of the loop.
    private static let costlyMicroseconds: UInt32 = 5000
    /// What one slice adds at most: it may have taken long only because the thread had to wait for a processor.
    private static let chargeMax = 4 * TurnQueue.sliceNanoseconds

    /// Takes what came through the socket.
    func receive(_ bytes: UnsafeMutableRawBufferPointer) {
        if let opening, opening.header != nil { return receiveHeader(opening, bytes) }
        charge(bytes: bytes.count)
        // A step of a handshake may take a millisecond of public-key arithmetic, and new connections have cost nothing yet.
        let isShakingHands = tls?.isEstablished == false
        if isWaitingForTurn || isShakingHands || isCostly {
            hold(bytes)
            settle()
        } else {
            serve(bytes)
        }
    }

    /// Goes on with what is held, if something kept it from that: an answer that was not there, or a full socket.
    func resume() {
        guard isOpen, !isAtWork, !isWaitingForTurn else { return }
        guard canGoOn else { return leaveIfDone() }
        if isCostly || loop.turns.isAtWork { settle() } else { serve(nil) }
    }

    /// Its turn has come.
    func onTurn() {
        isWaitingForTurn = false
        if isOpen { serve(nil) } else { dropHeld() }
    }

    private func serve(_ bytes: UnsafeMutableRawBufferPointer?) {
        isAtWork = true
        let nanoseconds = loop.turns.slice {
            goOnWithHeld()
            if let bytes {
                let taken = isHolding ? 0 : tls != nil ? takeSealed(bytes) : takePlain(bytes)
                hold(UnsafeMutableRawBufferPointer(rebasing: bytes[taken...]))
            }
            flushHTTP2()
        }
        isAtWork = false
        charge(microseconds: Self.charge(nanoseconds))
        settle()
    }

    /// Waits for a turn if there is something to go on with, and listens to the peer if not.
    func settle() {
        if !isOpen { dropHeld() }
        if isOpen, canGoOn, !isWaitingForTurn {
            isWaitingForTurn = true
            loop.turns.add(.connection(self), isNewcomer: isNewcomer)
        }
        updateReading()
        leaveIfDone()
    }

    /// Ends the connection of a peer that says no more, when what it said has been done and answered. Who only listened is gone: a peer
    /// that has left cannot be told from one that has ended its half.
    func leaveIfDone() {
        guard isInputClosed, isOpen, !isAtWork, !isWaitingForTurn, !closesWhenDrained else { return }
        switch state {
        case .http1(let exchange) where exchange.poll == nil && (exchange.isAnswering || isHolding): break
        case .lingering: close()
        default: closeWhenDrained()
        }
    }

    /// What a slice adds to a connection's cost, in microseconds.
    static func charge(_ nanoseconds: Int64) -> UInt32 { UInt32(min(nanoseconds, chargeMax) / 1000) }

    func charge(microseconds: UInt32) {
        cost = costNow + microseconds
        costTick = loop.tick
    }

    /// The peer has taken much of the loop's time lately.
    private var isCostly: Bool { costNow > Self.costlyMicroseconds }

    private var costNow: UInt32 { cost >> min(31, loop.tick - costTick) }

    /// It has not said yet what it wants.
    private var isNewcomer: Bool {
        if case .sniffing = state { true } else { tls?.isEstablished == false }
    }

    // MARK: what is held

    var heldBytes: Int { heldSealed.count + heldPlain.count }

    private var isHolding: Bool { !heldPlain.isEmpty || !heldSealed.isEmpty }

    private var canGoOn: Bool {
        if case .http2(let exchange) = state, exchange.isHeldUp { return true }
        return !heldSealed.isEmpty && heldPlain.isEmpty || !heldPlain.isEmpty && takesPlain
    }

    /// Whether more of the protocol inside TLS can be taken: an answer comes before the next request is looked at.
    private var takesPlain: Bool {
        switch state {
        case .http1(let exchange): !exchange.isAnswering && !isClogged
        case .http2(let exchange): !exchange.isHeldUp
        case .sniffing, .webSocket, .eventStream, .lingering, .closed: true
        }
    }

    private func hold(_ bytes: UnsafeMutableRawBufferPointer) {
        if bytes.isEmpty { return }
        if tls != nil { heldSealed.append(contentsOf: bytes) } else { heldPlain.append(contentsOf: bytes) }
    }

    private func goOnWithHeld() {
        if case .http2(let exchange) = state, exchange.isHeldUp {
            exchange.isHeldUp = false
            handleEvents(exchange)
        }
        if !heldPlain.isEmpty, takesPlain {
            var plain = heldPlain
            heldPlain = []
            let taken = plain.withUnsafeMutableBytes { takePlain($0) }
            precondition(heldPlain.isEmpty)
            if taken < plain.count {
                plain.removeFirst(taken)
                heldPlain = plain
            }
        }
        if !heldSealed.isEmpty, heldPlain.isEmpty {
            var sealed = heldSealed
            heldSealed = []
            let taken = sealed.withUnsafeMutableBytes { takeSealed($0) }
            if taken < sealed.count {
                sealed.removeFirst(taken)
                heldSealed = sealed
            }
        }
    }

    private func dropHeld() {
        heldSealed = []
        heldPlain = []
    }

    // MARK: pieces

    private var pieceBytes: Int {
        switch state {
        case .sniffing, .http1, .webSocket: Self.pieceBytes
        case .http2: Self.largePieceBytes
        // It is only counted, or thrown away.
        case .eventStream, .lingering, .closed: .max / 2
        }
    }

    /// - Returns: how many bytes were taken before the slice was over or an answer has to come first.
    private func takePlain(_ bytes: UnsafeMutableRawBufferPointer, isWhole: Bool = false) -> Int {
        if case .http1(let exchange) = state { return takeRequests(exchange, bytes, isWhole: isWhole) }
        return takePieces(bytes, isWhole: isWhole)
    }

    /// A poll that is repeated is known by its bytes.
    private func takeRequests(_ exchange: HTTP1Exchange, _ bytes: UnsafeMutableRawBufferPointer, isWhole: Bool) -> Int {
        if let repeated = exchange.repeated, repeatPoll(exchange, repeated, UnsafeRawBufferPointer(bytes)) { return bytes.count }
        exchange.isTakingWhole = bytes.count <= RepeatedPoll.textBytesMax && exchange.parser.isBetweenRequests && !exchange.isAnswering
        let serial = exchange.serial
        let taken = takePieces(bytes, isWhole: isWhole)
        rememberPoll(exchange, UnsafeRawBufferPointer(bytes), isWhole: taken == bytes.count && exchange.serial == serial &+ 1)
        exchange.isTakingWhole = false
        return taken
    }

    private func takePieces(_ bytes: UnsafeMutableRawBufferPointer, isWhole: Bool) -> Int {
        var taken = 0
        while taken < bytes.count, takesPlain {
            let end = min(bytes.count, taken + pieceBytes)
            taken += receivePlain(UnsafeMutableRawBufferPointer(rebasing: bytes[taken..<end]))
            guard isWhole || loop.turns.mayGoOn else { break }
        }
        return taken
    }

    private func takeSealed(_ bytes: UnsafeMutableRawBufferPointer) -> Int {
        guard let tls else { preconditionFailure("no TLS") }
        var taken = 0
        while taken < bytes.count, heldPlain.isEmpty {
            let end = min(bytes.count, taken + Self.largePieceBytes)
            receiveTLS(tls, UnsafeRawBufferPointer(rebasing: bytes[taken..<end]))
            taken = isOpen ? end : bytes.count
            guard loop.turns.mayGoOn else { break }
        }
        return taken
    }

    private func receiveTLS(_ tls: TLSEngine, _ bytes: UnsafeRawBufferPointer) {
        var plain: [UInt8] = []
        var outgoing: [UInt8] = []
        let wasEstablished = tls.isEstablished
        var fault: TLSFault?
        do throws(TLSFault) { try tls.receive(bytes, plaintext: &plain, outgoing: &outgoing) } catch { fault = error }
        transmit(outgoing)
        if tls.isEstablished, !wasEstablished {
            setDeadline(seconds: loop.server.configuration.headSecondsMax)
            if tls.negotiatedProtocol == "h2" { beginHTTP2() }
        }
        // What came before a fault counts.
        let isLast = fault != nil || tls.peerClosed
        if !plain.isEmpty {
            let taken = plain.withUnsafeMutableBytes { takePlain($0, isWhole: isLast) }
            heldPlain.append(contentsOf: plain[taken...])
        }
        if let fault { return fail("tls", "\(fault)") }
        if tls.peerClosed { isInputClosed = true }
    }
}
