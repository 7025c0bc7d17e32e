import Glibc
import NotificationCore
import NotificationStore
import Testing

@Suite struct OpenFilesTests {
    enum Change: CaseIterable { case removed, replaced, writeAheadLog, lock, folder }

    @Test("what is committed to a file that is not the log's any more is not taken", arguments: Change.allCases)
    func changes(_ change: Change) throws {
        let folder = TemporaryFolder()
        var model = LogModel()
        let channel = model.channel("plain.a")
        let inner = folder.path + "/inner"
        mkdir(inner, 0o700)
        let path = inner + "/log.sqlite"
        let store = try open(path)
        model.add(channel)
        try store.commit(model.commit(last: 1))
        _ = try store.maintain(nowMilliseconds: start)
        switch change {
        case .removed: unlink(path)
        case .replaced:
            Files.write(path + ".other", try #require(Files.read(path)))
            rename(path + ".other", path)
        case .writeAheadLog: unlink(path + "-wal")
        case .lock: unlink(path + ".lock")
        case .folder: rename(inner, folder.path + "/elsewhere")
        }
        model.add(channel)
        let replaced = StoreFault.replaced(path: path)
        #expect(throws: replaced) { try store.commit(model.commit(last: 1)) }
        #expect(throws: replaced) { try store.maintain(nowMilliseconds: start) }
        #expect("\(replaced)".contains("put it back, or restart the server"))
        store.close(isOrderly: false)
    }

    @Test("a log behind a link is where it was as long as the link leads there")
    func link() throws {
        let folder = TemporaryFolder()
        symlink(folder.path + "/real.sqlite", folder.log)
        var model = LogModel()
        let channel = model.channel("plain.a")
        let store = try open(folder.log)
        for _ in 0..<3 {
            model.add(channel)
            try store.commit(model.commit(last: 1))
            _ = try store.maintain(nowMilliseconds: start)
        }
        unlink(folder.log)
        symlink(folder.path + "/other.sqlite", folder.log)
        #expect(throws: StoreFault.replaced(path: folder.log)) { try store.maintain(nowMilliseconds: start) }
        store.close(isOrderly: true)
    }
}
