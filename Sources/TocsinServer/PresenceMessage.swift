import NotificationCore
import NotificationStore
import Presence
import Transports

/// What workers and the main process, which has the book, say to each other of who is on which channels.
///
///     worker                                    main process
///       report: what is new at one loop    ──>
///       question                           ──>
///                                          <──   page
///                                          <──   changes, for one loop
///                                          <──   figures: once a second
enum PresenceMessage: Equatable {
    case report(source: Int, [PresenceUpdate])
    case question(number: UInt64, PresenceQuestion)
    case page(number: UInt64, PresencePage)
    case changes(source: Int, [PresenceChange])
    case figures([PresenceFigure])

    /// Event loops of all processes.
    private static let sourcesMax = 65_535
    /// One frame has about so much.
    private static let partBytes = 1 << 20

    /// Reports and changes in parts that are good for one frame each: at least one.
    static func parts<Value>(_ values: [Value], bytes: (Value) -> Int) -> [ArraySlice<Value>] {
        var parts: [ArraySlice<Value>] = []
        var (start, sum) = (0, 0)
        for (index, value) in values.enumerated() {
            sum += bytes(value)
            guard sum >= partBytes || index == values.count - 1 else { continue }
            parts.append(values[start...index])
            (start, sum) = (index + 1, 0)
        }
        return parts
    }

    var bytes: [UInt8] {
        var out: [UInt8] = []
        switch self {
        case .report(let source, let updates):
            out.append(0)
            out.appendNumber(source)
            out.appendNumber(updates.count)
            for update in updates { out.append(update) }
        case .question(let number, let question):
            out.append(1)
            out.appendVarint(number)
            out.appendLengthAndBytes(of: question.channel.string)
            out.appendOptional(question.after)
            out.appendNumber(question.limit)
        case .page(let number, let page):
            out.append(2)
            out.appendVarint(number)
            out.append(page)
        case .changes(let source, let changes):
            out.append(3)
            out.appendNumber(source)
            out.appendNumber(changes.count)
            for change in changes { out.append(change) }
        case .figures(let figures):
            out.append(4)
            out.appendNumber(figures.count)
            for figure in figures {
                out.appendLengthAndBytes(of: figure.feed)
                for number in [figure.channels, figure.connections, figure.users] { out.appendNumber(number) }
            }
        }
        return out
    }

    init(_ bytes: [UInt8]) throws(LinkDamage) {
        let most = bytes.count
        self = try bytes.read { (reader: inout ByteReader) throws(LinkDamage) -> PresenceMessage in
            switch try reader.byte() {
            case 0:
                let source = try reader.count(upTo: Self.sourcesMax)
                var updates: [PresenceUpdate] = []
                for _ in 0..<(try reader.count(upTo: most)) { updates.append(try reader.presenceUpdate(most)) }
                return .report(source: source, updates)
            case 1:
                let number = try reader.varint()
                let channel = try reader.presenceChannel()
                let after = try reader.optionalText()
                let limit = try reader.count(upTo: PresenceQuestion.limitMax)
                return .question(number: number, PresenceQuestion(channel: channel, after: after, limit: limit))
            case 2:
                let number = try reader.varint()
                return .page(number: number, try reader.presencePage(most))
            case 3:
                let source = try reader.count(upTo: Self.sourcesMax)
                var changes: [PresenceChange] = []
                for _ in 0..<(try reader.count(upTo: most)) { changes.append(try reader.presenceChange(most)) }
                return .changes(source: source, changes)
            case 4:
                var figures: [PresenceFigure] = []
                for _ in 0..<(try reader.count(upTo: most)) {
                    var figure = PresenceFigure(feed: try reader.text())
                    figure.channels = try reader.count(upTo: .max)
                    figure.connections = try reader.count(upTo: .max)
                    figure.users = try reader.count(upTo: .max)
                    figures.append(figure)
                }
                return .figures(figures)
            default: throw LinkDamage()
            }
        }
    }
}

extension PresenceUpdate {
    /// About what it has in a frame.
    var frameBytes: Int { users.reduce(300) { $0 + $1.name.utf8.count + 8 } }
}

extension PresenceChange {
    /// About what it has in a frame.
    var frameBytes: Int { ((joined ?? []) + (left ?? [])).reduce(300) { $0 + $1.utf8.count + 4 } }

