import Foundation

/// One panel: a row for each transport, with bars from 0 or with marks on a logarithmic scale, and its figures in words on the right.
/// SVG that stands in the page; colours are classes of the page's style, so that it is light or dark with it.
struct Plot {
    enum Scale {
        /// From 0.
        case linear
        /// Powers of ten.
        case logarithmic
    }

    struct Mark {
        enum Kind: String {
            case full, hollow, tick
        }

        var value: Double
        var kind: Kind
    }

    struct Row {
        var transport: TransportID
        /// Laid end to end, each fainter than the one before.
        var bars: [Double] = []
        var marks: [Mark] = []
        var text: String

        var values: [Double] { bars.isEmpty ? marks.map(\.value) : [bars.reduce(0, +)] }
    }

    private static let width = 360.0
    private static let left = 104.0
    private static let right = 262.0
    private static let rowHeight = 21.0
    private static let top = 4.0

    var title: String
    var unit: String
    var scale: Scale
    var rows: [Row]
    /// The ends of the scale, for panels that are to be compared; by default those of the rows.
    var domain: ClosedRange<Double>?

    /// The least and the greatest of the rows' values that a logarithmic scale can show.
    static func domain(of rows: [Row]) -> ClosedRange<Double>? {
        let values = rows.flatMap(\.values).filter { $0 > 0 }
        guard let least = values.min(), let greatest = values.max() else { return nil }
        return pow(10, floor(log10(least)))...pow(10, max(ceil(log10(greatest)), floor(log10(least)) + 1))
    }

    private var ends: ClosedRange<Double> {
        if let domain { return domain }
        switch scale {
        case .logarithmic: return Self.domain(of: rows) ?? 1...10
        case .linear: return 0...max(rows.flatMap(\.values).max() ?? 1, 1e-9)
        }
    }

    private func place(_ value: Double, _ ends: ClosedRange<Double>) -> Double {
        let share =
            switch scale {
            case .linear: (value - ends.lowerBound) / (ends.upperBound - ends.lowerBound)
            case .logarithmic: log10(max(value, ends.lowerBound) / ends.lowerBound) / log10(ends.upperBound / ends.lowerBound)
            }
        return Self.left + min(max(share, 0), 1) * (Self.right - Self.left)
    }

    private func ticks(_ ends: ClosedRange<Double>) -> [Double] {
        switch scale {
        case .linear:
            return [0, ends.upperBound]
        case .logarithmic:
            let powers = Int(log10(ends.lowerBound).rounded())...Int(log10(ends.upperBound).rounded())
            let step = powers.count > 5 ? 2 : 1
            return powers.enumerated().filter { $0.offset % step == 0 }.map { pow(10, Double($0.element)) }
        }
    }

    /// A figure with its heading.
    func html() -> String {
        let ends = ends
        let bottom = Self.top + Double(rows.count) * Self.rowHeight
        var out = "<figure><figcaption>\(title.escaped) <span>\(unit.escaped)</span></figcaption>"
        let words = rows.map { "\($0.transport.name): \($0.text)" }.joined(separator: "; ")
        out += "<svg viewBox=\"0 0 \(Self.text(Self.width)) \(Self.text(bottom + 16))\" role=\"img\" "
        out += "aria-label=\"\("\(title), \(unit). \(words)".escaped)\">"
        for tick in ticks(ends) {
            let x = place(tick, ends)
            out +=
                Self.line("grid", from: (x, Self.top), to: (x, bottom))
            out += "<text class=\"axis\" x=\"\(Self.text(x))\" y=\"\(Self.text(bottom + 12))\">\(number(tick))</text>"
        }
        for (index, row) in rows.enumerated() {
            let y = Self.top + (Double(index) + 0.5) * Self.rowHeight
            out += "<g class=\"\(row.transport.family.rawValue)\">"
            out += "<text class=\"name\" x=\"\(Self.text(Self.left - 8))\" y=\"\(Self.text(y + 4))\">\(row.transport.name.escaped)</text>"
            out += row.bars.isEmpty ? marks(row, y, ends) : bars(row, y, ends)
            out += "<text class=\"value\" x=\"\(Self.text(Self.width))\" y=\"\(Self.text(y + 4))\">\(row.text.escaped)</text></g>"
        }
        return out + "</svg></figure>\n"
    }

    private func bars(_ row: Row, _ y: Double, _ ends: ClosedRange<Double>) -> String {
        var out = ""
        var sum = 0.0
        for (index, bar) in row.bars.enumerated() {
            let from = place(sum, ends)
            sum += bar
            let width = max(place(sum, ends) - from, 0)
            out +=
                "<rect class=\"bar part\(index)\" x=\"\(Self.text(from))\" y=\"\(Self.text(y - 6))\" "
            out += "width=\"\(Self.text(width))\" height=\"12\"/>"
        }
        return out
    }

    private func marks(_ row: Row, _ y: Double, _ ends: ClosedRange<Double>) -> String {
        let places = row.marks.map { place($0.value, ends) }
        guard let first = places.min(), let last = places.max() else { return "" }
        var out =
            Self.line("span", from: (first, y), to: (last, y))
        for (mark, x) in zip(row.marks, places) {
            switch mark.kind {
            case .tick:
                out +=
                    Self.line("tick", from: (x, y - 5), to: (x, y + 5))
            case .full, .hollow:
                out += "<circle class=\"\(mark.kind.rawValue)\" cx=\"\(Self.text(x))\" cy=\"\(Self.text(y))\" r=\"4\"/>"
            }
        }
        return out
    }

    private static func line(_ kind: String, from: (x: Double, y: Double), to: (x: Double, y: Double)) -> String {
        "<line class=\"\(kind)\" x1=\"\(text(from.x))\" y1=\"\(text(from.y))\" x2=\"\(text(to.x))\" y2=\"\(text(to.y))\"/>"
    }

    private static func text(_ value: Double) -> String {
        let tenths = Int((value * 10).rounded())
        return tenths % 10 == 0 ? String(tenths / 10) : "\(tenths / 10).\(abs(tenths % 10))"
    }
}
