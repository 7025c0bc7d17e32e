import JSONCodec
package import NotificationCore

/// What a request with several items holds: the good ones, and what is wrong with the others.
package struct PublicationBatch: Sendable {
    /// In the order of the items.
    package private(set) var publications: [Publication] = []
    /// By the item's index, ascending.
    package private(set) var problems: [(index: Int, problem: Problem)] = []

    /// Of items.
    package var count: Int { publications.count + problems.count }

    /// - Parameter body: an array, or NDJSON.
    package init(_ body: [UInt8], isNDJSON: Bool) throws(Problem) {
        let values = isNDJSON ? try Self.lines(body) : try Self.elements(body)
        publications.reserveCapacity(values.count)
        for (index, value) in values.enumerated() {
            do throws(Problem) {
                publications.append(try PublicationReader.item(value))
            } catch {
                problems.append((index, error))
            }
        }
    }

    private static func elements(_ body: [UInt8]) throws(Problem) -> [JSONSlice] {
        let array = try JSONSlice.checked(body[...])
        guard array.kind == .array else { throw .badJSON("an array of items is wanted (or application/x-ndjson)") }
        let values = Array(array.elements.prefix(PublicationReader.itemsMax + 1))
        guard values.count <= PublicationReader.itemsMax else { throw tooMany }
        return values
    }

    private static func lines(_ body: [UInt8]) throws(Problem) -> [JSONSlice] {
        let lines = body.withUnsafeBytes { NDJSON.lines($0, linesMax: PublicationReader.itemsMax + 1) }
        guard lines.count <= PublicationReader.itemsMax else { throw tooMany }
        var text: [UInt8] = []
        text.reserveCapacity(body.count)
        var ends: [Int] = []
        ends.reserveCapacity(lines.count)
        for (number, line) in lines.enumerated() {
            do throws(Problem) {
                try JSONSlice.minify(body[line], into: &text)
            } catch {
                throw .badJSON("line \(number + 1): \(error.detail)")
            }
            ends.append(text.count)
        }
        var start = 0
        return ends.map { end in
            defer { start = end }
            return JSONSlice(text[start..<end])
        }
    }

    /// They are not counted to the end: a large body of very short items would be taken apart only to be refused.
    private static let tooMany = Problem(
        "bad-parameter", "Too many items", status: 400, detail: "more than \(PublicationReader.itemsMax) items",
        rule: "items per publish request"
    )

    // MARK: looking at the items

    package mutating func setTrace(_ trace: TraceParent) {
        for index in publications.indices where publications[index].trace == nil { publications[index].trace = trace }
    }

    /// Takes out publications that are not to be.
    ///
    /// - Parameter problem: why a publication, known by its place among them, is refused; nil: it is not.
    package mutating func refuse(_ problem: (Int, Publication) -> Problem?) {
        let refused = publications.indices.compactMap { place in
            problem(place, publications[place]).map { (place: place, problem: $0) }
        }
        if refused.isEmpty { return }
        let items = self.items
        for (place, problem) in refused { problems.append((items[place], problem)) }
        problems.sort { $0.index < $1.index }
        // In one pass: all of a thousand may be refused.
        var rest = refused[...]
        publications = publications.indices.compactMap { place in
            if rest.first?.place != place { return publications[place] }
            rest.removeFirst()
            return nil
        }
    }

    /// Of each publication, its item's index.
    private var items: [Int] {
        var items: [Int] = []
        var rest = problems[...]
        for index in 0..<count {
            if rest.first?.index == index { rest.removeFirst() } else { items.append(index) }
        }
        return items
    }
}