    /// The same without names.
    var withoutNames: PresenceChange { PresenceChange(channel: channel, counts: counts) }
}

extension [UInt8] {
    fileprivate mutating func append(_ update: PresenceUpdate) {
        appendLengthAndBytes(of: update.channel.string)
        var flags: UInt8 = 0
        if update.isWhole { flags |= 1 }
        if update.isWatching { flags |= 2 }
        if update.greets { flags |= 4 }
        append(flags)
        appendNumber(update.connections)
        appendNumber(update.unlisted)
        appendNumber(update.users.count)
        for user in update.users {
            appendLengthAndBytes(of: user.name)
            appendNumber(user.connections)
        }
    }

    fileprivate mutating func append(_ counts: PresenceCounts) {
        appendNumber(counts.connections)
        appendNumber(counts.users)
        append(counts.isAtLeast ? 1 : 0)
    }

    fileprivate mutating func append(_ change: PresenceChange) {
        appendLengthAndBytes(of: change.channel.string)
        append(change.counts)
        append(change.isGreeting ? 1 : 0)
        for names in [change.joined, change.left] {
            append(names == nil ? 0 : 1)
            guard let names else { continue }
            appendNumber(names.count)
            for name in names { appendLengthAndBytes(of: name) }
        }
    }

    fileprivate mutating func append(_ page: PresencePage) {
        append(page.counts)
        append(page.isUnknown ? 1 : 0)
        appendOptional(page.next)
        append(page.members == nil ? 0 : 1)
        guard let members = page.members else { return }
        appendNumber(members.count)
        for member in members {
            appendLengthAndBytes(of: member.user)
            appendNumber(member.connections)
            appendZigzag(member.sinceMilliseconds)
        }
    }
}

extension ByteReader {
    mutating func presenceChannel() throws(LinkDamage) -> ChannelName {
        guard let channel = ChannelName(try text()) else { throw LinkDamage() }
        return channel
    }

    fileprivate mutating func presenceUpdate(_ most: Int) throws(LinkDamage) -> PresenceUpdate {
        let channel = try presenceChannel()
        let flags = try byte()
        guard flags < 8 else { throw LinkDamage() }
        var update = PresenceUpdate(channel: channel, connections: try count(upTo: Int(Int32.max)))
        update.isWhole = flags & 1 != 0
        update.isWatching = flags & 2 != 0
        update.greets = flags & 4 != 0
        update.unlisted = try count(upTo: Int(Int32.max))
        for _ in 0..<(try count(upTo: most)) {
            let name = try text()
            update.users.append(PresenceUpdate.User(name, try count(upTo: Int(Int32.max))))
        }
        return update
    }

    private mutating func presenceFlag() throws(LinkDamage) -> Bool {
        let flag = try byte()
        guard flag < 2 else { throw LinkDamage() }
        return flag == 1
    }

    private mutating func presenceCounts() throws(LinkDamage) -> PresenceCounts {
        let connections = try count(upTo: Int(Int32.max))
        let users = try count(upTo: Int(Int32.max))
        return PresenceCounts(connections: connections, users: users, isAtLeast: try presenceFlag())
    }

    fileprivate mutating func presenceChange(_ most: Int) throws(LinkDamage) -> PresenceChange {
        let channel = try presenceChannel()
        var change = PresenceChange(channel: channel, counts: try presenceCounts())
        change.isGreeting = try presenceFlag()
        change.joined = try presenceNames(most)
        change.left = try presenceNames(most)
        return change
    }

    private mutating func presenceNames(_ most: Int) throws(LinkDamage) -> [String]? {
        guard try presenceFlag() else { return nil }
        var names: [String] = []
        for _ in 0..<(try count(upTo: most)) { names.append(try text()) }
        return names
    }

    fileprivate mutating func presencePage(_ most: Int) throws(LinkDamage) -> PresencePage {
        var page = PresencePage()
        page.counts = try presenceCounts()
        page.isUnknown = try presenceFlag()
        page.next = try optionalText()
        guard try presenceFlag() else { return page }
        var members: [PresencePage.Member] = []
        for _ in 0..<(try count(upTo: most)) {
            let user = try text()
            let connections = try count(upTo: Int(Int32.max))
            members.append(PresencePage.Member(user: user, connections: connections, sinceMilliseconds: try zigzag()))
        }
        page.members = members
        return page
    }
}
