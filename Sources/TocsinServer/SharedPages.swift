import NotificationCore
import Transports

/// Pages that were just read, ready to be sent: subscribers with one rate have their turn together, and a thousand that come back after a
/// restart stand in few places. Each page is read and encoded once for all who stand where it begins.
struct SharedPages {
    struct Page {
        var bytes: [UInt8]
        var notifications: Int
        var after: ReadingState
    }

    private struct Key: Hashable {
        var place: SharedPlace
        var shape: WireShape
    }

    private static let bytesMax = 4 << 20

    private var pages: [Key: Page] = [:]
    private var bytes = 0
    private var tick: UInt32 = 0

    /// - Parameter tick: pages of an earlier one are forgotten: messages expire.
    mutating func page(_ place: SharedPlace, _ shape: WireShape, tick: UInt32) -> Page? {
        if tick != self.tick {
            forget()
            self.tick = tick
        }
        #if DEFECTS
            if Defect.active == .sharedPageOfAnyShape { return pages.first { $0.key.place == place }?.value }
        #endif
        return pages.isEmpty ? nil : pages[Key(place: place, shape: shape)]
    }

    mutating func keep(_ page: Page, _ place: SharedPlace, _ shape: WireShape) {
        if bytes + page.bytes.count > Self.bytesMax { forget() }
        if pages.updateValue(page, forKey: Key(place: place, shape: shape)) == nil { bytes += page.bytes.count }
    }

    private mutating func forget() {
        if pages.isEmpty { return }
        pages.removeAll(keepingCapacity: true)
        bytes = 0
    }
}
