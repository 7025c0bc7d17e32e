/// The comparison as one page that needs nothing else: style and plots stand in it.
package struct HTMLPage {
    let comparison: Comparison

    package init(_ comparison: Comparison) {
        self.comparison = comparison
    }

    package var html: String {
        """
        <!doctype html>
        <html lang="en">
        <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <title>The transports compared – Tocsin</title>
        <style>
        \(Self.style)
        </style>
        </head>
        <body>
        <main>
        <h1>The transports compared</h1>
        <p class="lead">\(Words.run(comparison).escaped)</p>
        \(claims)\(latency)\(bytes)\(processor)\(memory)\(handshakes)\(resume)\(shapes)\(method)
        </main>
        </body>
        </html>

        """
    }

    private static let style = """
        :root { color-scheme: light dark; --ground: #fff; --text: #1d232b; --soft: #5d6875; --line: #e2e6ea; --card: #f6f8fa;
          --ws: #1f6fc4; --sse: #0b8268; --lp: #b85c00; --poll: #8a4fb3; --held: #0b7a4b; --not: #b3261e; --depends: #8a6100; }
        @media (prefers-color-scheme: dark) { :root { --ground: #13171c; --text: #e6eaef; --soft: #9aa6b2; --line: #2c343d; --card: #1b2128;
          --ws: #6db1f7; --sse: #4fc9a9; --lp: #f0a050; --poll: #c795ec; --held: #5ccf98; --not: #ff8a80; --depends: #e8bf58; } }
        * { box-sizing: border-box; }
        body { margin: 0; background: var(--ground); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
        main { max-width: 1180px; margin: 0 auto; padding: 24px 16px 64px; }
        h1 { font-size: 28px; line-height: 1.2; margin: 8px 0; }
        h2 { font-size: 20px; margin: 44px 0 4px; }
        p { max-width: 46em; margin: 6px 0; }
        .lead, .note { color: var(--soft); }
        .note { font-size: 14px; }
        .grid-of { display: grid; gap: 20px 28px; margin-top: 14px;
          grid-template-columns: repeat(auto-fill, minmax(min(100%, 320px), 1fr)); }
        figure { margin: 0; min-width: 0; }
        figcaption { font-weight: 600; font-size: 15px; }
        figcaption span { font-weight: 400; color: var(--soft); }
        svg { width: 100%; max-width: 460px; height: auto; display: block; font-size: 11.5px; font-family: inherit; }
        svg .grid { stroke: var(--line); } svg .axis { fill: var(--soft); text-anchor: middle; font-size: 10.5px; }
        svg .name { fill: var(--text); text-anchor: end; }
        svg .value { fill: var(--text); text-anchor: end; font-variant-numeric: tabular-nums; }
        .ws { --c: var(--ws); } .sse { --c: var(--sse); } .lp { --c: var(--lp); } .poll { --c: var(--poll); }
        svg .bar { fill: var(--c); } svg .part1 { opacity: .55; } svg .part2 { opacity: .28; }
        svg .span { stroke: var(--c); stroke-width: 1.5; opacity: .5; } svg .tick { stroke: var(--c); stroke-width: 2; }
        svg .full { fill: var(--c); } svg .hollow { fill: var(--ground); stroke: var(--c); stroke-width: 2; }
        .claims { display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); margin-top: 14px; }
        .claim { background: var(--card); border-radius: 8px; padding: 12px 14px; min-width: 0; }
        .claim h3 { font-size: 16px; margin: 0; } .claim p { font-size: 14px; }
        .verdict { font-weight: 700; } .held { color: var(--held); } .not { color: var(--not); } .depends { color: var(--depends); }
        .claim .rule { color: var(--soft); font-size: 13px; }
        table { border-collapse: collapse; width: 100%; font-size: 13px; margin-top: 6px; }
        td, th { text-align: left; padding: 3px 6px 3px 0; border-bottom: 1px solid var(--line); vertical-align: top;
          overflow-wrap: anywhere; }
        td:last-child { white-space: nowrap; } td.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
        """

    // MARK: - Parts

    private var claims: String {
        var out = "<h2>What is usually claimed</h2>\n<p>\(Words.claims(comparison).escaped)</p>\n<div class=\"claims\">\n"
        for claim in comparison.claims {
            let kind =
                switch claim.verdict {
                case .held: "held"
                case .didNotHold: "not"
                case .depends: "depends"
                case .notMeasured: ""
                }
            out += "<section class=\"claim\"><h3>“\(claim.text.escaped)”</h3><p class=\"verdict \(kind)\">\(claim.verdict.rawValue)</p>"
            out += "<p>\(Words.finding(claim).escaped)</p><table>"
            for figure in claim.figures {
                let ratio = figure.ratio.map { " (\(number($0))×)" } ?? ""
                out += "<tr><td>\(figure.name.escaped)</td><td class=\"n\">\(number(figure.value)) \(figure.unit.escaped)\(ratio)</td>"
                out += figure.speaksFor ? "<td class=\"held\">for</td></tr>" : "<td class=\"not\">against</td></tr>"
            }
            out += "</table><p class=\"rule\">\(claim.rule.escaped)</p></section>\n"
        }
        return out + "</div>\n"
    }

    private func section(_ title: String, _ words: String, note: String = "", _ plots: [Plot]) -> String {
        var out = "<h2>\(title.escaped)</h2>\n<p>\(words.escaped)</p>\n"
        if !note.isEmpty { out += "<p class=\"note\">\(note.escaped)</p>\n" }
        return out + "<div class=\"grid-of\">\n" + plots.map { $0.html() }.joined() + "</div>\n"
    }

    private func row(_ figures: Comparison.Figures, _ value: Double?, unit: String = "") -> Plot.Row {
        Plot.Row(transport: figures.transport, bars: value.map { [$0] } ?? [], text: number(value) + (value == nil ? "" : unit))
    }

    private var latency: String {
        let rates = Array(Set(comparison.transports.flatMap { $0.rates.map(\.rate) })).sorted()
        var plots = rates.map { rate in
            let rows = comparison.transports.map { figures in
                let latency = figures.at(rate: rate)?.latency
                return Plot.Row(
                    transport: figures.transport, marks: latency.map { Self.marks($0, tail: true) } ?? [],
                    text: "\(number(latency?.p50)) · \(number(latency?.p99))"
                )
            }
            return Plot(title: Words.rate(rate), unit: "ms, p50 · p99", scale: .logarithmic, rows: rows)
        }
        let domain = Plot.domain(of: plots.flatMap(\.rows))
        for index in plots.indices { plots[index].domain = domain }
        return section(
            "Latency", Words.latency(comparison),
            note: "● p50, ○ p99, | p99.9: from when a message was due until the client had read it. One logarithmic scale for all.", plots
        )
    }

    private static func marks(_ quantiles: Quantiles, tail: Bool = false) -> [Plot.Mark] {
        var marks = [Plot.Mark(value: quantiles.p99, kind: .hollow), Plot.Mark(value: quantiles.p50, kind: .full)]
        if tail { marks.insert(Plot.Mark(value: quantiles.p999, kind: .tick), at: 0) }
        return marks
    }

    private var bytes: String {
        func plot(_ rate: Double) -> Plot {
            let rows = comparison.transports.map { figures in
                let wire = figures.at(rate: rate)?.wire
                return Plot.Row(
                    transport: figures.transport, bars: wire.map { [$0.bytesIn, $0.bytesOut, $0.headersEstimate] } ?? [],
                    text: number(wire?.allBytes)
                )
            }
            return Plot(title: "Bytes of a message, \(Words.rate(rate))", unit: "B", scale: .linear, rows: rows)
        }
        let hour = Plot(
            title: "A client in an hour, one message a minute", unit: "kB, computed", scale: .linear,
            rows: comparison.transports.map { row($0, $0.hourAtOneAMinute.map { $0.bytes / 1000 }) }
        )
        let rates = [1, 10, 100].filter { rate in comparison.transports.contains { $0.at(rate: rate) != nil } }
        return section(
            "Bytes", Words.bytes(comparison),
            note: "From dark to faint: to the client, from the client, headers of TCP and IP (an estimate: 52 bytes for each segment). All "
                + "bytes of a run are divided by its messages: polls without an answer and heartbeats are in it. Without TLS.",
            rates.map(plot) + [hour]
        )
    }

    private var processor: String {
        func plot(_ rate: Double) -> Plot {
            Plot(
                title: "CPU of a message, \(Words.rate(rate))", unit: "us", scale: .linear,
                rows: comparison.transports.map { row($0, $0.at(rate: rate)?.cpuPerMessage) }
            )
        }
        func capacity(_ rate: Double) -> Plot {
            Plot(
                title: "Clients on one core, \(Words.rate(rate))", unit: "computed", scale: .logarithmic,
                rows: comparison.transports.map { figures in
                    let clients = figures.clientsPerCore(rate: rate)
                    return Plot.Row(
                        transport: figures.transport, marks: clients.map { [Plot.Mark(value: $0, kind: .full)] } ?? [],
                        text: number(clients))
                }
            )
        }
        let hour = Plot(
            title: "CPU of a client in an hour, one message a minute", unit: "ms, computed", scale: .linear,
            rows: comparison.transports.map { row($0, $0.hourAtOneAMinute?.cpuMilliseconds) }
        )
        let rates = [1, 10, 100].filter { rate in comparison.transports.contains { $0.at(rate: rate) != nil } }
        return section(
            "The server's processor", Words.processor(comparison),
            note: "Clients on one core: 1 s of processor time, divided by what an idle client and the messages at that rate take.",
            rates.map(plot) + [hour] + rates.map(capacity)
        )
    }

    private var memory: String {
        let user = Plot(
            title: "User space", unit: "kB a client", scale: .linear,
            rows: comparison.transports.map { row($0, $0.memory.map { $0.user / 1000 }) }
        )
        let kernel = Plot(
            title: "Kernel, both ends", unit: "kB a client", scale: .linear,
            rows: comparison.transports.map { row($0, $0.memory.map { max(0, $0.kernelBothEnds) / 1000 }) }
        )
        let fit = Plot(
            title: "Idle clients in 1 GB of user space", unit: "computed", scale: .linear,
            rows: comparison.transports.map { row($0, $0.clientsPerGigabyte) }
        )
        return section(
            "Memory", Words.memory(comparison),
            note:
                "The server's anonymous memory with \(comparison.settings.memoryClients) idle clients, less that without. The kernel's is "
                + "what the whole machine's objects grew by: both ends of the connections are on it, so about half is the server's.",
            [user, kernel, fit]
        )
    }

    private var handshakes: String {
        let plots = [false, true].map { tls in
            Plot(
                title: tls ? "TLS 1.3" : "Without TLS", unit: "B", scale: .linear,
                rows: comparison.transports.map { figures in
                    let wire = figures.handshakes.first { $0.tls == tls }?.wire
                    let trips = figures.transport.roundTripsByDesign(tls: tls)
                    return Plot.Row(
                        transport: figures.transport, bars: wire.map { [$0.bytesIn, $0.bytesOut, $0.headersEstimate] } ?? [],
                        text: "\(number(wire?.allBytes)) · \(trips) RT"
                    )
                }
            )
        }
        return section(
            "Until the server's first answer", Words.handshakes(comparison),
            note: "From dark to faint: to the client, from the client, headers (estimated). RT: round trips by design. A shared connection "
                + "carries \(comparison.settings.sharedStreams) clients.", plots
        )
    }

    private var resume: String {
        let rows = comparison.transports.map { figures in
            Plot.Row(
                transport: figures.transport, marks: figures.resume.map { Self.marks($0) } ?? [],
                text: "\(number(figures.resume?.p50)) · \(number(figures.resume?.p99))"
            )
        }
        return section(
            "Back after a cut", Words.resume(comparison),
            note: "● p50, ○ p99: from coming back until the client has the \(comparison.settings.missedMessages) messages that were "
                + "published while all were away.",
            [Plot(title: "Without a network", unit: "ms, p50 · p99", scale: .logarithmic, rows: rows)]
        )
    }

    private var shapes: String {
        guard !comparison.shapes.isEmpty else {
            return "<h2>On real networks</h2>\n<p>\(comparison.shapesBy.escaped)</p>\n"
        }
        func plots(_ title: String, _ unit: String, _ rows: (Comparison.Shape, TransportID) -> Plot.Row) -> [Plot] {
            var plots = comparison.shapes.map { shape in
                Plot(
                    title: "\(title), \(shape.name)", unit: unit, scale: .logarithmic,
                    rows: comparison.transports.map { rows(shape, $0.transport) }
                )
            }
            let domain = Plot.domain(of: plots.flatMap(\.rows))
            for index in plots.indices { plots[index].domain = domain }
            return plots
        }
        func pair(_ shape: Comparison.Shape, _ id: TransportID, _ value: (Comparison.Shape.Cell) -> Double) -> Plot.Row {
            let plain = shape.cells.first { $0.transport == id && !$0.tls }.map(value)
            let tls = shape.cells.first { $0.transport == id && $0.tls }.map(value)
            let marks = [tls.map { Plot.Mark(value: $0, kind: .hollow) }, plain.map { Plot.Mark(value: $0, kind: .full) }]
            return Plot.Row(transport: id, marks: marks.compactMap(\.self), text: "\(number(plain)) · \(number(tls))")
        }
        let latency = plots("Latency", "ms, p50 · p99") { shape, id in
            let cell = shape.cells.first { $0.transport == id && !$0.tls }
            return Plot.Row(
                transport: id, marks: cell.map { Self.marks($0.latency) } ?? [],
                text: "\(number(cell?.latency.p50)) · \(number(cell?.latency.p99))"
            )
        }
        let settings = comparison.settings
        return section(
            "On real networks", Words.shapes(comparison),
            note:
                "\(comparison.shapesBy) \(settings.shapeClients) clients of each transport, "
                + "\(number(settings.shapeRate)) messages a second.",
            []
        )
            + section(
                "First answer, by network", Words.shapeHandshakes(comparison), note: "● without TLS, ○ with TLS 1.3; medians.",
                plots("First answer", "ms, plain · TLS") { shape, id in pair(shape, id) { $0.handshake.p50 } })
            + section("Latency, by network", Words.shapeLatency(comparison), note: "● p50, ○ p99, without TLS.", latency)
            + section(
                "Back after a cut, by network", Words.shapeResume(comparison), note: "● without TLS, ○ with TLS 1.3; medians.",
                plots("Back", "ms, plain · TLS") { shape, id in pair(shape, id) { $0.resume.p50 } })
    }

    private var method: String {
        var out = "<h2>How it was measured</h2>\n<ul>\n"
        for line in Words.method(comparison) { out += "<li>\(line.escaped)</li>\n" }
        return out + "</ul>\n"
    }
}
