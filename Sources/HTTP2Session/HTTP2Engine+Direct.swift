import CNghttp2

// DATA that goes past nghttp2.
//
// A message on one of many streams costs nghttp2 several looks at cold memory: more than all the rest of its way. So the owner may write
// the frame itself, in front of whatever `send` gives next. What nghttp2 does for DATA besides is to keep the windows (RFC 9113 5.2):
//
//      what the peer allows = the window that nghttp2 knows - debt          of the connection, and of each stream
//
// - A stream's room is set aside in portions (`reserve`), which count as debt at once; frames use them up.
// - The connection's is taken frame by frame.
// - nghttp2's own DATA keeps within it: `readRoom` in its callback.
// - WINDOW_UPDATE goes to nghttp2 as long as its window stays far from where it would overflow. Beyond that the debt is paid with it
//   instead, which comes to the same.
//
// The order on a stream is kept by its owner: nothing of it waits in nghttp2 when a portion is set aside, and it gives the portion back
// before it offers anything.
extension HTTP2Engine {
    /// WINDOW_UPDATE that would take nghttp2's window above it pays debts.
    private static let windowKept = 1 << 30

    /// See `HTTP2ServerSession.mayWrite`. It looks at nothing but the engine as long as the portion lasts.
    func mayWrite(_ count: Int, stream: HTTP2StreamID, credit: inout Int32, version: inout UInt16, portion: Int) -> Bool {
        if credit < count || version != windowsVersion {
            giveBack(stream: stream, Int(credit))
            credit = Int32(reserve(stream: stream, atLeast: count, upTo: max(count, portion)))
            version = windowsVersion
            guard credit > 0 else { return false }
        }
        if knownRoom < count {
            guard !isDead else { return false }
            knownRoom = Int(nghttp2_session_get_remote_window_size(session)) - connectionDebt
            guard knownRoom >= count else { return false }
        }
        knownRoom -= count
        connectionDebt += count
        credit -= Int32(count)
        return true
    }

    /// Sets aside a part of a stream's window.
    ///
    /// - Returns: how many bytes, between the two; 0: not so many are left, or something of it waits for nghttp2.
    func reserve(stream id: HTTP2StreamID, atLeast bytesMin: Int, upTo bytesMax: Int) -> Int {
        guard !isDead, fault == nil, let stream = stream(id), stream.pendingCount == 0, stream.offeredFor != 0,
            !stream.flags.contains(.finishing)
        else { return 0 }
        let room = Int(nghttp2_session_get_stream_remote_window_size(session, id)) - Int(stream.debt)
        guard room >= bytesMin else { return 0 }
        let count = min(room, bytesMax)
        stream.debt += Int32(count)
        watch.isolatesWindowUpdates = true
        hasDebt = true
        return count
    }

    /// Undoes a part of `reserve`.
    func giveBack(stream id: HTTP2StreamID, _ count: Int) {
        guard count > 0, !isDead, let stream = stream(id) else { return }
        // Negative where a raised window has paid for what was not used: nghttp2 then knows of a little less than there is. It cannot be
        // told here, where a frame of the peer may be half read.
        stream.debt -= Int32(count)
    }

    /// A WINDOW_UPDATE of the peer has come.
    ///
    /// - Returns: whether nghttp2 need not be told.
    func pay(_ update: FrameWatch.WindowUpdate) -> Bool {
        let isOfConnection = update.stream == 0
        let stream = isOfConnection ? nil : streams[update.stream]
        let debt = isOfConnection ? connectionDebt : Int(stream?.debt ?? 0)
        guard debt > 0, update.increment > 0 else { return false }
        let window =
            isOfConnection
            ? nghttp2_session_get_remote_window_size(session) : nghttp2_session_get_stream_remote_window_size(session, update.stream)
        guard Int(window) + update.increment > Self.windowKept else { return false }
        let paid = min(debt, update.increment)
        if isOfConnection { connectionDebt -= paid } else { stream?.debt -= Int32(paid) }
        isWidened = true
        if paid < update.increment { widen(update.stream, by: update.increment - paid) }
        return true
    }

    /// Has nghttp2 see a WINDOW_UPDATE. Only between two frames of the peer.
    private func widen(_ id: HTTP2StreamID, by increment: Int) {
        var frame: [UInt8] = [0, 0, 4, 8, 0]
        for word in [UInt32(bitPattern: id), UInt32(increment)] {
            for shift: UInt32 in [24, 16, 8, 0] { frame.append(UInt8(truncatingIfNeeded: word >> shift)) }
        }
        let taken = nghttp2_session_mem_recv(session, frame, frame.count)
        if taken < 0 { die(Int32(taken)) }
    }

    /// How many bytes nghttp2 may put into the next frame of DATA; `readRoom` is what there really is, which may be none.
    func readLength(stream id: HTTP2StreamID, connectionWindow: Int32, streamWindow: Int32, frameBytesMax: UInt32) -> Int {
        let length = min(Int(frameBytesMax), Self.frameBytesMax)
        readRoom = length
        guard hasDebt else { return length }
        readRoom = min(length, Int(connectionWindow) - connectionDebt, Int(streamWindow) - Int(stream(id)?.debt ?? 0))
        return max(1, readRoom)
    }

    /// Streams that found no room, though nghttp2 saw some, try again.
    func resumeBlocked() {
        isWidened = false
        let ids = blocked
        blocked.removeAll()
        for id in ids where !isDead { check(nghttp2_session_resume_data(session, id)) }
    }
}
