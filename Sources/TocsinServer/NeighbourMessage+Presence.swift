import NIOCore
import NotificationCore
import NotificationStore
import Transports

/// What workers say to each other of clients that poll and are at home at another.
enum PresenceNeighbourMessage {
    /// A poll of a session that is at home there.
    case poll(SessionID, PollPresence, seconds: Int)
    /// A poll that is parked there is to be answered with these control messages. The reply is one byte: 1: it was.
    case answer(SessionID, ParkedPollPlace, [[UInt8]])

    func append(to out: inout [UInt8]) {
        switch self {
        case .poll(let id, let wish, let seconds):
            out.append(0)
            out.appendLengthAndBytes(of: id.description)
            out.appendNumber(wish.channels.count)
            for channel in wish.channels { out.appendLengthAndBytes(of: channel.string) }
            out.appendOptional(wish.user)
            out.append(wish.principal)
            out.append(wish.isWatching ? 1 : 0)
            out.append(wish.place)
            out.appendNumber(seconds)
        case .answer(let id, let place, let objects):
            out.append(1)
            out.appendLengthAndBytes(of: id.description)
            out.append(place)
            out.appendNumber(objects.count)
            for object in objects { out.appendSlice(object) }
        }
    }

    init(_ reader: inout ByteReader) throws(LinkDamage) {
        switch try reader.byte() {
        case 0:
            let id = try reader.session()
            var channels: [ChannelName] = []
            for _ in 0..<(try reader.count(upTo: 100_000)) { channels.append(try reader.presenceChannel()) }
            let (user, principal) = (try reader.optionalText(), try reader.optionalPrincipal())
            let isWatching = try reader.byte() == 1
            let wish = PollPresence(channels: channels, user: user, principal: principal, isWatching: isWatching, place: try reader.place())
            self = .poll(id, wish, seconds: try reader.count(upTo: 100_000))
        case 1:
            let (id, place) = (try reader.session(), try reader.place())
            var objects: [[UInt8]] = []
            for _ in 0..<(try reader.count(upTo: 100_000)) { objects.append([UInt8](try reader.slice())) }
            self = .answer(id, place, objects)
        default: throw LinkDamage()
        }
    }
}

extension ServerState {
    /// Answers another worker, on the link's loop.
    func take(_ message: PresenceNeighbourMessage, on linkLoop: any EventLoop, reply: NIOLoopBound<([UInt8]) -> Void>) {
        switch message {
        case .poll(let id, let wish, let seconds):
            guard let home = loop(id.loop) else { return }
            home.eventLoop.execute { home.value.keepPresent(id, wish, seconds) }
        case .answer(let id, let place, let objects):
            guard let reference = loop(place.loop) else { return reply.value([0]) }
            reference.eventLoop.execute {
                let isTold = reference.value.answerPresence(id, place, objects)
                linkLoop.execute { reply.value([isTold ? 1 : 0]) }
            }
        }
    }
}
