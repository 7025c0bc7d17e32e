/// The comparison as a page of Markdown: the claims, then a table for each question.
package struct MarkdownPage {
    let comparison: Comparison

    package init(_ comparison: Comparison) {
        self.comparison = comparison
    }

    package var markdown: String {
        var out = "# The transports compared\n\n"
        out += Words.run(comparison) + "\n\n"
        out += "`tocsin compare` made this page, `comparison.json` (all figures) and `comparison.html` (plots).\n\n"
        out += claims + latency + bytes + processor + memory + handshakes + resume + shapes
        out += "## How it was measured\n\n" + Words.method(comparison).map { "- \($0)\n" }.joined()
        return out
    }

    private func table(_ heads: [String], _ rows: [[String]]) -> String {
        var out = "| " + heads.joined(separator: " | ") + " |\n|---|" + String(repeating: "---:|", count: heads.count - 1) + "\n"
        for row in rows { out += "| " + row.map { $0.replacing("|", with: "\\|") }.joined(separator: " | ") + " |\n" }
        return out + "\n"
    }

    private func perTransport(_ heads: [String], _ values: (Comparison.Figures) -> [String]) -> String {
        table(["transport"] + heads, comparison.transports.map { [$0.transport.name] + values($0) })
    }

    private var rates: [Double] { Array(Set(comparison.transports.flatMap { $0.rates.map(\.rate) })).sorted() }
    private var wholeRates: [Double] { rates.filter { $0 >= 1 } }

    // MARK: - Parts

    private var claims: String {
        var out = "## What is usually claimed\n\n\(Words.claims(comparison))\n\n"
        out += table(
            ["claim", "verdict", "figures"], comparison.claims.map { [$0.text, "**\($0.verdict.rawValue)**", Words.finding($0)] }
        )
        .replacing("|---|---:|---:|", with: "|---|---|---|")
        for claim in comparison.claims {
            out += "### \(claim.text): \(claim.verdict.rawValue)\n\n\(claim.rule)\n\n"
            out += table(
                ["figure", "value", "ratio", "speaks"],
                claim.figures.map { figure in
                    [
                        figure.name, "\(number(figure.value)) \(figure.unit)", figure.ratio.map { number($0) } ?? "–",
                        figure.speaksFor ? "for" : "against",
                    ]
                }
            )
        }
        return out
    }

    private var latency: String {
        "## Latency\n\n\(Words.latency(comparison)) Milliseconds from when a message was due: p50 / p99 / p99.9.\n\n"
            + perTransport(rates.map(Words.rate)) { figures in
                rates.map { rate in
                    figures.at(rate: rate).map { "\(number($0.latency.p50)) / \(number($0.latency.p99)) / \(number($0.latency.p999))" }
                        ?? "–"
                }
            }
    }

    private var bytes: String {
        "## Bytes of a message\n\n\(Words.bytes(comparison)) To the client + from the client + headers of TCP and IP (estimated).\n\n"
            + perTransport(wholeRates.map(Words.rate) + ["a client in an hour, one message a minute (computed)"]) { figures in
                wholeRates.map { rate in
                    figures.at(rate: rate).map {
                        "\(number($0.wire.bytesIn)) + \(number($0.wire.bytesOut)) + \(number($0.wire.headersEstimate))"
                    } ?? "–"
                } + [figures.hourAtOneAMinute.map { "\(number($0.bytes / 1000)) kB" } ?? "–"]
            }
    }

    private var processor: String {
        "## The server's processor\n\n\(Words.processor(comparison))\n\n"
            + perTransport(
                wholeRates.map { "us a message, \(Words.rate($0))" } + [
                    "idle, us a client and second", "ms a client and hour, one a minute (computed)",
                ]
            ) { figures in
                wholeRates.map { number(figures.at(rate: $0)?.cpuPerMessage) }
                    + [number(figures.idle?.cpu), number(figures.hourAtOneAMinute?.cpuMilliseconds)]
            }
            + "Clients that one core has time for (computed):\n\n"
            + perTransport(wholeRates.map(Words.rate)) { figures in wholeRates.map { number(figures.clientsPerCore(rate: $0)) } }
    }

    private var memory: String {
        "## Memory of an idle client\n\n\(Words.memory(comparison))\n\n"
            + perTransport([
                "user space, B", "kernel, both ends, B", "clients in 1 GB of user space (computed)",
                "in 1 GB of the kernel, its half (computed)",
            ]) { figures in
                [
                    number(figures.memory?.user), number(figures.memory?.kernelBothEnds), number(figures.clientsPerGigabyte),
                    number(figures.clientsPerKernelGigabyte),
                ]
            }
    }

    private var handshakes: String {
        func words(_ figures: Comparison.Figures, tls: Bool) -> String {
            let wire = figures.handshakes.first { $0.tls == tls }?.wire
            return wire.map { "\(number($0.bytesIn)) + \(number($0.bytesOut)) + \(number($0.headersEstimate))" } ?? "–"
        }
        return "## Until the server's first answer\n\n\(Words.handshakes(comparison))\n\n"
            + perTransport(["bytes", "bytes, TLS", "round trips by design", "with TLS"]) { figures in
                [
                    words(figures, tls: false), words(figures, tls: true), String(figures.transport.roundTripsByDesign(tls: false)),
                    String(figures.transport.roundTripsByDesign(tls: true)),
                ]
            }
    }

    private var resume: String {
        "## Back after a cut\n\n\(Words.resume(comparison)) Without a network, ms.\n\n"
            + perTransport(["p50", "p99"]) { [number($0.resume?.p50), number($0.resume?.p99)] }
    }

    private var shapes: String {
        guard !comparison.shapes.isEmpty else { return "## On real networks\n\n\(comparison.shapesBy)\n\n" }
        func tables(_ value: (Comparison.Shape, Comparison.Shape.Cell) -> String) -> String {
            table(
                ["transport"] + comparison.shapes.map(\.name),
                comparison.transports.map { figures in
                    [figures.transport.name]
                        + comparison.shapes.map { shape in
                            [false, true].map { tls in
                                shape.cells.first { $0.transport == figures.transport && $0.tls == tls }.map { value(shape, $0) } ?? "–"
                            }.joined(separator: " · ")
                        }
                }
            )
        }
        return "## On real networks\n\n\(Words.shapes(comparison)) \(comparison.shapesBy)\n\nIn each cell: without TLS · with TLS 1.3.\n\n"
            + "First answer, ms. \(Words.shapeHandshakes(comparison))\n\n"
            + tables { _, cell in number(cell.handshake.p50) }
            + "The same in round trips:\n\n"
            + tables { shape, cell in number(cell.roundTrips(shape)) }
            + "Latency, ms, p50 / p99. \(Words.shapeLatency(comparison))\n\n"
            + tables { _, cell in "\(number(cell.latency.p50)) / \(number(cell.latency.p99))" }
            + "Back after a cut, ms, median. \(Words.shapeResume(comparison))\n\n"
            + tables { _, cell in number(cell.resume.p50) }
    }
}
