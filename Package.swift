// swift-tools-version: 6.2

import PackageDescription

let package = Package(
    name: "tocsin",
    products: [
        .executable(name: "tocsin", targets: ["tocsin"]),
        .library(name: "TocsinClient", targets: ["TocsinClient"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/vapor/jwt-kit", from: "5.7.1"),
    ],
    targets: [
        // C libraries. Only what Swift cannot import stands in the shims.
        .systemLibrary(name: "CEpoll"),
        .systemLibrary(name: "CPrefetch"),
        .systemLibrary(name: "CProcess"),
        .systemLibrary(name: "CNghttp2", pkgConfig: "libnghttp2", providers: [.apt(["libnghttp2-dev"])]),
        .systemLibrary(name: "COpenSSL", pkgConfig: "libssl libcrypto", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),

        // Descriptors over Unix sockets, for a server that takes another one over.
        .target(name: "CUnixSocket"),

        // Codecs: bytes in, values out. Siblings; none imports another.
        .target(name: "JSONCodec"),
        .target(name: "CBORCodec"),
        .target(name: "WebSocketCodec", dependencies: ["CZlib"]),
        .target(name: "EventStreamCodec"),
        .target(name: "HTTP1Codec", dependencies: [.product(name: "HTTPTypes", package: "swift-http-types")]),
        .target(
            name: "HTTP2Session",
            dependencies: ["CNghttp2", .product(name: "HTTPTypes", package: "swift-http-types")]
        ),
        .target(name: "TLSEngine", dependencies: ["COpenSSL"]),

        // The core: channels, the log, positions, subscribers as cursors, deliveries as values. No I/O, no clock.
        .target(
            name: "NotificationCore",
            dependencies: ["JSONCodec", "CPrefetch", .product(name: "DequeModule", package: "swift-collections")]
        ),

        // The log on disk: SQLite. Bytes of a file in and out, no clock.
        .target(
            name: "NotificationStore",
            dependencies: [
                "NotificationCore", "JSONCodec", .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "GRDBSQLite", package: "GRDB.swift"),
            ]
        ),

        // The adapters: codec events <-> core; still no I/O.
        .target(
            name: "Transports",
            dependencies: [
                "NotificationCore", "JSONCodec", "CBORCodec", "WebSocketCodec", "EventStreamCodec",
                .product(name: "HTTPTypes", package: "swift-http-types"),
            ]
        ),

        // Who makes a request, and what they may do: bearer tokens, API keys, grants. No I/O, no clock.
        .target(
            name: "Identity",
            dependencies: [
                "NotificationCore", "JSONCodec", .product(name: "JWTKit", package: "jwt-kit"),
                .product(name: "Crypto", package: "swift-crypto"), .product(name: "DequeModule", package: "swift-collections"),
            ]
        ),

        // Who is let in, and how much of something: addresses, what proxies say, token buckets, slots. No I/O, no clock.
        .target(name: "Limits"),

        // Who is on which channels: what loops say of that, and what comes of it. No I/O, no clock.
        .target(name: "Presence", dependencies: ["NotificationCore"]),

        // Event loops, listeners, connections, HTTP API, limits, metrics, configuration.
        .target(
            name: "TocsinServer",
            dependencies: [
                "Transports", "NotificationStore", "NotificationCore", "JSONCodec", "WebSocketCodec", "HTTP1Codec", "HTTP2Session",
                "TLSEngine", "Identity", "Limits", "Presence", "CPrefetch", "CProcess", "CUnixSocket",
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                "Webhooks",
            ]
        ),

        // What others are told over HTTP, how it is signed, and when it is tried again. No I/O, no clock.
        .target(
            name: "Webhooks",
            dependencies: ["NotificationCore", "JSONCodec", "Limits", .product(name: "Crypto", package: "swift-crypto")]
        ),

        // The Swift client.
        .target(
            name: "TocsinClient",
            dependencies: [
                "JSONCodec", "WebSocketCodec", "EventStreamCodec", "HTTP1Codec", "TLSEngine",
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ]
        ),

        // The load generator of `tocsin bench`: thousands of subscribers on raw epoll. It knows nothing of the server.
        .target(name: "LoadGenerator", dependencies: ["CEpoll", "JSONCodec", "TLSEngine"]),

        // What `tocsin compare` makes of its figures: tables, plots, a page, a verdict on what is usually claimed. Figures in, text out.
        .target(name: "TransportComparison"),

        .executableTarget(
            name: "tocsin",
            dependencies: [
                "TocsinClient", "TocsinServer", "LoadGenerator", "TransportComparison", "CEpoll", "Transports", "NotificationStore",
                "NotificationCore", "JSONCodec",
                "TLSEngine", "Identity", "Limits", "Presence",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
                .product(name: "HTTPTypes", package: "swift-http-types"),
                "Webhooks",
            ],
            exclude: ["Browser/tocsin.d.ts", "Browser/package.json"],
            resources: [
                .embedInCode("Resources/demo.html"), .embedInCode("Resources/wc2022-final.ndjson"), .embedInCode("Browser/tocsin.js"),
            ]
        ),

        // An SQLite VFS over a disk that can fail and lose its power; for tests and the simulation only.
        .target(name: "CSimulatedDisk", linkerSettings: [.linkedLibrary("sqlite3")]),

        // The whole server, over a simulated clock, network and disk that a seed drives.
        .executableTarget(
            name: "Simulation",
            dependencies: [
                "TocsinServer", "NotificationCore", "NotificationStore", "WebSocketCodec", "EventStreamCodec", "HTTP1Codec", "HTTP2Session",
                "JSONCodec", "CBORCodec", "CSimulatedDisk",
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
            ]
        ),

        .target(name: "TestSupport", path: "Tests/TestSupport"),
        // One function a codec for libFuzzer; the replay runs the inputs of Fixtures/Fuzz through them without it.
        .target(
            name: "FuzzTargets",
            dependencies: [
                "Transports", "NotificationCore", "JSONCodec", "CBORCodec", "WebSocketCodec", "EventStreamCodec", "HTTP1Codec",
                "HTTP2Session",
                .product(name: "HTTPTypes", package: "swift-http-types"),
            ],
            path: "Tests/FuzzTargets"
        ),
        .testTarget(name: "FuzzReplayTests", dependencies: ["FuzzTargets"]),
        .testTarget(name: "SimulatedDiskTests", dependencies: ["CSimulatedDisk"]),
        .testTarget(
            name: "NotificationStoreTests",
            dependencies: [
                "NotificationStore", "NotificationCore", "JSONCodec", "TestSupport", .product(name: "GRDB", package: "GRDB.swift"),
            ]
        ),
        .testTarget(name: "NotificationCoreTests", dependencies: ["NotificationCore", "TestSupport"]),
        .testTarget(
            name: "TransportsTests",
            dependencies: [
                "Transports", "NotificationCore", "JSONCodec", "CBORCodec", "WebSocketCodec", "EventStreamCodec", "TestSupport",
                .product(name: "HTTPTypes", package: "swift-http-types"),
            ]
        ),
        .testTarget(
            name: "TocsinServerTests",
            dependencies: [
                "TocsinServer", "Transports", "NotificationCore", "HTTP2Session", "Identity", "Limits", "Presence", "CUnixSocket",
                "TestSupport",
                .product(name: "HTTPTypes", package: "swift-http-types"),
                "Webhooks",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOEmbedded", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ]
        ),
        .testTarget(name: "TidyTests"),
        .testTarget(name: "WebhooksTests", dependencies: ["Webhooks", "NotificationCore", "Limits", "TestSupport"]),
        .testTarget(name: "LimitsTests", dependencies: ["Limits", "TestSupport"]),
        .testTarget(name: "PresenceTests", dependencies: ["Presence", "NotificationCore", "TestSupport"]),
        .testTarget(
            name: "IdentityTests",
            dependencies: ["Identity", "NotificationCore", "TestSupport", .product(name: "JWTKit", package: "jwt-kit")]
        ),
        .testTarget(name: "JSONCodecTests", dependencies: ["JSONCodec", "TestSupport"]),
        .testTarget(name: "WebSocketCodecTests", dependencies: ["WebSocketCodec", "TestSupport"]),
        .testTarget(name: "EventStreamCodecTests", dependencies: ["EventStreamCodec", "TestSupport"]),
        .testTarget(name: "HTTP1CodecTests", dependencies: ["HTTP1Codec", "TestSupport"]),
        // Says what our HTTP/1.1 parser and NIO's read in the same bytes; for Tests/Conformance/http1.
        .executableTarget(
            name: "HTTP1Oracle",
            dependencies: [
                "HTTP1Codec", .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOEmbedded", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
            ],
            path: "Tests/HTTP1Oracle"
        ),
        // A subscriber that says how it stands, for the tests with proxies.
        .executableTarget(name: "ProxyClient", dependencies: ["TocsinClient"], path: "Tests/ProxyClient"),
        .testTarget(
            name: "TocsinClientTests",
            dependencies: [
                "TocsinClient", "JSONCodec", "WebSocketCodec", "HTTP1Codec",
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ]
        ),
        .testTarget(name: "HTTP2SessionTests", dependencies: ["HTTP2Session", "TestSupport"]),
        .testTarget(name: "TLSEngineTests", dependencies: ["TLSEngine", "TestSupport"]),
        .testTarget(name: "LoadGeneratorTests", dependencies: ["LoadGenerator"]),
        .testTarget(name: "TransportComparisonTests", dependencies: ["TransportComparison"]),
    ]
)

// The fuzzers, only when they are asked for: their executables need libFuzzer, and all that they look into is compiled for it.
// `-assert-config Debug` keeps the checks of a debug build in an optimised one.
if Context.environment["TOCSIN_FUZZ"] == "1" {
    let sanitizers = ["-sanitize=fuzzer,address"]
    let fuzzed: Set = [
        "Transports", "NotificationCore", "JSONCodec", "CBORCodec", "WebSocketCodec", "EventStreamCodec", "HTTP1Codec", "HTTP2Session",
        "FuzzTargets",
    ]
    package.targets.append(.target(name: "FuzzDriver", path: "Tests/Fuzz/Driver"))
    for name in ["JSON", "CBOR", "WebSocket", "EventStream", "HTTP1Request", "HTTP1Response", "HTTP2", "Commands", "Requests", "Names"] {
        package.targets.append(
            .executableTarget(
                name: "Fuzz\(name)", dependencies: ["FuzzTargets", "FuzzDriver"], path: "Tests/Fuzz/\(name)",
                linkerSettings: [.unsafeFlags(sanitizers + ["-use-ld=lld"])]
            )
        )
    }
    for target in package.targets where fuzzed.contains(target.name) {
        target.swiftSettings = (target.swiftSettings ?? []) + [.unsafeFlags(sanitizers + ["-assert-config", "Debug"])]
    }
}

// One loop over all targets, so that none can forget.
for target in package.targets where target.type != .system {
    target.swiftSettings =
        (target.swiftSettings ?? []) + [
            .swiftLanguageMode(.v6),
            .enableUpcomingFeature("ExistentialAny"),
            .enableUpcomingFeature("InternalImportsByDefault"),
            .enableUpcomingFeature("MemberImportVisibility"),
            .treatAllWarnings(as: .error),
        ] + (Context.environment["TOCSIN_DEFECTS"] == "1" ? [.define("DEFECTS")] : [])
}
