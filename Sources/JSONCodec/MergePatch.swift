/// A JSON document that is kept to be changed by merge patches (RFC 7396).
///
/// Objects are trees; everything else (scalars, arrays) is kept as the JSON text it came as, so numbers and strings stay as they were
/// sent. The name of a member is compared as the UTF-8 it decodes to and kept as it was first written. Where an object names a member
/// twice, the first gives its place and its writing and the last its value, once the document is merged, and in patches too.
///
/// It is a value. A copy costs nothing, and changing a copy costs about what the patch has, not what the document has (see
/// `JSONObject`). So a patch that makes the document too large is refused by merging it into a copy, looking at `byteCount`, and
/// dropping the copy.
///
/// A document is as deep as the deepest text that went into it, so what bounds those (`JSONLimits`) bounds recursion here.
package struct JSONDocument: Sendable {
    private enum Root {
        case object(JSONObject)
        /// As it came. An object becomes a tree when it is first merged: many are replaced before that.
        case text([UInt8])
    }

    private var root: Root

    /// - Parameter text: one value, as `JSONText.minify` leaves it. Anything else may trap.
    package init(_ text: ArraySlice<UInt8>) {
        root = .text(Array(text))
    }

    package var isObject: Bool {
        switch root {
        case .object: true
        case .text(let text): text.first == UInt8(ascii: "{")
        }
    }

    /// Bytes of its text, O(1).
    package var byteCount: Int {
        switch root {
        case .object(let object): object.byteCount
        case .text(let text): text.count
        }
    }

    /// Applies a merge patch. A document that is not an object becomes one.
    ///
    /// - Parameter patch: an object, as `JSONText.minify` leaves it. Anything else may trap.
    package mutating func merge(_ patch: ArraySlice<UInt8>) {
        var object = JSONObject()
        switch root {
        case .object(let known): object = known
        case .text(let text): if isObject { object = JSONObject(text[...]) }
        }
        root = .text([])  // so that the object has one owner while it changes
        object.merge(JSONObject(patch))
        root = .object(object)
    }

    /// Appends its text: members in the order in which they first came.
    package func append(to out: inout [UInt8]) {
        switch root {
        case .object(let object): object.append(to: &out)
        case .text(let text): out.append(contentsOf: text)
        }
    }
}
