/// Finds the bytes of a body, and its end (RFC 9112 sections 6.3 and 7.1).
///
///     length        data ..................................................  -> done
///     untilClose    data ..................................................  (the connection's end)
///     chunked       size [extension] CR LF  data  CR LF  size ...
///                   0    [extension] CR LF  { trailer line CR LF } CR LF     -> done
///
/// Data is never copied; a data event is a range of the input. Everything else is read byte by byte and nothing of it is kept, so a reader
/// is a few counters. After the last chunk of size 0 the trailers are checked as field lines and dropped: nothing here has a use for them,
/// and a trailer that passed for a field of the head is an attack.
struct BodyReader: Sendable {
    enum Event {
        /// Never empty.
        case data(Range<Int>)
        case end
    }

    private enum Phase: UInt8 {
        case data
        case dataUntilClose
        case end
        case sizeFirst
        case size
        case extensionStart
        case extensionName
        case extensionValue
        case extensionToken
        case extensionQuoted
        case extensionEscape
        case extensionEnd
        case sizeLineFeed
        case chunkData
        case chunkReturn
        case chunkLineFeed
        case trailerStart
        case trailerName
        case trailerValue
        case trailerLineFeed
        case lastLineFeed
    }

    /// Bytes of the body, or of the chunk, that have not come; while a size is read, the size so far.
    private var bytesLeft: UInt64 = 0
    /// Bytes of all chunks so far.
    private var bytesRead: Int = 0
    /// Bytes of extensions, then of trailers.
    private var otherBytes: UInt32 = 0
    private var trailers: UInt16 = 0
    private var sizeDigits: UInt8 = 0
    private var phase: Phase

    init(_ framing: HTTP1ResponseFraming) {
        switch framing {
        case .none: phase = .end
        case .length(let length):
            precondition(length >= 0, "a length below zero")
            bytesLeft = UInt64(length)
            phase = length == 0 ? .end : .data
        case .chunked: phase = .sizeFirst
        case .untilClose: phase = .dataUntilClose
        }
    }

    /// Whether the end of the connection is the end of the body.
    var endsWithConnection: Bool { phase == .dataUntilClose }

    /// Reads at most one event from the front of `input`; nil when all of it was read and more is needed.
    ///
    /// After `end` it must not be called again.
    mutating func next(_ input: UnsafeRawBufferPointer, consumed: inout Int, limits: HTTP1Limits) throws(HTTP1Fault) -> Event? {
        var offset = 0
        while phase != .end {
            guard offset < input.count else {
                consumed += offset
                return nil
            }
            switch phase {
            case .data, .chunkData, .dataUntilClose:
                let range = offset..<offset + (try takeData(available: input.count - offset, limits))
                consumed += range.upperBound
                return .data(range)
            default:
                try readByte(input[offset], limits)
                offset &+= 1
            }
        }
        consumed += offset
        return .end
    }

    private mutating func takeData(available: Int, _ limits: HTTP1Limits) throws(HTTP1Fault) -> Int {
        if phase == .dataUntilClose {
            // All up to the limit first, so that the fault comes at the same byte however the network cut them.
            let count = min(available, limits.bodyBytesMax - bytesRead)
            guard count > 0 else { throw .bodyTooLong }
            bytesRead += count
            return count
        }
        let count = min(UInt64(available), bytesLeft)
        bytesLeft -= count
        if bytesLeft == 0 { phase = phase == .data ? .end : .chunkReturn }
        return Int(count)
    }

    private mutating func countBody(_ count: UInt64, _ limits: HTTP1Limits) throws(HTTP1Fault) {
        guard count <= UInt64(limits.bodyBytesMax - bytesRead) else { throw .bodyTooLong }
        bytesRead += Int(count)
    }

    private mutating func readByte(_ byte: UInt8, _ limits: HTTP1Limits) throws(HTTP1Fault) {
        switch phase {
        case .sizeFirst, .size, .sizeLineFeed:
            try readSizeByte(byte, limits)
        case .extensionStart, .extensionName, .extensionValue, .extensionToken, .extensionQuoted, .extensionEscape, .extensionEnd:
            try readExtensionByte(byte, limits)
        case .chunkReturn:
            guard byte == ByteClass.carriageReturn else { throw .chunkEndMissing }
            phase = .chunkLineFeed
        case .chunkLineFeed:
            guard byte == ByteClass.lineFeed else { throw .chunkEndMissing }
            phase = .sizeFirst
        case .trailerStart, .trailerName, .trailerValue, .trailerLineFeed, .lastLineFeed:
            try readTrailerByte(byte, limits)
        case .data, .dataUntilClose, .chunkData, .end:
            preconditionFailure("data read as framing")
        }
    }
}

