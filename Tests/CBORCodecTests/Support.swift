import CBORCodec

/// A case of bytes, written as hexadecimal digits; spaces between them count for nothing.
func bytes(hex: String) -> [UInt8] {
    let digits = hex.utf8.filter { $0 != UInt8(ascii: " ") }
    precondition(digits.count % 2 == 0, "half a byte: \(hex)")
    return stride(from: 0, to: digits.count, by: 2).map { UInt8(String(decoding: digits[$0..<$0 + 2], as: UTF8.self), radix: 16)! }
}

func hex(_ bytes: [UInt8]) -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}

func transcoded(_ json: [UInt8], bytesOfData: Bool = true) -> [UInt8] {
    var out: [UInt8] = []
    json.withUnsafeBytes { CBOREncoder.transcode(json: $0, bytesOfData: bytesOfData, into: &out) }
    return out
}

/// The CBOR of a JSON text, in hexadecimal.
func transcoded(_ json: String) -> String { hex(transcoded(Array(json.utf8))) }

func decoded(_ cbor: [UInt8], limits: CBORLimits = CBORLimits()) throws(CBORFault) -> [UInt8] {
    var result: Result<[UInt8], CBORFault>?
    cbor.withUnsafeBytes { bytes in
        do throws(CBORFault) {
            result = .success(try CBORDecoder.json(bytes, limits: limits))
        } catch {
            result = .failure(error)
        }
    }
    return try result!.get()
}

/// The JSON text of some CBOR.
func decoded(_ hex: String, limits: CBORLimits = CBORLimits()) throws(CBORFault) -> String {
    String(decoding: try decoded(bytes(hex: hex), limits: limits), as: UTF8.self)
}

func fault(_ hex: String, limits: CBORLimits = CBORLimits()) -> CBORFault? {
    do throws(CBORFault) {
        _ = try decoded(bytes(hex: hex), limits: limits)
        return nil
    } catch {
        return error
    }
}

/// A line of a table.
struct Case: Sendable, CustomStringConvertible {
    var json: String
    var cbor: String

    init(_ json: String, _ cbor: String) {
        self.json = json
        self.cbor = cbor
    }

    var description: String { "\(json.prefix(40)) \(cbor.prefix(40))" }
}

/// A head and so many bytes of an argument, as wide as is asked for.
func head(_ major: UInt8, _ argument: UInt64, width: Int) -> [UInt8] {
    if width == 0 { return [major << 5 | UInt8(argument)] }
    let bytes = (0..<width).map { UInt8(truncatingIfNeeded: argument >> UInt64(8 * (width - 1 - $0))) }
    return [major << 5 | [1: 24, 2: 25, 4: 26, 8: 27][width]!] + bytes
}

/// Text of known length.
func text(_ string: String) -> [UInt8] {
    let count = UInt64(string.utf8.count)
    return head(3, count, width: count < 24 ? 0 : count < 256 ? 1 : count < 65536 ? 2 : 4) + Array(string.utf8)
}
