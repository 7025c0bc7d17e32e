import JSONCodec
import NotificationCore
import NotificationStore

// The values that the frames of a link are made of.

extension [UInt8] {
    mutating func appendNumber(_ number: Int) {
        appendVarint(UInt64(Swift.max(0, number)))
    }

    mutating func appendSlice(_ bytes: [UInt8]) {
        appendNumber(bytes.count)
        append(contentsOf: bytes)
    }

    mutating func appendOptional(_ text: String?) {
        append(text == nil ? 0 : 1)
        if let text { appendLengthAndBytes(of: text) }
    }

    // MARK: Notifications

    /// The name of the channel goes along with its first message.
    mutating func append(_ notification: Notification) {
        var flags: UInt64 = 0
        if notification.event != nil { flags |= 1 }
        if notification.key != nil { flags |= 2 }
        if notification.isStale { flags |= 4 }
        if notification.isChange { flags |= 8 }
        if notification.expiresMilliseconds != .max { flags |= 16 }
        appendVarint(flags)
        appendVarint(notification.offset)
        appendVarint(notification.sequence)
        appendNumber(Int(notification.channelID))
        if notification.sequence == 1 { appendLengthAndBytes(of: notification.channel.string) }
        appendZigzag(notification.timeMilliseconds)
        if notification.expiresMilliseconds != .max { appendZigzag(notification.expiresMilliseconds) }
        if let event = notification.event { appendLengthAndBytes(of: event.string) }
        if let key = notification.key { appendLengthAndBytes(of: key.string) }
        appendVarint(UInt64(notification.stateBytes))
        for place in [notification.position.lowerBound, notification.position.upperBound, notification.data.lowerBound] {
            appendNumber(place)
        }
        appendNumber(notification.data.upperBound)
        appendSlice(notification.object)
    }

    mutating func append(_ channel: LogPreload.Channel) {
        appendLengthAndBytes(of: channel.name.string)
        appendVarint(channel.lastSequence)
        appendVarint(channel.lastOffset)
        appendVarint(channel.lastChangeOffset)
        appendZigzag(channel.lastTimeMilliseconds)
        var document: [UInt8] = []
        channel.document?.append(to: &document)
        appendSlice(document)
        appendNumber(channel.latest.count)
        for notification in channel.latest { append(notification) }
    }

    // MARK: Appending

    mutating func append(_ request: AppendRequest) {
        appendOptional(request.idempotencyKey?.string)
        appendLengthAndBytes(of: request.publisher)
        appendVarint(request.fingerprint)
        append(request.isOwn ? 1 : 0)
        appendZigzag(request.takenNanoseconds)
        appendNumber(request.publications.count)
        for publication in request.publications { append(publication) }
    }

    private mutating func append(_ publication: Publication) {
        appendLengthAndBytes(of: publication.channel.string)
        var flags: UInt64 = 0
        if publication.isBase64 { flags |= 1 }
        if publication.change == .merge { flags |= 2 }
        if publication.ttlSeconds != nil { flags |= 4 }
        if publication.staleSinceMilliseconds != nil { flags |= 8 }
        if publication.kind == .acknowledgement { flags |= 16 }
        if publication.trace != nil { flags |= 32 }
        appendVarint(flags)
        appendOptional(publication.event?.string)
        appendOptional(publication.key?.string)
        appendOptional(publication.replaces?.string)
        append(UInt8(Priority.allCases.firstIndex(of: publication.priority)!))
        if let ttl = publication.ttlSeconds { appendVarint(UInt64(ttl)) }
        if let since = publication.staleSinceMilliseconds { appendZigzag(since) }
        if let trace = publication.trace { appendSlice(trace.bytes) }
        appendSlice(publication.data)
    }

    mutating func append(_ outcome: AppendOutcome) {
        switch outcome {
        case .appended(let receipt): append(0, receipt)
        case .repeated(let receipt): append(1, receipt)
        case .refused(let refusal): append(refusal)
        }
    }

