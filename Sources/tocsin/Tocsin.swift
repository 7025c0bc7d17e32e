import ArgumentParser

@main
struct Tocsin: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tocsin",
        abstract: "A notification server: publish over HTTP, subscribe over WebSocket, Server-Sent Events or long-polling.",
        discussion: """
            Start:      tocsin serve
            Publish:    curl -d '{"hello":"world"}' http://127.0.0.1:8080/v1/channels/alerts.demo
            Subscribe:  tocsin subscribe 'alerts.>'
            """,
        version: version,
        subcommands: [
            Serve.self, Publish.self, Subscribe.self, Replay.self, LogCommand.self, Token.self, Key.self, Explain.self, Bench.self,
            Compare.self, Demo.self,
            Version.self,
        ]
    )

    static let version = "0.1.0"
}
