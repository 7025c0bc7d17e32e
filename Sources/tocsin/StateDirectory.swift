import Foundation

/// Where the log is if nothing else is said.
enum StateDirectory {
    /// systemd's `StateDirectory=`, then the XDG base directory specification, then the system's place for a process without a home.
    static var logPath: String {
        let environment = ProcessInfo.processInfo.environment
        func isAbsolute(_ path: String?) -> String? { path.flatMap { $0.hasPrefix("/") ? $0 : nil } }
        let directory: String
        if let given = isAbsolute(environment["STATE_DIRECTORY"]?.split(separator: ":").first.map(String.init)) {
            directory = given
        } else if let state = isAbsolute(environment["XDG_STATE_HOME"]) {
            directory = state + "/tocsin"
        } else if let home = isAbsolute(environment["HOME"]), home != "/" {
            directory = home + "/.local/state/tocsin"
        } else {
            directory = "/var/lib/tocsin"
        }
        return directory + "/log.sqlite"
    }
}