    private mutating func append(_ kind: UInt8, _ receipt: AppendReceipt) {
        append(kind)
        appendLengthAndBytes(of: receipt.channel.string)
        appendVarint(receipt.sequence)
        appendVarint(receipt.offset)
    }

    private mutating func append(_ refusal: AppendRefusal) {
        switch refusal {
        case .idempotencyKeyReused: append(2)
        case .refusedBefore: append(3)
        case .tooManyChannels: append(4)
        case .reservedChannel: append(5)
        case .change(.noState): append(6)
        case .change(.stateIsNotAnObject): append(7)
        case .change(.patchIsNotAnObject): append(8)
        case .tooManyKeys(let max):
            append(9)
            appendNumber(max)
        case .stateTooLarge(let bytes, let max):
            append(10)
            appendNumber(bytes)
            appendNumber(max)
        case .storeFailed: append(11)
        case .shuttingDown: append(12)
        }
    }

    // MARK: Faults

    mutating func append(_ fault: StoreFault) {
        switch fault {
        case .full(let path): append(1, path)
        case .readOnly(let path): append(2, path)
        case .corrupt(let what): append(3, what)
        case .newerVersion(let path, let found, let known):
            append(4, path)
            appendNumber(found)
            appendNumber(known)
        case .notALog(let path): append(5, path)
        case .busy(let path): append(6, path)
        case .io(let what): append(7, what)
        }
    }

    private mutating func append(_ kind: UInt8, _ text: String) {
        append(kind)
        appendLengthAndBytes(of: text)
    }
}

extension ByteReader {
    mutating func optionalText() throws(Damage) -> String? {
        try byte() == 0 ? nil : try text()
    }

    mutating func optionalField() throws(Damage) -> FieldText? {
        guard let string = try optionalText() else { return nil }
        guard let field = FieldText(string) else { throw Damage() }
        return field
    }

    private mutating func field() throws(Damage) -> FieldText {
        guard let field = FieldText(try text()) else { throw Damage() }
        return field
    }

    private mutating func channelName() throws(Damage) -> ChannelName {
        guard let name = ChannelName(try text()) else { throw Damage() }
        return name
    }

    // MARK: Notifications

    mutating func notifications(upTo most: Int, name: (ChannelID) -> ChannelName?) throws(Damage) -> [Notification] {
        var notifications: [Notification] = []
        let count = try count(upTo: most)
        notifications.reserveCapacity(Swift.min(count, 10_000))
        var names: [ChannelID: ChannelName] = [:]
        for _ in 0..<count {
            let notification = try self.notification { names[$0] ?? name($0) }
            if notification.sequence == 1 { names[notification.channelID] = notification.channel }
            notifications.append(notification)
        }
        return notifications
    }

    private mutating func notification(name: (ChannelID) -> ChannelName?) throws(Damage) -> Notification {
        let flags = try varint()
        guard flags < 32 else { throw Damage() }
        let (offset, sequence) = (try varint(), try varint())
        let channel = ChannelID(try count(upTo: Int(ChannelID.max)))
        let channelName: ChannelName
        if sequence == 1 {
            channelName = try self.channelName()
        } else {
            guard let known = name(channel) else { throw Damage() }
            channelName = known
        }
        let time = try zigzag()
        let expires = flags & 16 != 0 ? try zigzag() : .max
        let event = flags & 1 != 0 ? try field() : nil
        let key = flags & 2 != 0 ? try field() : nil
        let stateBytes = UInt32(try count(upTo: Int(UInt32.max)))
        let places = [try count(upTo: .max), try count(upTo: .max), try count(upTo: .max), try count(upTo: .max)]
        let object = [UInt8](try slice())
        guard places[0] <= places[1], places[2] <= places[3], places[3] <= object.count,
            let notification = Notification(
                offset: offset, sequence: sequence, channelID: channel, channel: channelName, timeMilliseconds: time,
                expiresMilliseconds: expires, event: event, key: key, stateBytes: stateBytes, isStale: flags & 4 != 0,
                isChange: flags & 8 != 0, object: object, position: places[0]..<places[1], data: places[2]..<places[3]
            )
        else { throw Damage() }
        return notification
    }

