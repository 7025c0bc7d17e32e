import Foundation
import JSONCodec

func minifyBytes(_ bytes: [UInt8], depthMax: Int = 64) throws(JSONFault) -> [UInt8] {
    var out: [UInt8] = []
    var fault: JSONFault?
    bytes.withUnsafeBytes { bytes in
        do throws(JSONFault) { try JSONText.minify(bytes, limits: JSONLimits(depthMax: depthMax), into: &out) } catch { fault = error }
    }
    if let fault { throw fault }
    return out
}

func minify(_ text: String) throws(JSONFault) -> String {
    String(decoding: try minifyBytes(Array(text.utf8)), as: UTF8.self)
}

/// A slice over a text that is checked first.
func slice(_ text: String) throws(JSONFault) -> JSONSlice {
    JSONSlice(try minifyBytes(Array(text.utf8))[...])
}

func quoted(_ text: String) -> [UInt8] {
    var out: [UInt8] = []
    JSONText.appendString(text, into: &out)
    return out
}

/// What Foundation takes as JSON; nil if it does not.
func foundationValue(_ bytes: [UInt8]) -> Any? {
    try? JSONSerialization.jsonObject(with: Data(bytes), options: .fragmentsAllowed)
}

enum Fixtures {
    /// The folder `Fixtures/JSON/<name>`, found from this file.
    static func folder(_ name: String) -> URL {
        var folder = URL(fileURLWithPath: #filePath).resolvingSymlinksInPath()
        func isRoot() -> Bool { FileManager.default.fileExists(atPath: folder.appendingPathComponent("Fixtures").path) }
        repeat { folder.deleteLastPathComponent() } while !isRoot()
        return folder.appendingPathComponent("Fixtures/JSON/\(name)")
    }

    static func names(_ name: String) -> [String] {
        let files = try! FileManager.default.contentsOfDirectory(atPath: folder(name).path)
        return files.filter { $0.hasSuffix(".json") }.map { String($0.dropLast(5)) }.sorted()
    }

    static func bytes(_ name: String, _ file: String) throws -> [UInt8] {
        Array(try Data(contentsOf: folder(name).appendingPathComponent(file)))
    }
}
