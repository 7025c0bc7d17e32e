import CNghttp2

extension HTTP2Engine {
    static func makeSession(role: Role, limits: HTTP2Limits, meter: HTTP2AllocationMeter?) -> OpaquePointer {
        var option: OpaquePointer?
        precondition(nghttp2_option_new(&option) == 0, "out of memory")
        defer { nghttp2_option_del(option) }
        nghttp2_option_set_max_outbound_ack(option, limits.outboundAcksMax)
        nghttp2_option_set_max_settings(option, limits.settingsEntriesMax)
        // nghttp2 counts reads in which it waits for the nine bytes of a frame's header, so a peer whose bytes come one by one would reach
        // the limit with its first frame. The engine counts frames; this is left for the header blocks that nghttp2 throws away.
        nghttp2_option_set_max_continuations(option, 9 * (limits.continuationsMax + 1))
        nghttp2_option_set_max_deflate_dynamic_table_size(option, limits.encoderTableBytesMax)
        nghttp2_option_set_no_closed_streams(option, 1)
        nghttp2_option_set_max_reserved_remote_streams(option, 0)
        // Off: it reads the machine's clock. The engine's own buckets do this, with the caller's clock.
        nghttp2_option_set_stream_reset_rate_limit(option, .max, 1)

        var session: OpaquePointer?
        let callbacks = SharedCallbacks.pointer
        var memory = meter?.memory ?? EngineMemory.functions
        let result = withUnsafeMutablePointer(to: &memory) { memory in
            // nghttp2 copies the table of functions.
            switch role {
            case .server: nghttp2_session_server_new3(&session, callbacks, nil, option, memory)
            case .client: nghttp2_session_client_new3(&session, callbacks, nil, option, memory)
            }
        }
        precondition(result == 0, "out of memory")
        return session!
    }

    func submitSettings() {
        var entries: [nghttp2_settings_entry] = []
        func set(_ id: nghttp2_settings_id, _ value: UInt32, unless standard: UInt32? = nil) {
            guard value != standard else { return }
            entries.append(nghttp2_settings_entry(settings_id: Int32(id.rawValue), value: value))
        }
        if role == .server {
            set(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, limits.concurrentStreamsMax)
            // The tree of RFC 7540 is work for nothing (CVE-2019-9513); RFC 9113 5.3.2 deprecates it.
            set(NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1)
            if limits.allowsExtendedConnect { set(NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1) }
        } else {
            set(NGHTTP2_SETTINGS_ENABLE_PUSH, 0)
        }
        set(NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, limits.decoderTableBytesMax, unless: 4096)
        set(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, limits.initialWindowBytes, unless: 65535)
        set(NGHTTP2_SETTINGS_MAX_FRAME_SIZE, limits.frameBytesMax, unless: 16384)
        set(NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, UInt32(clamping: limits.headerListBytesMax))
        let result = nghttp2_submit_settings(session, UInt8(NGHTTP2_FLAG_NONE.rawValue), entries, entries.count)
        precondition(result == 0, "the limits are legal settings")
        if limits.connectionWindowBytes > 65535 {
            check(nghttp2_session_set_local_window_size(session, 0, 0, limits.connectionWindowBytes))
        }
    }
}

/// The table of callbacks, the same for all sessions. Never freed: nghttp2 copies it into each session, and it is one per process.
private enum SharedCallbacks {
    // Written once, before anybody sees it, and only read afterwards.
    nonisolated(unsafe) static let pointer: OpaquePointer = {
        var pointer: OpaquePointer?
        precondition(nghttp2_session_callbacks_new(&pointer) == 0, "out of memory")
        HTTP2Engine.setCallbacks(pointer!)
        return pointer!
    }()
}
