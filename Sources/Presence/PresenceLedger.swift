package import NotificationCore

/// Who is on which channels at one event loop, and what of that the book has not been told.
///
/// Touched when subscriptions begin and end, never when something is delivered.
package struct PresenceLedger {
    /// What a subscription has in it: to be given back when it ends.
    package struct Place: Sendable, Hashable {
        package var channel: ChannelName
        /// Of a user who is counted; nil: nobody in particular, or one who is not listed.
        fileprivate var user: String?
        /// There was no room for its user.
        fileprivate var isUnlisted: Bool
    }

    private struct Channel {
        var connections = 0
        var unlisted = 0
        var users: [String: Int] = [:]
        var watchers = 0
        /// The book has been told of it.
        var isTold = false
    }

    private struct Change {
        var users: Set<String> = []
        var greets = false
    }

    private let channelsMax: Int
    private let usersMax: Int
    private var channels: [ChannelName: Channel] = [:]
    private var changes: [ChannelName: Change] = [:]
    /// Subscriptions that are not counted: there were too many channels.
    package private(set) var refused = 0

    package init(channelsMax: Int, usersMax: Int) {
        self.channelsMax = channelsMax
        self.usersMax = usersMax
    }

    package var channelCount: Int { channels.count }

    package var hasChanges: Bool { !changes.isEmpty }

    /// A subscription names the channel.
    ///
    /// - Parameter user: nil: nobody in particular.
    /// - Returns: nil: there are too many channels.
    package mutating func enter(_ channel: ChannelName, user: String?) -> Place? {
        guard channels[channel] != nil || channels.count < channelsMax else {
            refused += 1
            return nil
        }
        var place = Place(channel: channel, user: user, isUnlisted: false)
        if let user {
            let known = channels[channel]?.users
            let isListed = known?[user] != nil || (known?.count ?? 0) < usersMax
            if !isListed || user.utf8.count > PresenceConfiguration.userBytesMax {
                place.user = nil
                place.isUnlisted = true
            }
        }
        channels[channel, default: Channel()].connections += 1
        if place.isUnlisted { channels[channel]!.unlisted += 1 }
        if let user = place.user {
            channels[channel]!.users[user, default: 0] += 1
            changes[channel, default: Change()].users.insert(user)
        } else {
            note(channel)
        }
        return place
    }

    package mutating func leave(_ place: Place) {
        guard channels[place.channel] != nil else { preconditionFailure("left a channel that nobody is on") }
        channels[place.channel]!.connections -= 1
        if place.isUnlisted { channels[place.channel]!.unlisted -= 1 }
        if let user = place.user, let count = channels[place.channel]!.users[user] {
            channels[place.channel]!.users[user] = count == 1 ? nil : count - 1
            changes[place.channel, default: Change()].users.insert(user)
        } else {
            note(place.channel)
        }
        forgetIfEmpty(place.channel)
    }

    /// Somebody on the channel, which is counted there, wants to be told of changes.
    package mutating func watch(_ channel: ChannelName) {
        guard channels[channel] != nil else { preconditionFailure("only who is on a channel watches it") }
        channels[channel]!.watchers += 1
        changes[channel, default: Change()].greets = true
    }

    package mutating func unwatch(_ channel: ChannelName) {
        guard channels[channel] != nil else { preconditionFailure("nobody watches this channel") }
        channels[channel]!.watchers -= 1
        note(channel)
        forgetIfEmpty(channel)
    }

    private mutating func note(_ channel: ChannelName) {
        if changes[channel] == nil { changes[channel] = Change() }
    }

    /// Who has come and gone without the book having been told was never there.
    private mutating func forgetIfEmpty(_ channel: ChannelName) {
        guard let state = channels[channel], state.connections == 0, state.watchers == 0, !state.isTold else { return }
        channels[channel] = nil
        changes[channel] = nil
    }

    /// What the book has not been told.
    package mutating func take() -> [PresenceUpdate] {
        var updates: [PresenceUpdate] = []
        updates.reserveCapacity(changes.count)
        for (channel, change) in changes {
            guard let state = channels[channel] else { continue }
            var update = PresenceUpdate(channel: channel, connections: state.connections)
            update.unlisted = state.unlisted
            update.users = change.users.map { PresenceUpdate.User($0, state.users[$0] ?? 0) }
            update.isWhole = !state.isTold
            update.isWatching = state.watchers > 0
            update.greets = change.greets && update.isWatching
            updates.append(update)
            if state.connections == 0, state.watchers == 0 {
                channels[channel] = nil
            } else {
                channels[channel]!.isTold = true
            }
        }
        changes.removeAll(keepingCapacity: changes.count < 1000)
        return updates
    }
}
