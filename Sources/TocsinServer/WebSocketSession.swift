import NIOCore
import NotificationCore
import Transports
import WebSocketCodec

/// What a WebSocket connection holds.
final class WebSocketSession {
    var adapter: WebSocketAdapter
    let heartbeatSeconds: UInt16
    /// When the client last sent anything, and when it was last asked to.
    var receivedTick: UInt32
    var pingTick: UInt32

    init(adapter: WebSocketAdapter, heartbeatSeconds: Int, tick: UInt32) {
        self.adapter = adapter
        self.heartbeatSeconds = UInt16(heartbeatSeconds)
        receivedTick = tick
        pingTick = tick
    }
}

extension Connection {
    func receiveWebSocket(_ session: WebSocketSession, _ bytes: UnsafeMutableRawBufferPointer) {
        session.receivedTick = loop.tick
        var out: [UInt8] = []
        let actions = session.adapter.receive(
            bytes, hub: loop.hub, knownHead: loop.server.log.head, limits: loop.server.configuration.subscribe, out: &out
        )
        write(out)
        for action in actions {
            switch action {
            case .opened(let id, let rate): open(session, id, rate)
            case .closed(let id):
                loop.detach(id)
            case .pace(let id, let rate): pace(id, rate)
            case .acknowledge(let id, let user, let acknowledgement): acknowledge(id, user, acknowledgement)
            case .publish(let id, let publication): publish(id, publication)
            case .close: closeWhenDrained()
            }
        }
    }

    /// A further subscription of this connection.
    private func open(_ session: WebSocketSession, _ id: SubscriberID, _ rate: Rate?) {
        // The connection may have ended with an earlier command, and all its subscriptions with it.
        guard case .webSocket = state, loop.hub.isCurrent(id) else { return }
        // What a batch holds for the subscriptions of one connection goes out together.
        loop.attach(id, Outlet(connection: .passUnretained(self), descriptor: descriptor, kind: .gathered, shape: .webSocket))
        for other in session.adapter.subscribers where loop.outlets[other].kind != .none { loop.outlets[other].kind = .gathered }
        if let user = session.adapter.options.user {
            loop.outlets[id].isUsers = true
            loop.unreadSessions[id] = UnreadSession(user: user, patterns: loop.hub.patterns(of: id))
            loop.unreadDirty.insert(id)
        }
        if let rate = loop.rate(rate, loop.hub.patterns(of: id)) {
            loop.hub.setPaced(true, id)
            loop.pace(id, rate)
        }
        if hasRoom(stream: 0) { loop.readOn(id) } else { loop.stop(id) }
    }

    private func pace(_ id: SubscriberID, _ wanted: Rate?) {
        guard loop.hub.isCurrent(id) else { return }
        let rate = loop.rate(wanted, loop.hub.patterns(of: id))
        loop.hub.setPaced(rate != nil, id)
        if let rate { loop.pace(id, rate) } else { loop.unpace(id) }
        if rate == nil { loop.readOn(id) }
    }

    private func acknowledge(_ id: CommandID?, _ user: FieldText, _ acknowledgement: Acknowledgement) {
        let bound = loop.bind(self)
        loop.acknowledge(user, acknowledgement) { result in
            let connection = bound.value
            guard case .webSocket = connection.state else { return }
            var out: [UInt8] = []
            let object =
                switch result {
                case .success(let unread): WebSocketReply.done(id, unread: unread)
                case .failure(let problem): WebSocketReply.refused(id, code: "ack_refused", message: problem.detail)
                }
            WebSocketEncoder.frame(.text, object, into: &out)
            connection.write(out)
        }
    }

    private func publish(_ id: CommandID?, _ publication: Publication) {
        let epoch = loop.epoch
        let bound = loop.bind(self)
        loop.server.log.append(AppendRequest([publication]), from: loop) { outcomes in
            let connection = bound.value
            guard case .webSocket = connection.state else { return }
            if case .appended = outcomes[0] { connection.loop.counters.published += 1 }
            var out: [UInt8] = []
            WebSocketEncoder.frame(.text, WebSocketAdapter.reply(id, outcomes[0], epoch: epoch), into: &out)
            connection.write(out)
        }
    }

    /// Pings where nothing was heard or said for a heartbeat.
    ///
    /// - Returns: when to look again.
    func heartbeat(_ session: WebSocketSession) -> UInt32 {
        let interval = loop.ticks(seconds: Int(session.heartbeatSeconds))
        let patience = 2 * interval + loop.ticks(seconds: 10)
        guard loop.tick - session.receivedTick < patience else {
            var out: [UInt8] = []
            session.adapter.close(.policyViolation, "no answer to pings", &out)
            write(out)
            closeWhenDrained()
            return .max
        }
        let saidTick = session.adapter.subscribers.reduce(0) { max($0, loop.outlets[$1].lastTick) }
        let quietSince = max(session.pingTick, min(session.receivedTick, saidTick))
        if loop.tick - quietSince >= interval {
            session.pingTick = loop.tick
            if hasRoom(stream: 0) {
                var out: [UInt8] = []
                WebSocketEncoder.frame(.ping, [], into: &out)
                write(out)
            }
            return loop.tick + interval
        }
        return quietSince + interval
    }
}
