import Foundation
import FuzzTargets
import Testing

/// The inputs of `Fixtures/Fuzz` once more, without a fuzzer: seeds, what fuzzing found worth keeping, and findings that were mended.
///
/// A property that does not hold traps, which ends the test process with the property's word.
@Suite struct FuzzReplayTests {
    private static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appending(path: "Fixtures/Fuzz")

    private static func files(_ name: String) throws -> [URL] {
        try FileManager.default.contentsOfDirectory(at: folder.appending(path: name), includingPropertiesForKeys: nil)
            .sorted { $0.lastPathComponent < $1.lastPathComponent }
    }

    @Test("every input of the corpus holds to the properties of its target", arguments: FuzzTarget.allCases)
    func replay(_ target: FuzzTarget) throws {
        let files = try Self.files(target.rawValue)
        #expect(files.count >= 5, "\(target.rawValue) has no corpus to speak of")
        for file in files {
            let bytes = try Data(contentsOf: file)
            bytes.withUnsafeBytes { target.run($0) }
        }
        target.run(UnsafeRawBufferPointer(start: nil, count: 0))
    }

    @Test("every corpus has its target, and all of them together are small")
    func size() throws {
        let names = try FileManager.default.contentsOfDirectory(atPath: Self.folder.path).filter { $0 != "README.md" }
        #expect(Set(names) == Set(FuzzTarget.allCases.map(\.rawValue)))
        let files = try names.flatMap { try Self.files($0) }
        let sizes = try files.map { try $0.resourceValues(forKeys: [.fileSizeKey]).fileSize ?? 0 }
        #expect(files.count < 300)
        #expect(sizes.reduce(0, +) < 300_000)
    }
}
