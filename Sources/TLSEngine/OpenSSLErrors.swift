import COpenSSL

/// The error queue of OpenSSL, which belongs to the thread and not to a session.
///
/// An entry that one session leaves behind would be taken for the fault of the next session on that thread, so the queue is emptied
/// before every call whose result is looked at, and again when a fault is read from it.
enum OpenSSLErrors {
    /// Empties the queue.
    static func clear() {
        // Clearing walks all 16 slots; looking is one load, and the queue is nearly always empty.
        if ERR_peek_error() != 0 {
            ERR_clear_error()
        }
    }

    /// Takes the oldest entry, which is the cause of the others, and empties the queue.
    static func take() -> Entry? {
        let code = ERR_get_error()
        guard code != 0 else { return nil }
        ERR_clear_error()
        return Entry(code: code)
    }

    /// What the queue says of the call that has just failed, as a text.
    static func takeText() -> String {
        take()?.text ?? "unknown reason"
    }

    struct Entry {
        var code: UInt

        /// The number of the reason within its library.
        var reason: Int32 { ERR_GET_REASON(code) }

        /// Whether the reason is one of PEM, such as `PEM_R_NO_START_LINE`.
        func isPEM(_ reason: Int32) -> Bool {
            ERR_GET_LIB(code) == ERR_LIB_PEM && self.reason == reason
        }

        /// Whether the reason is one of SSL, such as `SSL_R_HTTP_REQUEST`.
        func isSSL(_ reason: Int32) -> Bool {
            ERR_GET_LIB(code) == ERR_LIB_SSL && self.reason == reason
        }

        /// The reason in words. Of errors of the system it is `strerror`'s text.
        var text: String {
            if let reason = ERR_reason_error_string(code) {
                return String(cString: reason)
            }
            // "error:80000002:system library::No such file or directory"
            let whole = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
                ERR_error_string_n(code, buffer.baseAddress!, buffer.count)
                return String(cString: buffer.baseAddress!)
            }
            return whole.split(separator: ":").last.map(String.init) ?? whole
        }
    }
}
