import Foundation

/// Where things are kept if nothing else is said.
enum StateDirectory {
    /// systemd's `StateDirectory=`, then the XDG base directory specification, then the system's place for a process without a home.
    private static var path: String {
        let environment = ProcessInfo.processInfo.environment
        func isAbsolute(_ path: String?) -> String? { path.flatMap { $0.hasPrefix("/") ? $0 : nil } }
        if let given = isAbsolute(environment["STATE_DIRECTORY"]?.split(separator: ":").first.map(String.init)) {
            return given
        } else if let state = isAbsolute(environment["XDG_STATE_HOME"]) {
            return state + "/tocsin"
        } else if let home = isAbsolute(environment["HOME"]), home != "/" {
            return home + "/.local/state/tocsin"
        } else {
            return "/var/lib/tocsin"
        }
    }

    /// The server's log.
    static var logPath: String { path + "/log.sqlite" }

    /// What clients found out about networks.
    static var pathMemoryPath: String { path + "/paths.json" }
}
