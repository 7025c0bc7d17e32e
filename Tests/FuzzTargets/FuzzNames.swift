import NotificationCore

/// Positions, channels and patterns.
///
/// The input is words with a blank between them. Each is taken for all of these; each pair of the first ones, for two patterns.
package func fuzzNames(_ bytes: UnsafeRawBufferPointer) {
    let words = Array(bytes).parts(0x20).prefix(8).map { String(decoding: $0, as: UTF8.self) }
    for word in words {
        checkPosition(word)
        checkFieldText(word)
        checkName(word)
    }
    checkMadePositions(Array(bytes))
    let patterns = words.compactMap { ChannelPattern($0) }
    for one in patterns {
        for other in patterns { checkPair(one, other) }
    }
}

// MARK: - Positions

/// A position has one writing, so a token that is taken is written as it came.
private func checkPosition(_ token: String) {
    if let position = Position(token) {
        requireSame(position.description.bytes, token.bytes, "a position differs when written again")
        require((1...16).contains(position.places.count) && token.utf8.count <= Position.bytesMax, "a position too long")
        for case .within(let window) in position.places {
            require((window.base ?? 0) <= window.offset && window.offset <= window.through && window.channel >= 0, "a window out of order")
        }
        requireSame(StartPoint(token), .after(position), "a position that is no start")
        if case .at(let offset) = position.places[0], position.places.count == 1 {
            var written: [UInt8] = []
            Position.append(epoch: position.epoch, offset: offset, to: &written)
            requireSame(written, token.bytes, "a position differs when written in parts")
        }
    } else {
        require(["latest", "earliest"].contains(token) == (StartPoint(token) != nil), "a start that is no position")
    }
}

/// Positions as the server makes them are taken when they come back.
private func checkMadePositions(_ input: [UInt8]) {
    var draw = Draw(input)
    func number() -> UInt64 { draw.next() >> UInt64(draw.below(64)) }
    var position = Position(epoch: LogEpoch(random: draw.next()), .beginning)
    position.places = (0...draw.below(16)).map { _ in
        switch draw.below(4) {
        case 0: return .beginning
        case 1: return .at(number())
        default:
            let numbers = [number(), number(), number()].sorted()
            let channel = ChannelID(truncatingIfNeeded: number() & 0x7fff_ffff)
            return .within(.init(base: draw.below(2) == 0 ? nil : numbers[0], through: numbers[2], channel: channel, offset: numbers[1]))
        }
    }
    requireSame(Position(position.description), position, "a position does not come back")
    require(position.description.utf8.count <= Position.bytesMax, "a position above its limit")
}

// MARK: - Names

private func checkFieldText(_ word: String) {
    guard let text = FieldText(word) else { return }
    require(text.string.bytes == word.bytes && (1...FieldText.bytesMax).contains(word.utf8.count), "another text")
    require(!word.utf8.contains { $0 < 0x20 || $0 == 0x7f }, "a control character in a text")
    guard let channel = ChannelName(acknowledgementsOf: text) else {
        return require(word.utf8.count > ChannelName.userBytesMax, "a user without a channel")
    }
    require(channel.isReserved && ChannelName(channel.string) == channel, "a user's channel is none")
    let digits = channel.string.dropFirst("_acks.".count)
    requireSame(digits.count, 2 * word.utf8.count, "two users may have one channel")
}

/// The grammar of channels, read plainly.
private func isPlainPattern(_ word: String, wildcards: Bool) -> Bool {
    let tokens = word.bytes.parts(UInt8(ascii: "."))
    guard word.utf8.count <= 255, tokens.count <= 16 else { return false }
    for (index, token) in tokens.enumerated() {
        if wildcards, token == "*".bytes || token == ">".bytes && index == tokens.count - 1 { continue }
        let isToken = token.allSatisfy { byte in
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-".utf8.contains(byte)
        }
        guard isToken, !token.isEmpty else { return false }
    }
    return true
}

private func checkName(_ word: String) {
    let pattern = ChannelPattern(word)
    let name = ChannelName(word)
    require((pattern != nil) == isPlainPattern(word, wildcards: true), "a pattern is taken or refused wrongly")
    require((name != nil) == isPlainPattern(word, wildcards: false), "a channel is taken or refused wrongly")
    guard let pattern else { return }
    require(pattern.name == name && pattern.isWildcard == (name == nil), "a pattern names another channel")
    guard let name else { return }
    require(ChannelPattern(name) == pattern && pattern.matches(name), "a channel does not match itself")
    requireSame(name.isReserved, name.feed.hasPrefix("_"), "another feed")
}

/// Whether some channel is matched by both, found token by token.
private func plainOverlap(_ one: ArraySlice<[UInt8]>, _ other: ArraySlice<[UInt8]>) -> Bool {
    guard let mine = one.first, let theirs = other.first else { return one.isEmpty && other.isEmpty }
    if mine == ">".bytes || theirs == ">".bytes { return true }
    let isSame = mine == theirs || mine == "*".bytes || theirs == "*".bytes
    return isSame && plainOverlap(one.dropFirst(), other.dropFirst())
}

private func checkPair(_ one: ChannelPattern, _ other: ChannelPattern) {
    let mine = one.string.bytes.parts(UInt8(ascii: "."))
    let theirs = other.string.bytes.parts(UInt8(ascii: "."))
    let overlaps = one.overlaps(other)
    requireSame(overlaps, plainOverlap(mine[...], theirs[...]), "patterns overlap or not, wrongly")
    requireSame(overlaps, other.overlaps(one), "patterns overlap one way only")
    require(one.overlaps(one), "a pattern does not overlap itself")
    if let name = other.name { require(one.matches(name) == overlaps, "a pattern matches a channel or not, wrongly") }
    guard overlaps else { return }
    // A channel that both match; it can be too long to be one.
    let common = (0..<max(mine.count, theirs.count)).map { index in
        let token = index < mine.count && !["*".bytes, ">".bytes].contains(mine[index]) ? mine[index] : nil
        let otherToken = index < theirs.count && !["*".bytes, ">".bytes].contains(theirs[index]) ? theirs[index] : nil
        return token ?? otherToken ?? "x".bytes
    }
    let text = String(decoding: Array(common.joined(separator: ".".bytes)), as: UTF8.self)
    guard let channel = ChannelName(text) else {
        return require(text.utf8.count > ChannelName.bytesMax, "patterns that overlap have no channel in common")
    }
    require(one.matches(channel) && other.matches(channel), "patterns that overlap do not match the same channel")
}
