import Limits
import NotificationStore
import Webhooks

extension [UInt8] {
    mutating func append(_ report: RefusalBook.Report) {
        appendLengthAndBytes(of: report.limit)
        append(report.address == nil ? 0 : 1)
        if let address = report.address {
            appendVarint(address.high)
            appendVarint(address.low)
        }
        appendNumber(report.count)
        appendZigzag(report.firstMilliseconds)
        appendZigzag(report.lastMilliseconds)
    }
}

extension ByteReader {
    mutating func refusal() throws(ByteReader.Damage) -> RefusalBook.Report {
        let limit = try text()
        let address = try byte() == 0 ? nil : NetworkAddress(high: try varint(), low: try varint())
        return RefusalBook.Report(
            limit: limit, address: address, count: try count(upTo: Int(Int32.max)), firstMilliseconds: try zigzag(),
            lastMilliseconds: try zigzag()
        )
    }
}
