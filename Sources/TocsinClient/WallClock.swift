import Foundation

enum WallClock {
    /// Since 1970.
    static var milliseconds: Int { Int(Date().timeIntervalSince1970 * 1000) }
}
