import CNghttp2
import HTTPTypes

/// Runs `body` with the engine that a callback belongs to. It lives: it owns the session that is calling.
@inline(__always)
private func with<Result>(_ user: UnsafeMutableRawPointer?, _ body: (HTTP2Engine) -> Result) -> Result {
    Unmanaged<HTTP2Engine>.fromOpaque(user!)._withUnsafeGuaranteedRef(body)
}

extension HTTP2Engine {
    static func setCallbacks(_ callbacks: OpaquePointer) {
        nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks) { _, header, user in
            with(user) { $0.beginFrame(header!.pointee) }
        }
        nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks) { _, frame, _, user in
            // A stream that nghttp2 refuses before anything of ours knows it.
            with(user) { $0.noteReset(frame!.pointee.hd.stream_id) }
            return 0
        }
        nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks) { _, frame, user in
            with(user) { $0.beginHeaders(frame!) }
            return 0
        }
        nghttp2_session_callbacks_set_on_header_callback(callbacks) { _, frame, name, nameCount, value, valueCount, flags, user in
            with(user) {
                $0.header(
                    frame!,
                    name: UnsafeBufferPointer(start: name, count: nameCount),
                    value: UnsafeBufferPointer(start: value, count: valueCount),
                    isSensitive: flags & UInt8(NGHTTP2_NV_FLAG_NO_INDEX.rawValue) != 0
                )
            }
        }
        nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks) { _, frame, user in
            with(user) { $0.frameReceived(frame!) }
            return 0
        }
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks) { _, _, stream, data, count, user in
            with(user) { $0.dataReceived(stream: stream, UnsafeBufferPointer(start: data, count: count)) }
            return 0
        }
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks) { _, stream, errorCode, user in
            with(user) { $0.streamClosed(stream, errorCode: errorCode) }
            return 0
        }
        nghttp2_session_callbacks_set_on_frame_send_callback(callbacks) { _, frame, user in
            with(user) { $0.frameSent(frame!) }
            return 0
        }
        nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks) { _, frame, errorCode, user in
            with(user) { $0.frameNotSent(frame!, errorCode: errorCode) }
            return 0
        }
        nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks) {
            _, _, stream, connectionWindow, streamWindow, frameMax, user in
            with(user) {
                $0.readLength(
                    stream: stream, connectionWindow: connectionWindow, streamWindow: streamWindow, frameBytesMax: frameMax
                )
            }
        }
        nghttp2_session_callbacks_set_send_data_callback(callbacks) { _, frame, header, count, source, user in
            with(user) { engine in
                Unmanaged<HTTP2Stream>.fromOpaque(source!.pointee.ptr)._withUnsafeGuaranteedRef {
                    engine.sendData(of: $0, frameHeader: header!, count: count)
                }
            }
            return 0
        }
    }

    // MARK: Coming in

    /// (DATA on a closed stream does not come here: nghttp2 drops it before.)
    ///
    /// - Returns: 0, or what stops nghttp2 at once.
    private func beginFrame(_ header: nghttp2_frame_hd) -> Int32 {
        let kind = nghttp2_frame_type(UInt32(header.type))
        continuations = kind == NGHTTP2_CONTINUATION ? continuations + 1 : 0
        guard continuations <= limits.continuationsMax else {
            stopped = .tooManyContinuations
            return NGHTTP2_ERR_CALLBACK_FAILURE.rawValue
        }
        if role == .server, kind == NGHTTP2_HEADERS { begin(kind, header.stream_id) }
        return 0
    }

    private func beginHeaders(_ frame: UnsafePointer<nghttp2_frame>) {
        block = HeaderBlock()
        guard role == .server, frame.pointee.headers.cat == NGHTTP2_HCAT_REQUEST else { return }
        let stream = HTTP2Stream(id: frame.pointee.hd.stream_id)
        streams[stream.id] = stream
        nghttp2_session_set_stream_user_data(session, stream.id, Unmanaged.passUnretained(stream).toOpaque())
    }

    private func header(
        _ frame: UnsafePointer<nghttp2_frame>,
        name: UnsafeBufferPointer<UInt8>,
        value: UnsafeBufferPointer<UInt8>,
        isSensitive: Bool
    ) -> Int32 {
        block.bytes += name.count + value.count + 32
        block.count += 1
        if block.bytes > limits.headerListBytesMax || block.count > limits.headerFieldsMax {
            block.overflown = true
            // A client has no use for an answer that it cannot hold; a server gives the peer a little more, to answer 431.
            if role == .client || block.bytes > 4 * limits.headerListBytesMax || block.count > 4 * limits.headerFieldsMax {
                if role == .client { append(.headersTooLarge(frame.pointee.hd.stream_id)) }
                check(nghttp2_submit_rst_stream(session, 0, frame.pointee.hd.stream_id, NGHTTP2_ENHANCE_YOUR_CALM.rawValue))
                return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue
            }
        }
        if !block.overflown { block.append(name: name, value: value, isSensitive: isSensitive) }
        return 0
    }

    private func frameReceived(_ frame: UnsafePointer<nghttp2_frame>) {
        let header = frame.pointee.hd
        let isAck = header.flags & UInt8(NGHTTP2_FLAG_ACK.rawValue) != 0
        switch nghttp2_frame_type(UInt32(header.type)) {
        case NGHTTP2_DATA:
            let isEnd = header.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0
            if header.length == frame.pointee.data.padlen, !isEnd { countIdleFrame() }
            if isEnd, let stream = stream(header.stream_id) { peerEnded(stream) }
        case NGHTTP2_HEADERS:
            headersReceived(frame)
        case NGHTTP2_RST_STREAM:
            countResetReceived()
        case NGHTTP2_PING:
            if isAck { append(.pingAcknowledged) } else { countIdleFrame() }
        case NGHTTP2_SETTINGS:
            if !isAck {
                countIdleFrame()
                // The windows may have become smaller.
                windowsVersion &+= 1
                isWidened = true
            }
        case NGHTTP2_WINDOW_UPDATE:
            isWidened = true
        case NGHTTP2_GOAWAY:
            append(.goAway(frame.pointee.goaway.error_code))
        default:
            break
        }
    }

    private func headersReceived(_ frame: UnsafePointer<nghttp2_frame>) {
        guard let stream = stream(frame.pointee.hd.stream_id) else { return }
        let isEnd = frame.pointee.hd.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0
        let block = block
        self.block = HeaderBlock()
        switch role {
        case .client:
            if let response = block.response() { append(.response(stream.id, response)) }
        case .server where frame.pointee.headers.cat == NGHTTP2_HCAT_REQUEST:
            if block.overflown {
                stream.flags.formUnion([.announced, .discarding])
                append(.headersTooLarge(stream.id))
            } else if let request = block.request() {
                stream.flags.insert(.announced)
                if request.method == .connect { stream.flags.insert(.tunnel) }
                append(.request(stream.id, request, hasBody: !isEnd))
                // A tunnel has no content, whatever it says of its length (RFC 9110 section 9.3.6).
                let length = request.method == .connect ? nil : block.contentLength
                if !isEnd, let length, length > limits.bodyBytesMax { bodyTooLong(stream) }
            } else {
                stream.flags.insert(.discarding)
                check(nghttp2_submit_rst_stream(session, 0, stream.id, NGHTTP2_PROTOCOL_ERROR.rawValue))
            }
        case .server where stream.flags.contains(.tunnel):
            // Only DATA and what ends or widens the stream may be sent on a tunnel (RFC 9113 8.5).
            stream.flags.insert(.discarding)
            check(nghttp2_submit_rst_stream(session, 0, stream.id, NGHTTP2_PROTOCOL_ERROR.rawValue))
            return
        case .server:
            break  // trailers: nothing of ours is in them
        }
        if isEnd { peerEnded(stream) }
    }

    private func peerEnded(_ stream: HTTP2Stream) {
        stream.flags.insert(.peerEnded)
        if !stream.flags.contains(.discarding) { append(.end(stream.id)) }
    }

    private func bodyTooLong(_ stream: HTTP2Stream) {
        stream.flags.insert(.discarding)
        append(.bodyTooLong(stream.id))
    }

    private func dataReceived(stream id: HTTP2StreamID, _ data: UnsafeBufferPointer<UInt8>) {
        guard !data.isEmpty, let stream = stream(id), !stream.flags.contains(.discarding) else { return }
        stream.receivedBytes += data.count
        if role == .server, stream.receivedBytes > limits.bodyBytesMax, !stream.flags.contains(.tunnel) {
            bodyTooLong(stream)
        } else {
            append(.body(id, Array(data)))
        }
    }

    private func streamClosed(_ id: HTTP2StreamID, errorCode: UInt32) {
        guard let stream = streams.removeValue(forKey: id) else { return }
        nghttp2_session_set_stream_user_data(session, id, nil)
        if stream.flags.contains(.announced) { append(.closed(id, errorCode)) }
    }

    // MARK: Going out

    private func frameSent(_ frame: UnsafePointer<nghttp2_frame>) {
        let header = frame.pointee.hd
        switch nghttp2_frame_type(UInt32(header.type)) {
        case NGHTTP2_DATA, NGHTTP2_HEADERS:
            guard role == .server, header.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0,
                let stream = stream(header.stream_id), !stream.flags.contains(.peerEnded)
            else { return }
            // A tunnel has two halves, each with its own end.
            if stream.flags.contains(.tunnel) { return }
            // Answered before the whole request was here: the rest of it is not wanted (RFC 9113 8.1).
            check(nghttp2_submit_rst_stream(session, 0, stream.id, NGHTTP2_NO_ERROR.rawValue))
        case NGHTTP2_RST_STREAM:
            noteReset(header.stream_id)
            countResetSent()
        case NGHTTP2_GOAWAY:
            let code = frame.pointee.goaway.error_code
            if code != NGHTTP2_NO_ERROR.rawValue, fault == nil { fault = .connectionError(code: code) }
        default:
            break
        }
    }

    private func frameNotSent(_ frame: UnsafePointer<nghttp2_frame>, errorCode: Int32) {
        // An answer's head that does not fit nghttp2's frame buffer: the stream would stay open without a word.
        guard role == .server, nghttp2_frame_type(UInt32(frame.pointee.hd.type)) == NGHTTP2_HEADERS,
            errorCode == NGHTTP2_ERR_FRAME_SIZE_ERROR.rawValue || errorCode == NGHTTP2_ERR_HEADER_COMP.rawValue
        else { return }
        check(nghttp2_submit_rst_stream(session, 0, frame.pointee.hd.stream_id, NGHTTP2_INTERNAL_ERROR.rawValue))
    }

    private func sendData(of stream: HTTP2Stream, frameHeader: UnsafePointer<UInt8>, count: Int) {
        precondition(count > 0 && count <= stream.pendingCount, "nghttp2 sends what the read callback promised")
        knownRoom = 0
        output.append(contentsOf: UnsafeBufferPointer(start: frameHeader, count: 9))
        stream.pending.withUnsafeBufferPointer { bytes in
            output.append(contentsOf: UnsafeBufferPointer(rebasing: bytes[stream.pendingStart..<stream.pendingStart + count]))
        }
        stream.pendingStart += count
        guard stream.pendingStart == stream.pendingEnd else { return }
        stream.pending = []
        if stream.flags.contains(.refused) || stream.offeredFor != sendNumber {
            stream.flags.remove(.refused)
            if !stream.flags.contains(.finishing) { append(.windowOpen(stream.id)) }
        }
    }
}