    mutating func channel() throws(Damage) -> LogPreload.Channel {
        let name = try channelName()
        var channel = LogPreload.Channel(name: name, lastSequence: try varint(), lastOffset: try varint())
        channel.lastChangeOffset = try varint()
        channel.lastTimeMilliseconds = try zigzag()
        let document = [UInt8](try slice())
        if !document.isEmpty { channel.document = JSONDocument(document[...]) }
        channel.latest = try notifications(upTo: Int(Int32.max)) { _ in name }
        return channel
    }

    // MARK: Appending

    mutating func appendRequest() throws(Damage) -> AppendRequest {
        let key = try optionalField()
        let publisher = try text()
        let fingerprint = try varint()
        let isOwn = try byte() == 1
        let taken = try zigzag()
        let count = try count(upTo: Int(Int32.max))
        var publications: [Publication] = []
        for _ in 0..<count { publications.append(try publication()) }
        var request = AppendRequest(publications, idempotencyKey: key, fingerprint: fingerprint)
        (request.publisher, request.isOwn, request.takenNanoseconds) = (publisher, isOwn, taken)
        return request
    }

    private mutating func publication() throws(Damage) -> Publication {
        let channel = try channelName()
        let flags = try varint()
        guard flags < 64 else { throw Damage() }
        let (event, key, replaces) = (try optionalField(), try optionalField(), try optionalField())
        let priority = Int(try byte())
        guard Priority.allCases.indices.contains(priority) else { throw Damage() }
        let ttl = flags & 4 != 0 ? UInt32(try count(upTo: Int(UInt32.max))) : nil
        let stale = flags & 8 != 0 ? try zigzag() : nil
        let trace = flags & 32 != 0 ? TraceParent(bytes: try slice()) : nil
        guard trace != nil || flags & 32 == 0 else { throw Damage() }
        var publication = Publication(
            channel: channel, data: [UInt8](try slice()), isBase64: flags & 1 != 0, event: event, key: key,
            priority: Priority.allCases[priority], ttlSeconds: ttl, replaces: replaces, change: flags & 2 != 0 ? .merge : nil
        )
        publication.staleSinceMilliseconds = stale
        publication.trace = trace
        if flags & 16 != 0 { publication.kind = .acknowledgement }
        return publication
    }

    mutating func outcome() throws(Damage) -> AppendOutcome {
        switch try byte() {
        case 0: return .appended(try receipt())
        case 1: return .repeated(try receipt())
        case 2: return .refused(.idempotencyKeyReused)
        case 3: return .refused(.refusedBefore)
        case 4: return .refused(.tooManyChannels)
        case 5: return .refused(.reservedChannel)
        case 6: return .refused(.change(.noState))
        case 7: return .refused(.change(.stateIsNotAnObject))
        case 8: return .refused(.change(.patchIsNotAnObject))
        case 9: return .refused(.tooManyKeys(max: try count(upTo: .max)))
        case 10: return .refused(.stateTooLarge(bytes: try count(upTo: .max), max: try count(upTo: .max)))
        case 11: return .refused(.storeFailed)
        case 12: return .refused(.shuttingDown)
        default: throw Damage()
        }
    }

    private mutating func receipt() throws(Damage) -> AppendReceipt {
        AppendReceipt(channel: try channelName(), sequence: try varint(), offset: try varint())
    }

    // MARK: Faults

    /// nil: there is none.
    mutating func storeFault() throws(Damage) -> StoreFault? {
        switch try byte() {
        case 0: return nil
        case 1: return .full(path: try text())
        case 2: return .readOnly(path: try text())
        case 3: return .corrupt(try text())
        case 4: return .newerVersion(path: try text(), found: try count(upTo: .max), known: try count(upTo: .max))
        case 5: return .notALog(path: try text())
        case 6: return .busy(path: try text())
        case 7: return .io(try text())
        default: throw Damage()
        }
    }
}
