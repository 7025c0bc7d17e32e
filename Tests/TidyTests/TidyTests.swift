import Foundation
import Testing

/// The tree says about itself what the style asks for.
@Suite struct TidyTests {
    private static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    private static func files(_ folders: [String], _ endings: Set<String>) -> [(path: String, text: String)] {
        var found: [(String, String)] = []
        for folder in folders {
            let base = root.appending(path: folder)
            guard let walker = FileManager.default.enumerator(at: base, includingPropertiesForKeys: nil) else { continue }
            for case let file as URL in walker where endings.contains(file.pathExtension) {
                if file.path.contains("/.") || file.path.contains("node_modules") { continue }
                guard let text = try? String(contentsOf: file, encoding: .utf8) else { continue }
                found.append((String(file.path.dropFirst(root.path.count + 1)), text))
            }
        }
        return found
    }

    private static let code = files(["Sources", "Tests"], ["swift", "py", "c", "h", "js"])

    @Test("there is code to look at")
    func something() {
        #expect(Self.code.count > 80)
    }

    @Test("no tabs, no line over 140 characters, no file over 800 lines")
    func lines() {
        for (path, text) in Self.code {
            let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
            // The browser's client is one module without a build step.
            let linesMax = path.hasSuffix("Browser/tocsin.js") ? 1400 : 801
            #expect(lines.count <= linesMax, "\(path) has \(lines.count) lines")
            for (number, line) in lines.enumerated() {
                #expect(line.count <= 140, "\(path):\(number + 1) has \(line.count) characters")
                #expect(!line.contains("\t"), "\(path):\(number + 1) has a tab")
            }
        }
    }

    @Test("nothing is left to do without an issue")
    func marks() {
        let marks = ["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"]
        for (path, text) in Self.code {
            for mark in marks { #expect(!text.contains(mark + ":") && !text.contains(mark + " "), "\(path) has a \(mark)") }
        }
    }

    @Test("imports go down only, and the core and the codecs are sans-IO")
    func arrows() {
        let below: [String: Set<String>] = [
            "Webhooks": ["NotificationCore", "JSONCodec", "Limits"],
            "JSONCodec": [], "WebSocketCodec": [], "EventStreamCodec": [], "HTTP1Codec": [], "HTTP2Session": ["CNghttp2"],
            "TLSEngine": ["COpenSSL"], "NotificationCore": ["JSONCodec"],
            "Identity": ["NotificationCore", "JSONCodec"],
            "Transports": ["NotificationCore", "JSONCodec", "WebSocketCodec", "EventStreamCodec"],
            "Limits": [], "Presence": ["NotificationCore"], "LoadGenerator": ["CEpoll", "JSONCodec", "TLSEngine"],
        ]
        let ours = Set(below.keys).union(["TocsinServer", "TocsinClient", "tocsin", "CEpoll", "CNghttp2", "COpenSSL"])
        for (path, text) in Self.code where path.hasPrefix("Sources/") && path.hasSuffix(".swift") {
            let module = String(path.split(separator: "/")[1])
            guard let allowed = below[module] else { continue }
            for line in text.split(separator: "\n") where line.hasPrefix("import ") || line.hasPrefix("package import ") {
                let name = String(line.split(separator: " ").last!)
                if ours.contains(name) { #expect(allowed.contains(name), "\(path) imports \(name)") }
                #expect(!name.hasPrefix("NIO") && name != "Foundation" && name != "Dispatch", "\(path) imports \(name)")
            }
        }
    }

    @Test("every link between the documents leads somewhere")
    func links() {
        let documents = Self.files(["Docs", "Fixtures"], ["md"]) + Self.files([""], ["md"]).filter { !$0.path.contains("/") }
        #expect(documents.count > 3)
        for (path, text) in documents {
            for match in text.matches(of: /\]\(([^)#:\s]+)(#[^)]*)?\)/) {
                let target = Self.root.appending(path: path).deletingLastPathComponent().appending(path: String(match.1))
                #expect(FileManager.default.fileExists(atPath: target.path), "\(path) links to \(match.1)")
            }
        }
    }
}
