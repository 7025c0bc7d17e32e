import Foundation

/// A figure for people: three digits that count, thousands set apart. `0.0123`, `1.23`, `12.3`, `123`, `12,300`.
package func number(_ value: Double) -> String {
    guard value.isFinite else { return "–" }
    if value == 0 { return "0" }
    let sign = value < 0 ? "-" : ""
    let size = abs(value)
    let exponent = Int(log10(size).rounded(.down))
    let step = pow(10.0, Double(exponent - 2))
    let rounded = (size / step).rounded() * step
    guard rounded < 100 else { return sign + grouped(rounded) }
    let digits = max(0, 2 - Int(log10(rounded).rounded(.down)))
    var text = String(format: "%.\(digits)f", rounded)
    if text.contains(".") {
        while text.last == "0" { text.removeLast() }
        if text.last == "." { text.removeLast() }
    }
    return sign + text
}

func number(_ value: Double?) -> String {
    value.map { number($0) as String } ?? "–"
}

private func grouped(_ value: Double) -> String {
    var digits = Array(String(Int64(value.rounded())))
    var place = digits.count - 3
    while place > 0 {
        digits.insert(",", at: place)
        place -= 3
    }
    return String(digits)
}

extension String {
    /// For text and attributes of HTML and SVG.
    var escaped: String {
        replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;").replacing("\"", with: "&quot;")
    }
}
