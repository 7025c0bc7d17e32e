import JSONCodec

/// The scanner, the views of what it let through, merge patches and lines.
///
/// The input is one or more texts with a zero between them, which no JSON holds: the first is also a document, those after it that are
/// objects are merge patches of it, one after the other.
package func fuzzJSON(_ bytes: UnsafeRawBufferPointer) {
    let input = Array(bytes)
    let texts = input.parts(0).map(checkText)
    checkLines(input)
    if let document = texts.first ?? nil {
        checkMerging(document, texts.dropFirst().compactMap { $0 })
    }
}

private func minified(_ text: [UInt8], depthMax: Int = 64) -> Result<[UInt8], JSONFault> {
    var out: [UInt8] = [0x78]
    let input = UnsafeMutableRawBufferPointer.allocate(byteCount: text.count, alignment: 1)
    defer { input.deallocate() }
    input.copyBytes(from: text)
    do throws(JSONFault) {
        try JSONText.minify(UnsafeRawBufferPointer(input), limits: JSONLimits(depthMax: depthMax), into: &out)
    } catch {
        requireSame(out, [0x78], "something was written for a text that is refused")
        return .failure(error)
    }
    requireSame(out.first, 0x78, "what was there before is gone")
    return .success(Array(out.dropFirst()))
}

/// - Returns: the text without white space, if it is one.
private func checkText(_ text: [UInt8]) -> [UInt8]? {
    let plain = PlainJSON.read(text, depthMax: 64)
    switch minified(text) {
    case .failure(let fault):
        require(plain == nil, "a text is refused that a plain reading takes")
        let offset =
            switch fault {
            case .syntax(let offset, _), .tooDeep(let offset), .invalidUTF8(let offset): offset
            }
        require((0...text.count).contains(offset), "a fault outside the text")
        // A character or a literal that is cut off is known only at the end; anything else is where it is whatever follows.
        if offset + 5 <= text.count, case .failure(let again) = minified(text + [0x78]) {
            requireSame(fault, again, "a fault depends on what follows")
        }
        return nil
    case .success(let out):
        guard let plain else { preconditionFailure("a text is taken that a plain reading refuses") }
        var written: [UInt8] = []
        plain.append(to: &written)
        requireSame(written, out, "a text differs from a plain reading of it")
        require(!out.contains { $0 < 0x20 }, "a control character in a minified text")
        require((try? minified(out).get()) == out, "a minified text is not taken as it is")
        let depth = plain.depth
        require((try? minified(text, depthMax: depth).get()) == out, "a text of the greatest depth is refused")
        if depth > 0 {
            guard case .failure(.tooDeep) = minified(text, depthMax: depth - 1) else { preconditionFailure("a text is too deep") }
        }
        checkSlice(JSONSlice(out[...]), plain)
        return out
    }
}

// MARK: - Views

/// Walks over a value and its plain reading together.
private func checkSlice(_ slice: JSONSlice, _ plain: PlainJSON) {
    switch plain {
    case .scalar(let raw): checkScalar(slice, raw)
    case .array(let elements):
        requireSame(slice.kind, .array, "an array of another kind")
        let found = slice.elementList
        requireSame(found.count, elements.count, "another count of elements")
        for (element, plain) in zip(found, elements) { checkSlice(element, plain) }
    case .object(let members):
        requireSame(slice.kind, .object, "an object of another kind")
        let found = slice.memberList
        requireSame(found.count, members.count, "another count of members")
        for (member, plain) in zip(found, members) {
            requireSame(member.name.bytes, PlainJSON.decoded(plain.name), "another name")
            checkSlice(member.value, plain.value)
        }
        for member in found.suffix(8) {
            let last = found.last { $0.name.bytes == member.name.bytes }
            require(slice[member.name]?.bytes == last?.value.bytes, "not the last member of a name")
        }
    }
    require((slice.kind == .string) == (slice.string() != nil), "a string of another kind")
    require((slice.kind == .bool) == (slice.bool() != nil), "a bool of another kind")
}

