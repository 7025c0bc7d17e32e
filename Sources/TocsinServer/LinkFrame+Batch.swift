import NIOCore
import NotificationCore

extension LinkFrame {
    /// One frame of a batch has about so much.
    private static let batchBytes = 1 << 20

    /// The frames of a batch, encoded: once, for all who are sent it.
    static func buffers(of batch: LogBatch) -> [ByteBuffer] {
        var buffers: [ByteBuffer] = []
        var start = 0
        while start < batch.notifications.count {
            var end = start
            var bytes = 0
            repeat {
                bytes += batch.notifications[end].bytes
                end += 1
            } while end < batch.notifications.count && bytes < batchBytes
            var frame: [UInt8] = []
            frame.reserveCapacity(bytes + 64)
            LinkFrame.batch(Array(batch.notifications[start..<end]), takenNanoseconds: batch.takenNanoseconds).append(to: &frame)
            buffers.append(ByteBuffer(bytes: frame))
            start = end
        }
        return buffers
    }
}
