# A small image: the server with a static Swift runtime, run by an unprivileged user.
#
#   docker build -t tocsin .
#   docker run --rm -p 8080:8080 tocsin

FROM swift:6.3-bookworm AS build
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends libssl-dev libnghttp2-dev libsqlite3-dev zlib1g-dev pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Package.swift ./
COPY Sources Sources
COPY Tests Tests
COPY Fixtures Fixtures
RUN swift build -c release --product tocsin --static-swift-stdlib && strip .build/release/tocsin

FROM debian:12-slim
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends libssl3 libnghttp2-14 libstdc++6 curl ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --no-create-home --shell /usr/sbin/nologin tocsin
COPY --from=build /src/.build/release/tocsin /usr/local/bin/tocsin
USER tocsin
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s CMD ["curl", "--fail", "--silent", "--show-error", "http://127.0.0.1:8080/healthz"]
ENTRYPOINT ["tocsin"]
CMD ["serve", "--host", "0.0.0.0"]
