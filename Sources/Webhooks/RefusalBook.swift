package import Limits

/// What was refused, by limit and address, so that many refusals become one event.
///
/// Of a fixed size: with more addresses at a time than it has places, the rest of a limit's refusals are counted together, without an
/// address.
package struct RefusalBook: Sendable {
    package struct Report: Sendable, Equatable {
        package var limit: String
        /// nil: several, or not known.
        package var address: NetworkAddress?
        package var count: Int
        /// Milliseconds since 1970.
        package var firstMilliseconds: Int64
        package var lastMilliseconds: Int64

        package init(limit: String, address: NetworkAddress?, count: Int, firstMilliseconds: Int64, lastMilliseconds: Int64) {
            self.limit = limit
            self.address = address
            self.count = count
            self.firstMilliseconds = firstMilliseconds
            self.lastMilliseconds = lastMilliseconds
        }
    }

    private struct Key: Hashable {
        var limit: String
        var address: NetworkAddress?
    }

    private struct Place {
        /// 0: it is only remembered when it was told.
        var count = 0
        var firstMilliseconds: Int64 = 0
        var lastMilliseconds: Int64 = 0
        /// When it was last told; nil: never.
        var toldMilliseconds: Int64?
    }

    /// Who has to look into refusals looks at some addresses, not at thousands. The limits have a place each besides.
    package static let addressesMax = 100
    /// A limit and an address are told of once in so long.
    package static let restMilliseconds: Int64 = 60_000

    private var places: [Key: Place] = [:]
    private var addresses = 0

    package init() {}

    package var isEmpty: Bool { places.isEmpty }
    /// Pairs of a limit and an address, and limits, that are counted or remembered.
    package var placeCount: Int { places.count }

    package mutating func note(_ limit: String, _ address: NetworkAddress?, nowMilliseconds now: Int64) {
        note(Report(limit: limit, address: address, count: 1, firstMilliseconds: now, lastMilliseconds: now))
    }

    /// What another book has counted.
    package mutating func note(_ report: Report) {
        guard report.count > 0 else { return }
        var key = Key(limit: report.limit, address: report.address)
        if places[key] == nil, key.address != nil {
            if addresses < Self.addressesMax { addresses += 1 } else { key.address = nil }
        }
        var place = places[key] ?? Place()
        place.firstMilliseconds = place.count == 0 ? report.firstMilliseconds : min(place.firstMilliseconds, report.firstMilliseconds)
        place.lastMilliseconds = max(place.lastMilliseconds, report.lastMilliseconds)
        place.count += report.count
        places[key] = place
    }

    /// All that was counted, for another book.
    package mutating func takeAll() -> [Report] {
        defer {
            places = [:]
            addresses = 0
        }
        return reports { _ in true }
    }

    /// What is to be told now. Of the others one goes on counting.
    package mutating func takeDue(nowMilliseconds now: Int64) -> [Report] {
        let isRested = { (place: Place) in
            // A clock that was set back is no reason to wait for it.
            place.toldMilliseconds.map { now - $0 >= Self.restMilliseconds || now < $0 } ?? true
        }
        let due = reports(isRested)
        for (key, place) in places where isRested(place) {
            if place.count == 0 {
                places[key] = nil
                if key.address != nil { addresses -= 1 }
            } else {
                places[key] = Place(toldMilliseconds: now)
            }
        }
        return due
    }

    private func reports(_ isWanted: (Place) -> Bool) -> [Report] {
        places.compactMap { key, place in
            guard place.count > 0, isWanted(place) else { return nil }
            return Report(
                limit: key.limit, address: key.address, count: place.count, firstMilliseconds: place.firstMilliseconds,
                lastMilliseconds: place.lastMilliseconds
            )
        }
    }
}
