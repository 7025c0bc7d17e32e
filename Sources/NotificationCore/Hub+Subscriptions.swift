extension Hub {
    /// Makes a subscriber of these patterns, which may overlap: what several of them match comes once.
    ///
    /// If it need not read anything first it is live at once, else it is stopped and wants `read`.
    ///
    /// - Parameters:
    ///   - start: nil: as the kinds of the channels have it. What is unread of alerts, the state of scores and dashboards, then what comes.
    ///   - knownHead: the newest number that the log gave out. A loop may be behind it; a position that is not is not ours.
    package func subscribe(
        _ patterns: [ChannelPattern], from start: StartPoint?, knownHead: UInt64, options: ReadingOptions = ReadingOptions()
    ) -> SubscriberID {
        precondition(!isFanningOut)
        let id = table.insert(cursor: 0)
        while profiles.count <= Int(id.index) { profiles.append(Profile()) }
        profiles[Int(id.index)] = Profile(options: options)
        var seen: Set<ChannelPattern> = []
        for pattern in patterns where seen.insert(pattern).inserted {
            enter(id, pattern)
        }
        let cursor = resolve(start, channels(of: Int(id.index)), options, knownHead: knownHead)
        table.slots[Int(id.index)].cursor = cursor.offset
        profiles[Int(id.index)].reader = cursor.reader
        #if DEFECTS
            if Defect.active == .pacedIsLive {
                if cursor.isAtHead {
                    table.slots[Int(id.index)].state = .live
                    return id
                }
            }
        #endif
        if cursor.isAtHead { table.slots[Int(id.index)].state = options.isPaced ? .paced : .live }
        return id
    }

    /// Whether the subscriber is served in turns.
    package func setPaced(_ isPaced: Bool, _ id: SubscriberID) {
        precondition(!isFanningOut && table.isCurrent(id))
        let slot = table.slots + Int(id.index)
        profiles[Int(id.index)].options.isPaced = isPaced
        switch slot.pointee.state {
        case .live where isPaced:
            slot.pointee.cursor = max(slot.pointee.cursor, head)
            slot.pointee.state = .paced
        case .paced where !isPaced:
            slot.pointee.state = .stopped
        default: break
        }
    }

    /// A subscriber that chose a rate, and has not read yet, waits for its first turn.
    package func rest(_ id: SubscriberID) {
        precondition(!isFanningOut && table.isCurrent(id) && profiles[Int(id.index)].options.isPaced)
        if table.slots[Int(id.index)].state == .stopped { table.slots[Int(id.index)].state = .paced }
    }

    /// The turn of a subscriber that chose a rate has come.
    ///
    /// - Returns: whether there is something for it; then it wants `read`.
    package func wake(_ id: SubscriberID) -> Bool {
        precondition(!isFanningOut && table.isCurrent(id))
        let slot = table.slots + Int(id.index)
        guard slot.pointee.state == .paced else { return false }
        let profile = profiles[Int(id.index)]
        let hasNews = profile.reader.hasWork || profile.subscriptions.contains { nodes[Int($0.node)].lastOffset > slot.pointee.cursor }
        if hasNews { slot.pointee.state = .stopped } else { slot.pointee.cursor = max(slot.pointee.cursor, head) }
        return hasNews
    }

    /// - Returns: whether the subscriber had exactly this pattern.
    package func remove(_ pattern: ChannelPattern, from id: SubscriberID) -> Bool {
        precondition(!isFanningOut && table.isCurrent(id))
        guard let node = nodeOfPattern[pattern],
            let at = profiles[Int(id.index)].subscriptions.firstIndex(where: { $0.node == node })
        else { return false }
        leave(id, at)
        profiles[Int(id.index)].revision &+= 1
        if case .states(var states) = profiles[Int(id.index)].reader.phase {
            states.keep(channels(of: Int(id.index)).map { tail[$0].name })
            profiles[Int(id.index)].reader.phase = .states(states)
        }
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

    /// Stops a subscriber that waits until its client asks again.
    ///
    /// - Returns: the number of its position, if that is all there is to it.
    package func pause(_ id: SubscriberID) -> UInt64? {
        stop(id)
        let slot = table.slots[Int(id.index)]
        guard slot.state == .stopped, case .running = profiles[Int(id.index)].reader.phase else { return nil }
        if case .foreign = profiles[Int(id.index)].reader.notes { return nil }
        return slot.cursor
    }

    /// Has a subscriber that was paused go on as a new one would that begins where it stands.
    ///
    /// - Returns: whether it is live: nothing is to be read.
    package func restart(_ id: SubscriberID) -> Bool {
        precondition(!isFanningOut && table.isCurrent(id))
        let slot = table.slots + Int(id.index)
        precondition(slot.pointee.state == .stopped && !profiles[Int(id.index)].options.isPaced)
        profiles[Int(id.index)].reader = Reader()
        #if DEFECTS
            if Defect.active == .pollGoesOnAtHead { slot.pointee.cursor = head }
        #endif
        guard profiles[Int(id.index)].subscriptions.allSatisfy({ nodes[Int($0.node)].lastOffset <= slot.pointee.cursor }) else {
            return false
        }
        slot.pointee.cursor = max(slot.pointee.cursor, head)
        slot.pointee.state = .live
        return true
    }

    /// Whether nothing up to this start is still to come here.
    package func hasApplied(_ start: StartPoint?) -> Bool {
        guard case .after(let position) = start, position.places.count == 1, case .at(let offset) = position.places[0],
            let last = lastOffset(of: position.epoch, knownHead: head)
        else { return false }
        return offset <= last
    }

    /// Up to where numbers of this epoch are the same in this log. nil: it is none of its epochs.
    package func lastOffset(of other: LogEpoch, knownHead: UInt64) -> UInt64? {
        #if DEFECTS
            if Defect.active == .pastEpochIsTrusted, pastEpochs[other] != nil { return knownHead }
        #endif
        return other == epoch ? knownHead : pastEpochs[other]
    }

    package func patterns(of id: SubscriberID) -> [ChannelPattern] {
        precondition(table.isCurrent(id))
        return profiles[Int(id.index)].subscriptions.map { nodes[Int($0.node)].pattern }
    }

    // MARK: nodes and places

    private func resolve(
        _ start: StartPoint?, _ channels: [ChannelID], _ options: ReadingOptions, knownHead: UInt64
    ) -> (offset: UInt64, reader: Reader, isAtHead: Bool) {
        switch start {
        case nil:
            return beginning(channels, options)
        case .latest:
            return (head, Reader(), true)
        case .earliest:
            return (0, Reader(notes: .earliest), false)
        case .after(let position):
            // Nothing was seen, in whichever epoch.
            if position.places == [.beginning] { return beginning(channels, options) }
            let foreign = ReadingNotes.foreign(position)
            guard position.places.count == 1, let last = lastOffset(of: position.epoch, knownHead: knownHead) else {
                return (0, Reader(notes: foreign), false)
            }
            // Of an earlier epoch, what came after its last number here is not known; of this one, nothing is.
            let isPast = position.epoch != epoch
            switch position.places[0] {
            case .beginning: preconditionFailure("it has begun")
            case .at(let offset):
                if offset > last { return (isPast ? last : 0, Reader(notes: foreign), false) }
                #if DEFECTS
                    if Defect.active == .resumeOffByOne { return (min(offset + 1, last), Reader(), false) }
                #endif
                return (offset, Reader(), false)
            case .within(var window):
                if window.through <= last { return (window.base ?? window.through, Reader(phase: .window(window)), false) }
                guard isPast else { return (0, Reader(notes: foreign), false) }
                window.through = last
                window.offset = min(window.offset, last)
                window.base = window.base.map { min($0, last) }
                return (window.base ?? window.through, Reader(phase: .window(window), notes: foreign), false)
            }
        }
    }

    private func beginning(
        _ channels: [ChannelID], _ options: ReadingOptions
    ) -> (offset: UInt64, reader: Reader, isAtHead: Bool) {
        let hasSomething = channels.contains { channel in
            switch tail[channel].feed.kind {
            case .scores, .dashboards: true
            case .alerts: options.user != nil
            case nil: false
            }
        }
        return (head, Reader(phase: hasSomething ? .beginning : .running), !hasSomething)
    }

    private func enter(_ id: SubscriberID, _ pattern: ChannelPattern) {
        let node = Int(nodeOfPattern[pattern] ?? makeNode(pattern))
        profiles[Int(id.index)].subscriptions.append(Subscription(node: Int32(node), place: Int32(nodes[node].subscribers.count)))
        nodes[node].subscribers.append(id.index)
        figures.note(subscriptions: 1, feed: nodes[node].feed)
    }

    private func leave(_ id: SubscriberID, _ at: Int) {
        let subscription = profiles[Int(id.index)].subscriptions[at]
        profiles[Int(id.index)].subscriptions.remove(at: at)
        let node = Int(subscription.node)
        let last = nodes[node].subscribers.removeLast()
        figures.note(subscriptions: -1, feed: nodes[node].feed)
        let place = Int(subscription.place)
        if place < nodes[node].subscribers.count {
            nodes[node].subscribers[place] = last
            let moved = profiles[Int(last)].subscriptions.firstIndex { $0.node == subscription.node }!
            profiles[Int(last)].subscriptions[moved].place = subscription.place
        }
        if nodes[node].subscribers.isEmpty { giveUp(subscription.node) }
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
        nodes[Int(node)].feed = figures.feed(of: pattern)
        figures.noteNode(node, pattern, isThere: true)
        if let name = pattern.name {
            // A channel that has no message yet gets its place when the first one comes.
            if let channel = tail.index(of: name) { join(channel, node, first: true) }
        } else {
            wildcards.insert(node, for: pattern)
            for (index, channel) in tail.channels.enumerated() where !channel.name.isReserved && pattern.matches(channel.name) {
                join(Int32(index), node, first: false)
            }
        }
        return node
    }

    private func giveUp(_ node: Int32) {
        let given = nodes[Int(node)]
        for channel in given.channels { nodesOfChannel[Int(channel)].removeAll { $0 == node } }
        nodeOfPattern[given.pattern] = nil
        figures.noteNode(node, given.pattern, isThere: false)
        if given.pattern.isWildcard { wildcards.remove(given.pattern) }
        nodes[Int(node)].channels = []
        nodes[Int(node)].subscribers = []
        unusedNodes.append(node)
    }

    /// Finds the audience of a channel that has just got its first message.
    func connect(_ channel: Int32) {
        while nodesOfChannel.count <= Int(channel) { nodesOfChannel.append([]) }
        let name = tail[channel].name
        figures.connect(channel, name, tail[channel].feed.kind)
        if let exact = nodeOfPattern[ChannelPattern(name)] { join(channel, exact, first: true) }
        var matching: [Int32] = []
        if !name.isReserved { wildcards.forEachMatch(name) { matching.append($0) } }
        for node in matching { join(channel, node, first: false) }
    }

    private func join(_ channel: Int32, _ node: Int32, first: Bool) {
        nodes[Int(node)].channels.append(channel)
        nodes[Int(node)].lastOffset = max(nodes[Int(node)].lastOffset, tail[channel].lastOffset)
        switch tail[channel].feed.kind {
        case .scores, .dashboards: nodes[Int(node)].hasStates = true
        case nil, .alerts: break
        }
        if first { nodesOfChannel[Int(channel)].insert(node, at: 0) } else { nodesOfChannel[Int(channel)].append(node) }
    }
}
