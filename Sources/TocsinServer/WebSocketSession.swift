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
            case .readOn:
                loop.readOn(session.adapter.subscriber)
            case .publish(let id, let publication):
                publish(id, publication)
            case .close:
                closeWhenDrained()
            }
        }
    }

    private func publish(_ id: CommandID?, _ publication: Publication) {
        let epoch = loop.epoch
        let bound = loop.bind(self)
        loop.server.log.append(AppendRequest([publication]), from: loop) { outcomes in
            let connection = bound.value
            guard case .webSocket = connection.state else { return }
            connection.loop.counters.published += 1
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
        let saidTick = loop.outlets[session.adapter.subscriber].lastTick
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
