import CBORCodec
import JSONCodec
import Transports

/// The decoder of commands, and the encoder, each against the other.
///
/// The input is CBOR, and JSON where it is that.
package func fuzzCBOR(_ bytes: UnsafeRawBufferPointer) {
    if let text = json(of: Array(bytes)) {
        guard (try? JSONSlice.checked(text[...])) != nil else { preconditionFailure("CBOR becomes what is no JSON") }
        requireSame(json(of: cbor(of: text)), text, "a command reads otherwise when it is written again")
    }
    let input = Array(bytes)
    guard (try? JSONSlice.checked(input[...])) != nil else { return }
    let encoded = cbor(of: input)
    // A number beyond the doubles becomes an infinity, which commands may not hold, and a name may be too long for them.
    guard let text = json(of: encoded) else { return }
    requireSame(cbor(of: text), encoded, "an object is written otherwise when it is read again")
}

private func json(of bytes: [UInt8]) -> [UInt8]? {
    bytes.withUnsafeBytes { try? CBORDecoder.json($0, limits: CBORLimits(outputBytesMax: 1 << 20)) }
}

private func cbor(of text: [UInt8]) -> [UInt8] {
    var out: [UInt8] = [0x78]
    text.withUnsafeBytes { CBOREncoder.transcode(json: $0, into: &out) }
    require(out.first == 0x78, "what was there before is gone")
    return Array(out.dropFirst())
}