// MARK: - Chunk sizes

extension BodyReader {
    /// No whitespace is taken between a size and its `;` nor inside an extension, though section 7.1.1 would have it parsed: parsers that
    /// disagree about it are how chunks are smuggled, and no client sends it.
    private mutating func readSizeByte(_ byte: UInt8, _ limits: HTTP1Limits) throws(HTTP1Fault) {
        switch phase {
        case .sizeFirst, .size:
            if let digit = ByteClass.hexDigit(byte) {
                if phase == .sizeFirst { (sizeDigits, bytesLeft, phase) = (0, 0, .size) }
                guard sizeDigits < 16 else { throw .chunkSizeInvalid }
                sizeDigits += 1
                bytesLeft = bytesLeft << 4 | UInt64(digit)
                return
            }
            guard phase == .size else { throw .chunkSizeInvalid }
            switch byte {
            case ByteClass.carriageReturn: phase = .sizeLineFeed
            case UInt8(ascii: ";"):
                phase = .extensionStart
                try countExtension(limits)
            default: throw .chunkSizeInvalid
            }
        default:
            guard byte == ByteClass.lineFeed else { throw .bareCarriageReturn }
            try acceptSize(limits)
        }
    }

    /// `token [ "=" ( token / quoted-string ) ]`, then CR or the next `;`. Nothing is kept, but the grammar is held to: a quote that stays
    /// open would let another parser read on behind the line's end.
    private mutating func readExtensionByte(_ byte: UInt8, _ limits: HTTP1Limits) throws(HTTP1Fault) {
        let next: Phase? =
            switch phase {
            case .extensionStart: ByteClass.isToken(byte) ? .extensionName : nil
            case .extensionName where byte == UInt8(ascii: "="): .extensionValue
            case .extensionValue where byte == UInt8(ascii: "\""): .extensionQuoted
            case .extensionValue: ByteClass.isToken(byte) ? .extensionToken : nil
            case .extensionName, .extensionToken: ByteClass.isToken(byte) ? phase : Self.afterExtension(byte)
            case .extensionQuoted where byte == UInt8(ascii: "\""): .extensionEnd
            case .extensionQuoted where byte == UInt8(ascii: "\\"): .extensionEscape
            case .extensionQuoted, .extensionEscape: ByteClass.isVisible(byte) || ByteClass.isWhitespace(byte) ? .extensionQuoted : nil
            default: Self.afterExtension(byte)
            }
        guard let next else { throw .chunkExtensionInvalid }
        if next != .sizeLineFeed { try countExtension(limits) }
        phase = next
    }

    private static func afterExtension(_ byte: UInt8) -> Phase? {
        switch byte {
        case ByteClass.carriageReturn: .sizeLineFeed
        case UInt8(ascii: ";"): .extensionStart
        default: nil
        }
    }

    private mutating func countExtension(_ limits: HTTP1Limits) throws(HTTP1Fault) {
        guard Int(otherBytes) < limits.chunkExtensionBytesMax else { throw .chunkExtensionTooLong }
        otherBytes += 1
    }

    private mutating func acceptSize(_ limits: HTTP1Limits) throws(HTTP1Fault) {
        if bytesLeft == 0 {
            otherBytes = 0
            phase = .trailerStart
        } else {
            try countBody(bytesLeft, limits)
            phase = .chunkData
        }
    }
}

// MARK: - Trailers

extension BodyReader {
    private mutating func readTrailerByte(_ byte: UInt8, _ limits: HTTP1Limits) throws(HTTP1Fault) {
        if phase == .lastLineFeed {
            guard byte == ByteClass.lineFeed else { throw .trailerInvalid }
            phase = .end
            return
        }
        if phase == .trailerStart, byte == ByteClass.carriageReturn {
            phase = .lastLineFeed
            return
        }
        guard Int(otherBytes) < limits.trailerBytesMax else { throw .trailerTooLong }
        otherBytes += 1
        switch phase {
        case .trailerStart:
            guard ByteClass.isToken(byte) else { throw .trailerInvalid }
            guard Int(trailers) < limits.fieldsMax else { throw .tooManyFields }
            trailers += 1
            phase = .trailerName
        case .trailerName:
            if byte == UInt8(ascii: ":") {
                phase = .trailerValue
            } else if !ByteClass.isToken(byte) {
                throw .trailerInvalid
            }
        case .trailerValue:
            if byte == ByteClass.carriageReturn {
                phase = .trailerLineFeed
            } else if !ByteClass.isFieldValue(byte) {
                throw .trailerInvalid
            }
        default:
            guard byte == ByteClass.lineFeed else { throw .trailerInvalid }
            phase = .trailerStart
        }
    }
}
