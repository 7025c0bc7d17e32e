import ArgumentParser
import TocsinClient

/// How the client commands reach a server.
struct ConnectOptions: ParsableArguments {
    @Option(help: "The server.")
    var url = "http://127.0.0.1:8080"

    @Option(help: "A PEM file with the authorities to trust instead of the system's.")
    var caFile: String?

    @Flag(help: "Take any certificate. For trials only.")
    var insecure = false

    func makeConfiguration() throws -> ClientConfiguration {
        guard let address = ServerAddress(url) else { throw ValidationError("\"\(url)\" is not http://host:port or https://host:port") }
        var configuration = ClientConfiguration(address: address)
        configuration.caFile = caFile
        configuration.isInsecure = insecure
        return configuration
    }
}