private func checkScalar(_ slice: JSONSlice, _ raw: [UInt8]) {
    requireSame(Array(slice.bytes), raw, "another scalar")
    require(slice.elementList.isEmpty && slice.memberList.isEmpty, "something inside a scalar")
    let text = String(decoding: raw, as: UTF8.self)
    switch raw[0] {
    case UInt8(ascii: "\""):
        guard let string = slice.string() else { preconditionFailure("a string that is none") }
        requireSame(string.bytes, PlainJSON.decoded(raw), "another string")
        var written: [UInt8] = []
        JSONText.appendString(string, into: &written)
        guard case .success(written) = minified(written) else { preconditionFailure("a written string is refused") }
        require(JSONSlice(written[...]).string()?.bytes == string.bytes, "a string differs when written again")
    case UInt8(ascii: "t"), UInt8(ascii: "f"): require(slice.bool() == (text == "true"), "another bool")
    case UInt8(ascii: "n"): require(slice.kind == .null, "null of another kind")
    default:
        requireSame(slice.kind, .number, "a number of another kind")
        let isWhole = raw.allSatisfy { $0 == UInt8(ascii: "-") || (0x30...0x39).contains($0) }
        require(slice.integer() == (isWhole ? Int64(text) : nil), "another integer")
        require(slice.unsignedInteger() == (isWhole ? UInt64(text) : nil), "another unsigned integer")
        let double = Double(text).flatMap { $0.isFinite ? $0 : nil }
        requireSame(slice.double(), double, "another double")
        if let integer = slice.integer() {
            var written: [UInt8] = []
            JSONText.appendInteger(integer, into: &written)
            require(written == raw || raw == "-0".bytes, "an integer differs when written again")
        }
    }
}

private func checkLines(_ bytes: [UInt8]) {
    let lines = bytes.withUnsafeBytes { NDJSON.lines($0) }.map { Array(bytes[$0]) }
    let plain = bytes.parts(0x0a).compactMap { line -> [UInt8]? in
        if line.allSatisfy({ $0 == 0x20 || $0 == 0x09 || $0 == 0x0d }) { return nil }
        return line.last == 0x0d ? line.dropLast() : line
    }
    requireSame(lines, plain, "other lines")
    let first = bytes.withUnsafeBytes { NDJSON.lines($0, linesMax: 2) }.map { Array(bytes[$0]) }
    requireSame(first, Array(plain.prefix(2)), "other first lines")
}

// MARK: - Merge patches

private func checkMerging(_ text: [UInt8], _ patches: [[UInt8]]) {
    var document = JSONDocument(text[...])
    guard var plain = PlainJSON.read(text, depthMax: 64) else { preconditionFailure("a minified text is refused") }
    checkDocument(document, plain)
    for patch in patches.prefix(8) where patch.first == UInt8(ascii: "{") {
        guard let plainPatch = PlainJSON.read(patch, depthMax: 64) else { preconditionFailure("a minified patch is refused") }
        let before = textOf(document)
        var copy = document
        copy.merge(patch[...])
        requireSame(textOf(document), before, "merging into a copy changes the document")
        document = copy
        plain = plain.merged(plainPatch)
        checkDocument(document, plain)
        // RFC 7396: a patch says what the members are to be, so the second time it changes nothing.
        copy.merge(patch[...])
        requireSame(textOf(copy), textOf(document), "a patch is not idempotent")
    }
}

private func textOf(_ document: JSONDocument) -> [UInt8] {
    var out: [UInt8] = []
    document.append(to: &out)
    return out
}

private func checkDocument(_ document: JSONDocument, _ plain: PlainJSON) {
    let text = textOf(document)
    requireSame(text.count, document.byteCount, "a document of another size")
    require((try? minified(text, depthMax: 200).get()) == text, "a document that is not JSON")
    require(document.isObject == (text.first == UInt8(ascii: "{")), "a document of another kind")
    var expected: [UInt8] = []
    plain.append(to: &expected)
    requireSame(text, expected, "a document differs from its plain reading")
}
