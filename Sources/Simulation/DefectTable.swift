#if DEFECTS
    import Glibc
    import NotificationCore

    /// Every defect is looked for until it is caught, each in a process of its own: some end in a trap.
    enum DefectTable {
        static func run(_ options: Options) {
            var isComplete = true
            print("| defect | caught at seed | by |")
            print("|---|---|---|")
            for defect in Defect.allCases {
                let found = look(for: defect, options)
                if found == nil { isComplete = false }
                print("| \(defect.rawValue) | \(found?.seed ?? "-") | \(found?.rule ?? "**not caught**") |")
            }
            if !isComplete { exit(1) }
        }

        private static func look(for defect: Defect, _ options: Options) -> (seed: String, rule: String)? {
            let command =
                "/proc/\(getpid())/exe --defect \(defect.rawValue) --seeds \(options.seeds) --first-seed \(options.firstSeed) 2>/dev/null"
            guard let pipe = popen(command, "r") else { return nil }
            var output = ""
            var buffer = [CChar](repeating: 0, count: 4096)
            while fgets(&buffer, Int32(buffer.count), pipe) != nil {
                output += String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            }
            pclose(pipe)
            for line in output.split(separator: "\n") where line.hasPrefix("seed ") {
                let parts = line.split(separator: ":", maxSplits: 2)
                if parts.count == 3 { return (String(parts[0].dropFirst(5)), parts[2].drop { $0 == " " }.description) }
            }
            return nil
        }
    }
#endif
