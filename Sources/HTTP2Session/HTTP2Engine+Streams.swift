import CNghttp2
import HTTPTypes

/// Called by nghttp2 when a stream may send: says how many of the pending bytes go into the next DATA frame.
private let readPending: nghttp2_data_source_read_callback = { _, _, _, length, dataFlags, source, user in
    Unmanaged<HTTP2Engine>.fromOpaque(user!)._withUnsafeGuaranteedRef { engine in
        Unmanaged<HTTP2Stream>.fromOpaque(source!.pointee.ptr)._withUnsafeGuaranteedRef { stream in
            let pending = stream.pendingCount
            let isFinishing = stream.flags.contains(.finishing)
            if pending == 0 {
                guard isFinishing else { return Int(NGHTTP2_ERR_DEFERRED.rawValue) }
                dataFlags!.pointee |= NGHTTP2_DATA_FLAG_EOF.rawValue
                return 0
            }
            guard engine.output.count < engine.outputMax else { return Int(NGHTTP2_ERR_PAUSE.rawValue) }
            guard engine.readRoom > 0 else {
                engine.blocked.append(stream.id)
                return Int(NGHTTP2_ERR_DEFERRED.rawValue)
            }
            let count = min(length, pending)
            dataFlags!.pointee |= NGHTTP2_DATA_FLAG_NO_COPY.rawValue
            if count == pending, isFinishing { dataFlags!.pointee |= NGHTTP2_DATA_FLAG_EOF.rawValue }
            return count
        }
    }
}

extension HTTP2Engine {
    /// The open stream of that number, if it is still there.
    func stream(_ id: HTTP2StreamID) -> HTTP2Stream? {
        guard role == .server else { return streams[id] }
        guard let pointer = nghttp2_session_get_stream_user_data(session, id) else { return nil }
        return Unmanaged<HTTP2Stream>.fromOpaque(pointer).takeUnretainedValue()
    }

    private func provider(for stream: HTTP2Stream) -> nghttp2_data_provider {
        let source = nghttp2_data_source(ptr: Unmanaged.passUnretained(stream).toOpaque())
        return nghttp2_data_provider(source: source, read_callback: readPending)
    }

    /// What one stream may send before its siblings have their turn: a DATA frame.
    private static let turnBytesMax = frameBytesMax
    /// What goes into one frame of DATA. nghttp2's own bound; its buffer is as large.
    static let frameBytesMax = 16384

    /// Makes the stream incremental (RFC 9218 4.2): it sends frame by frame in turn with its siblings. Otherwise nghttp2 serves it until
    /// its bytes are gone, and one long answer holds up all others. Only for those with much to send: it costs a short message on one of
    /// a hundred streams a fifth more time, and a short message is gone in its first turn anyway.
    private func takeTurns(_ stream: HTTP2Stream) {
        guard role == .server, !stream.flags.contains(.incremental) else { return }
        stream.flags.insert(.incremental)
        var priority = nghttp2_extpri(urgency: UInt32(NGHTTP2_EXTPRI_DEFAULT_URGENCY), inc: 1)
        check(nghttp2_session_change_extpri_stream_priority(session, stream.id, &priority, 1))
    }

    func answer(stream id: HTTP2StreamID, _ response: HTTPResponse, body: [UInt8], isComplete: Bool) {
        guard !isDead, let stream = stream(id) else { return }
        precondition(!stream.flags.contains(.answered), "a stream is answered once")
        stream.flags.insert(.answered)
        if isComplete {
            // A tunnel that is refused is none.
            stream.flags.remove(.tunnel)
            stream.flags.insert(.finishing)
            stream.keep(body, 0..<body.count, for: sendNumber &+ 1)
        }
        if body.count > Self.turnBytesMax { takeTurns(stream) }
        guard !isDead else { return }
        var provider = provider(for: stream)
        let hasData = !isComplete || !body.isEmpty
        let result = FieldList(response).withFields { fields, count in
            hasData
                ? nghttp2_submit_response(session, id, fields, count, &provider)
                : nghttp2_submit_response(session, id, fields, count, nil)
        }
        check(result)
    }

    /// Opens a stream (client). Returns nil when there are no more stream numbers or the connection is going away.
    func request(_ request: HTTPRequest, body: [UInt8], isComplete: Bool) -> HTTP2StreamID? {
        guard !isDead, nghttp2_session_check_request_allowed(session) != 0 else { return nil }
        let next = nghttp2_session_get_next_stream_id(session)
        guard next <= UInt32(Int32.max) else { return nil }
        let stream = HTTP2Stream(id: HTTP2StreamID(next))
        stream.flags = [.announced, .answered]
        if isComplete {
            stream.flags.insert(.finishing)
            stream.keep(body, 0..<body.count, for: sendNumber &+ 1)
        }
        var provider = provider(for: stream)
        let hasData = !isComplete || !body.isEmpty
        let id = FieldList(request).withFields { fields, count in
            hasData
                ? nghttp2_submit_request(session, nil, fields, count, &provider, nil)
                : nghttp2_submit_request(session, nil, fields, count, nil, nil)
        }
        guard id > 0 else {
            check(id)
            return nil
        }
        precondition(id == stream.id, "nghttp2 numbers streams in order")
        streams[id] = stream
        return id
    }

    func offer(stream id: HTTP2StreamID, _ bytes: [UInt8], range: Range<Int>) -> Bool {
        guard !isDead, let stream = stream(id) else { return false }
        precondition(stream.flags.contains(.answered) && !stream.flags.contains(.finishing), "between head and end")
        guard stream.pendingCount == 0 else {
            stream.flags.insert(.refused)
            return false
        }
        guard !range.isEmpty else { return true }
        stream.keep(bytes, range, for: sendNumber &+ 1)
        if range.count > Self.turnBytesMax { takeTurns(stream) }
        // It fails while the head has not been sent yet; the data source is read after the head anyway.
        check(nghttp2_session_resume_data(session, id))
        // The window is used up: no `send` is called for, and the next one comes when these bytes have waited.
        if !wantsWrite { stream.offeredFor = sendNumber }
        return true
    }

    func finish(stream id: HTTP2StreamID) {
        guard !isDead, let stream = stream(id) else { return }
        precondition(stream.flags.contains(.answered), "a head comes first")
        stream.flags.insert(.finishing)
        check(nghttp2_session_resume_data(session, id))
    }

    func reset(stream id: HTTP2StreamID, errorCode: UInt32) {
        guard !isDead, stream(id) != nil else { return }
        check(nghttp2_submit_rst_stream(session, 0, id, errorCode))
    }
}

// MARK: The end of the connection

extension HTTP2Engine {
    func shutDownNotice() {
        guard !isDead else { return }
        check(nghttp2_submit_shutdown_notice(session))
    }

    func ping() {
        guard !isDead else { return }
        check(nghttp2_submit_ping(session, UInt8(NGHTTP2_FLAG_NONE.rawValue), nil))
    }

    func finalGoAway() {
        guard !isDead else { return }
        let last = nghttp2_session_get_last_proc_stream_id(session)
        check(nghttp2_submit_goaway(session, 0, last, NGHTTP2_NO_ERROR.rawValue, nil, 0))
    }
}
