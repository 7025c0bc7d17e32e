import CSimulatedDisk
import Glibc
import NotificationCore

/// `Simulation --seeds N [--first-seed K] [--verbose] [--twice]`: the whole server over a simulated disk, clock and network.
@main
struct Simulation {
    /// For the handler of a trap: which run it was.
    nonisolated(unsafe) static var current: Run?

    static func main() {
        hashTheSameEachTime()
        sd_register()
        var options = Options()
        do throws(Options.Fault) { try options.read(Array(CommandLine.arguments.dropFirst())) } catch {
            print(error.words)
            print(Options.help)
            exit(2)
        }
        for trap in [SIGILL, SIGTRAP, SIGSEGV, SIGABRT] { signal(trap) { _ in Simulation.trapped() } }
        if options.isFailingEach {
            FailEach.run()
            return FailEachOfServer.go()
        }
        #if DEFECTS
            if options.listsDefects {
                for defect in Defect.allCases { print(defect.rawValue) }
                return
            }
            if options.defect == "all" { return DefectTable.run(options) }
            if let name = options.defect {
                guard let defect = Defect(rawValue: name) else {
                    print("no defect is named \(name)")
                    exit(2)
                }
                Defect.active = defect
            }
        #else
            if options.defect != nil || options.listsDefects {
                print("this build has no defects: build with TOCSIN_DEFECTS=1")
                exit(2)
            }
        #endif
        let start = clock()
        var totals = Totals()
        for seed in options.firstSeed..<options.firstSeed + options.seeds {
            let run = Run(seed: seed, isVerbose: options.isVerbose)
            current = run
            let violation = run.go()
            if let violation { fail(run, violation) }
            run.end()
            if options.isTwice {
                let again = Run(seed: seed)
                _ = again.go()
                again.end()
                guard again.trace.hash == run.trace.hash, again.trace.count == run.trace.count else {
                    print("seed \(seed): two runs differ, \(run.trace.count) and \(again.trace.count) events")
                    exit(1)
                }
            }
            totals.add(run)
        }
        let seconds = Double(clock() - start) / Double(CLOCKS_PER_SEC)
        print("\(options.seeds) seeds from \(options.firstSeed): all promises kept; \(totals.words), \(Int(seconds * 1000)) ms of one core")
    }

    /// Sets and dictionaries are gone through in an order that depends on a seed of the process, unless this is set when it begins.
    private static func hashTheSameEachTime() {
        guard getenv("SWIFT_DETERMINISTIC_HASHING") == nil else { return }
        setenv("SWIFT_DETERMINISTIC_HASHING", "1", 1)
        execv("/proc/self/exe", CommandLine.unsafeArgv)
    }

    static func fail(_ run: Run, _ violation: Violation) -> Never {
        print("seed \(run.seed): broken: \(violation.rule)")
        print("  \(violation.words)")
        print("the last events, by milliseconds:")
        for line in run.trace.last { print("  \(line)") }
        print("again: swift run Simulation --seeds 1 --first-seed \(run.seed) --verbose")
        exit(1)
    }

    /// A precondition does not hold. The process is lost, but what led here can still be told.
    static func trapped() {
        signal(SIGABRT, SIG_DFL)
        guard let run = current else { _exit(3) }
        fail(run, run.oracle.violation ?? Violation(rule: "a trap", words: "a precondition of the server does not hold, see above"))
    }

    struct Totals {
        var acknowledged = 0
        var delivered = 0
        var crashes = 0
        var losses = 0
        var notStored = 0

        mutating func add(_ run: Run) {
            acknowledged += run.oracle.acknowledgedCount
            delivered += run.oracle.deliveredCount
            crashes += run.server.crashes
            losses += run.oracle.losses
            notStored += run.oracle.notStoredCount
        }

        var words: String {
            "\(acknowledged) published, \(delivered) delivered, \(notStored) not stored, \(crashes) crashes, \(losses) ends lost"
        }
    }
}

struct Options {
    struct Fault: Error { var words: String }

    static let help = "Simulation --seeds N [--first-seed K] [--verbose] [--twice] [--defect NAME|all] [--list-defects] | --fail-each"
    var seeds: UInt64 = 100
    var firstSeed: UInt64 = 1
    var isVerbose = false
    /// Each seed is run twice, and must do the same.
    var isTwice = false
    /// A defect to be made on purpose, or `all`.
    var defect: String?
    var listsDefects = false
    var isFailingEach = false

    mutating func read(_ arguments: [String]) throws(Fault) {
        var rest = arguments[...]
        func number(_ name: String) throws(Fault) -> UInt64 {
            guard let text = rest.popFirst(), let number = UInt64(text) else { throw Fault(words: "\(name) wants a number") }
            return number
        }
        while let name = rest.popFirst() {
            switch name {
            case "--seeds": seeds = try number(name)
            case "--first-seed": firstSeed = try number(name)
            case "--verbose": isVerbose = true
            case "--twice": isTwice = true
            case "--defect": defect = rest.popFirst() ?? "all"
            case "--list-defects": listsDefects = true
            case "--fail-each": isFailingEach = true
            default: throw Fault(words: "\(name) is not known")
            }
        }
    }
}
