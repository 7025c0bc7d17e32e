import NotificationCore
import NotificationStore
import Presence

extension WebhookService: ChannelOccupancyObserver {
    func channelOccupied(_ channel: ChannelName, atMilliseconds time: Int64) { take(.occupied, of: channel, atMilliseconds: time) }

    func channelVacated(_ channel: ChannelName, atMilliseconds time: Int64) { take(.vacated, of: channel, atMilliseconds: time) }
}
