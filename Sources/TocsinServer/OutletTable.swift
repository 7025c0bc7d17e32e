import NotificationCore

/// The outlets of a loop's subscribers, by their places in the hub's table, at addresses that change only when the table grows.
final class OutletTable {
    private(set) var places: UnsafeMutablePointer<Outlet>
    private var capacity = 64

    init() {
        places = .allocate(capacity: capacity)
        places.initialize(repeating: Outlet(), count: capacity)
    }

    deinit {
        places.deallocate()
    }

    subscript(id: SubscriberID) -> Outlet {
        get {
            // A place that no outlet was put in yet.
            Int(id.index) < capacity ? places[Int(id.index)] : Outlet()
        }
        set {
            while Int(id.index) >= capacity { grow() }
            places[Int(id.index)] = newValue
        }
    }

    private func grow() {
        let larger = UnsafeMutablePointer<Outlet>.allocate(capacity: capacity * 2)
        larger.moveInitialize(from: places, count: capacity)
        (larger + capacity).initialize(repeating: Outlet(), count: capacity)
        places.deallocate()
        places = larger
        capacity *= 2
    }
}
