/// What a subscriber is subscribed to.
struct Profile {
    var subscriptions: [Subscription] = []
    var main: ReadingNotes = .none
    /// Channels that were added from an earlier position and are not at the head yet.
    var sideReaders: [SideReader] = []
}

struct Subscription {
    var node: Int32
    /// Where it stands in the node's audience, if it has been merged.
    var place: Int32
    /// 0: read by the main cursor. Else the side reader of this number.
    var reader: UInt16
}

struct SideReader {
    var number: UInt16
    var cursor: UInt64
    var notes: ReadingNotes
}

/// What a cursor that is behind has been told of what it cannot have.
enum ReadingNotes {
    case none
    /// It has not read yet and starts at `earliest`: what was dropped before is not missed.
    case earliest
    /// It has not read yet and its position is of another epoch.
    case foreign
    /// By channel: the highest dropped sequence that it knows of.
    case told([Int32: UInt64])
}

/// Everybody who is subscribed by one and the same pattern.
struct AudienceNode {
    var pattern: ChannelPattern
    /// Indices of subscribers; those who read on are in it too, those of a side reader are not.
    var subscribers: [UInt32] = []
    /// Subscriptions, merged or not. With 0 the node is given up.
    var subscriptionCount = 0
    /// The channels that it matches, as far as they exist.
    var channels: [Int32] = []
}

package enum SubscribeFault: Error, Hashable, Sendable {
    /// The subscriber has this, or one that has channels in common with it.
    case overlaps(ChannelPattern)
    case tooMany(max: Int)
}

extension Hub {
    /// Makes a subscriber of these patterns, which may overlap: what several of them match comes once.
    ///
    /// With `.latest` it is live at once, else it is stopped at its position and wants `read`.
    ///
    /// - Parameter knownHead: the newest number that the log gave out. A loop may be behind it; a position that is not is not ours.
    package func subscribe(_ patterns: [ChannelPattern], from start: StartPoint, knownHead: UInt64) -> SubscriberID {
        precondition(!isFanningOut)
        let cursor = resolve(start, knownHead: knownHead)
        let id = table.insert(cursor: cursor.offset)
        while profiles.count <= Int(id.index) { profiles.append(Profile()) }
        profiles[Int(id.index)] = Profile(main: cursor.notes)
        var seen: Set<ChannelPattern> = []
        for pattern in patterns where seen.insert(pattern).inserted {
            enter(id, pattern, reader: 0)
        }
        if case .latest = start { table.slots[Int(id.index)].state = .live }
        return id
    }

    /// Adds patterns to a subscriber.
    ///
    /// - Returns: whether they wait to be read on from `start`; then `read` is wanted.
    package func add(
        _ patterns: [ChannelPattern], from start: StartPoint, to id: SubscriberID, knownHead: UInt64, patternsMax: Int
    ) throws(SubscribeFault) -> Bool {
        precondition(!isFanningOut && table.isCurrent(id))
        var taken = profiles[Int(id.index)].subscriptions.map { nodes[Int($0.node)].pattern }
        for pattern in patterns {
            if let overlapping = taken.first(where: { $0.overlaps(pattern) }) { throw .overlaps(overlapping) }
            taken.append(pattern)
        }
        if taken.count > patternsMax { throw .tooMany(max: patternsMax) }
        let slot = table.slots[Int(id.index)]
        if case .latest = start, slot.state == .live {
            // From now on: everything up to the head counts as seen.
            table.slots[Int(id.index)].cursor = max(slot.cursor, head)
            for pattern in patterns { enter(id, pattern, reader: 0) }
            return false
        }
        let cursor = resolve(start, knownHead: knownHead)
        let number = (profiles[Int(id.index)].sideReaders.map(\.number).max() ?? 0) + 1
        profiles[Int(id.index)].sideReaders.append(
            SideReader(number: number, cursor: cursor.offset, notes: cursor.notes)
        )
        for pattern in patterns { enter(id, pattern, reader: number) }
        return true
    }

    /// - Returns: whether the subscriber had exactly this pattern.
    package func remove(_ pattern: ChannelPattern, from id: SubscriberID) -> Bool {
        precondition(!isFanningOut && table.isCurrent(id))
        guard let node = nodeOfPattern[pattern],
            let at = profiles[Int(id.index)].subscriptions.firstIndex(where: { $0.node == node })
        else { return false }
        leave(id, at)
        let readers = Set(profiles[Int(id.index)].subscriptions.map(\.reader))
        profiles[Int(id.index)].sideReaders.removeAll { !readers.contains($0.number) }
        return true
    }

    package func unsubscribe(_ id: SubscriberID) {
        precondition(!isFanningOut && table.isCurrent(id))
        while !profiles[Int(id.index)].subscriptions.isEmpty { leave(id, profiles[Int(id.index)].subscriptions.count - 1) }
        profiles[Int(id.index)] = Profile()
        table.remove(id)
    }

    /// Takes a live subscriber off the head: what comes is not handed out until `read` has been called.
    package func stop(_ id: SubscriberID) {
        precondition(!isFanningOut && table.isCurrent(id))
        let slot = table.slots + Int(id.index)
        if slot.pointee.state == .live {
            slot.pointee.cursor = max(slot.pointee.cursor, head)
            slot.pointee.state = .stopped
        }
    }

    package func patterns(of id: SubscriberID) -> [ChannelPattern] {
        precondition(table.isCurrent(id))
        return profiles[Int(id.index)].subscriptions.map { nodes[Int($0.node)].pattern }
    }

    // MARK: nodes and places

    private func resolve(_ start: StartPoint, knownHead: UInt64) -> (offset: UInt64, notes: ReadingNotes) {
        switch start {
        case .latest:
            return (head, .none)
        case .earliest:
            return (0, .earliest)
        case .after(let position):
            guard position.epoch == epoch, position.offsets.count == 1, position.offsets[0] <= knownHead else { return (0, .foreign) }
            return (position.offsets[0], .none)
        }
    }

    private func enter(_ id: SubscriberID, _ pattern: ChannelPattern, reader: UInt16) {
        let node = nodeOfPattern[pattern] ?? makeNode(pattern)
        nodes[Int(node)].subscriptionCount += 1
        let at = profiles[Int(id.index)].subscriptions.count
        profiles[Int(id.index)].subscriptions.append(Subscription(node: node, place: -1, reader: reader))
        if reader == 0 { take(id.index, at) }
    }

    /// Puts a subscription where the fan-out finds it.
    func take(_ subscriber: UInt32, _ at: Int) {
        let node = Int(profiles[Int(subscriber)].subscriptions[at].node)
        profiles[Int(subscriber)].subscriptions[at].place = Int32(nodes[node].subscribers.count)
        profiles[Int(subscriber)].subscriptions[at].reader = 0
        nodes[node].subscribers.append(subscriber)
    }

    private func leave(_ id: SubscriberID, _ at: Int) {
        let subscription = profiles[Int(id.index)].subscriptions[at]
        profiles[Int(id.index)].subscriptions.remove(at: at)
        let node = Int(subscription.node)
        if subscription.place >= 0 {
            let last = nodes[node].subscribers.removeLast()
            let place = Int(subscription.place)
            if place < nodes[node].subscribers.count {
                nodes[node].subscribers[place] = last
                let moved = profiles[Int(last)].subscriptions.firstIndex { $0.node == subscription.node }!
                profiles[Int(last)].subscriptions[moved].place = subscription.place
            }
        }
        nodes[node].subscriptionCount -= 1
        if nodes[node].subscriptionCount == 0 { giveUp(subscription.node) }
    }

    private func makeNode(_ pattern: ChannelPattern) -> Int32 {
        let node: Int32
        if let reused = unusedNodes.popLast() {
            node = reused
            nodes[Int(node)] = AudienceNode(pattern: pattern)
        } else {
            node = Int32(nodes.count)
            nodes.append(AudienceNode(pattern: pattern))
        }
        nodeOfPattern[pattern] = node
        if let name = pattern.name {
            // A channel that has no message yet gets its place when the first one comes.
            if let channel = tail.index(of: name) { join(channel, node, first: true) }
        } else {
            wildcards.insert(node, for: pattern)
            for (index, channel) in tail.channels.enumerated() where pattern.matches(channel.name) {
                join(Int32(index), node, first: false)
            }
        }
        return node
    }

    private func giveUp(_ node: Int32) {
        let given = nodes[Int(node)]
        for channel in given.channels { nodesOfChannel[Int(channel)].removeAll { $0 == node } }
        nodeOfPattern[given.pattern] = nil
        if given.pattern.isWildcard { wildcards.remove(given.pattern) }
        nodes[Int(node)].channels = []
        nodes[Int(node)].subscribers = []
        unusedNodes.append(node)
    }

    /// Finds the audience of a channel that has just got its first message.
    func connect(_ channel: Int32) {
        while nodesOfChannel.count <= Int(channel) { nodesOfChannel.append([]) }
        let name = tail[channel].name
        if let exact = nodeOfPattern[ChannelPattern(name)] { join(channel, exact, first: true) }
        var matching: [Int32] = []
        wildcards.forEachMatch(name) { matching.append($0) }
        for node in matching { join(channel, node, first: false) }
    }

    private func join(_ channel: Int32, _ node: Int32, first: Bool) {
        nodes[Int(node)].channels.append(channel)
        if first { nodesOfChannel[Int(channel)].insert(node, at: 0) } else { nodesOfChannel[Int(channel)].append(node) }
    }
}
