# Tocsin. `make demo` shows it, `make test` checks it; both install what is missing on Debian 12 and say so.

SHELL := /bin/bash
SWIFT ?= swift
JOBS ?= 2
RELEASE := .build/release/tocsin
DEMO_ARGUMENTS ?=
SEEDS ?= 500
SECONDS ?= 60
SANITIZER ?= thread
TORTURE_ARGUMENTS ?=
PEER_ARGUMENTS ?=
BENCH_ARGUMENTS ?=

BUILD_PACKAGES := libssl-dev libnghttp2-dev libsqlite3-dev zlib1g-dev pkg-config
TEST_PACKAGES := curl openssl iproute2 python3 python3-venv gcc libc6-dev chromium firefox-esr nghttp2-client nodejs node-ws prometheus

.PHONY: help demo test unit browser-client proxies proxies-quick sanitize interop bench bench-store bench-peers bench-quick scale compare torture torture-quick takeover conformance conformance-quick testssl attacks attacks-quick \
	fuzz simulate simulate-defects build release lint format setup setup-test clean

help: ## What can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

demo: release ## Runs the server with a page that shows it at work, on http://127.0.0.1:8080/
	$(RELEASE) demo $(DEMO_ARGUMENTS)

test: setup-test ## Everything that has to pass: unit and interop tests, simulation, short forms of the slow suites
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory interop
	@$(MAKE) --no-print-directory browser-client
	@$(MAKE) --no-print-directory proxies-quick
	@$(MAKE) --no-print-directory simulate
	@$(MAKE) --no-print-directory torture-quick
	@$(MAKE) --no-print-directory conformance-quick
	@$(MAKE) --no-print-directory attacks-quick
	@$(MAKE) --no-print-directory bench-quick
	@echo "== make test: all passed"

unit: setup ## The tests in Swift
	@echo "== building the tests (the first time some minutes)"
	$(SWIFT) build --build-tests -j $(JOBS)
	@echo "== unit tests"
	@set -o pipefail; $(SWIFT) test --skip-build --parallel --num-workers $(JOBS) 2>&1 | tee .build/unit.log \
		| grep --line-buffered -v -e '^◇' -e 'Test case passing' || { \
			echo "== what failed (.build/unit.log has everything)"; \
			tail -n 40 .build/unit.log; \
			grep -a -e '✘' -e 'Fatal error' -e 'error:' .build/unit.log; \
			exit 1; }

browser-client: setup-test ## The tests of tocsin.js, in Node
	@echo "== tests of tocsin.js (Tests/Browser)"
	$(SWIFT) build --product tocsin -j $(JOBS)
	TOCSIN_BINARY=$(CURDIR)/.build/debug/tocsin node --test Tests/Browser/

interop: setup-test ## Clients written elsewhere, against the real server: curl, Python, Chromium
	@echo "== building the server"
	$(SWIFT) build --product tocsin -j $(JOBS)
	@echo "== interop tests (Tests/Interop)"
	TOCSIN_BINARY=$(CURDIR)/.build/debug/tocsin bash Tests/Interop/run

bench: release ## What deliveries, idle subscribers and reconnects cost, beside their bars; BENCH_ARGUMENTS='--only websocket' chooses; 15 minutes
	@$(call install,gcc libc6-dev openssl)
	@mkdir -p Docs/benchmarks
	TOCSIN_BINARY=$(CURDIR)/$(RELEASE) python3 Tests/Bench/bench.py $(if $(BENCH_ARGUMENTS),$(BENCH_ARGUMENTS),--out Docs/benchmarks/bench.json)

bench-store: release ## Publishing with fsync, replay of a million messages, dashboards; about ten minutes
	@mkdir -p Docs/benchmarks
	python3 Tests/Bench/storebench.py --binary $(CURDIR)/$(RELEASE) --out Docs/benchmarks/store.json

bench-peers: release ## The same loads on Tocsin and on nchan (nginx), in turns; PEER_ARGUMENTS chooses; about eight minutes
	@$(call install,libnginx-mod-nchan openssl)
	@mkdir -p Docs/benchmarks
	python3 Tests/Bench/peers.py --binary $(CURDIR)/$(RELEASE) --out Docs/benchmarks/peers.json $(PEER_ARGUMENTS)

scale: release ## 100,000 subscribers, then 1,000,000 subscriptions, on this machine; some minutes, 8 GiB of memory
	@mkdir -p Docs/benchmarks
	python3 Tests/Bench/scale.py --binary $(CURDIR)/$(RELEASE) --out Docs/benchmarks/scale.json

compare: release ## WebSocket, SSE, long-polling and short polling against each other, on real networks too; about ten minutes
	@$(call install,iproute2 openssl)
	$(RELEASE) compare --out Docs

bench-quick: release ## The same with little load: shows that it runs and loses nothing, not how fast
	@echo "== short benchmarks"
	TOCSIN_BINARY=$(CURDIR)/$(RELEASE) python3 Tests/Bench/bench.py --quick
	python3 Tests/Bench/storebench.py --binary $(CURDIR)/$(RELEASE) --quick
	python3 Tests/Bench/scale.py --binary $(CURDIR)/$(RELEASE) --quick

torture: release ## Kills the server 50 times under load; an independent checker looks at every message; some minutes
	bash Tests/Torture/run --binary $(CURDIR)/$(RELEASE) --kills 50 $(TORTURE_ARGUMENTS)

torture-quick: release ## The same with 8 kills
	@echo "== short torture"
	bash Tests/Torture/run --binary $(CURDIR)/$(RELEASE) --kills 8 --seconds-between 0.3:1 --subscribers 120

takeover: release ## Restarts a server with `--takeover` under 5,000 clients of all transports, over 60 seconds; figures and plot in Docs/operations
	@echo "== takeover"
	python3 Tests/Takeover/takeover.py --binary $(CURDIR)/$(RELEASE) --out Docs/operations/takeover

proxies: release setup-test ## Clients behind real proxies and bad networks; the tables in Docs/fallback.md; about 25 minutes
	$(SWIFT) build --product ProxyClient -j $(JOBS)
	TOCSIN_BINARY=$(CURDIR)/$(RELEASE) TOCSIN_PROXY_CLIENT=$(CURDIR)/.build/debug/ProxyClient bash Tests/Proxies/run --write

proxies-quick: release setup-test ## The same with some of the ways; two minutes
	$(SWIFT) build --product ProxyClient -j $(JOBS)
	TOCSIN_BINARY=$(CURDIR)/$(RELEASE) TOCSIN_PROXY_CLIENT=$(CURDIR)/.build/debug/ProxyClient bash Tests/Proxies/run --quick

conformance: release setup-test ## Autobahn (all cases), h2spec's cases, RFC 8441, other HTTP/1.1 parsers; reports in Docs/conformance; half an hour
	$(SWIFT) build --product HTTP1Oracle -j $(JOBS)
	bash Tests/Conformance/run $(RELEASE) .build/debug/HTTP1Oracle

testssl: release setup-test ## The TLS port graded by testssl.sh of Debian's backports; some minutes
	@$(call install,testssl.sh)
	python3 Tests/Conformance/tls.py --binary $(RELEASE) --json Docs/conformance/testssl.json

conformance-quick: release setup-test ## The same with a part of Autobahn's cases and fewer requests
	$(SWIFT) build --product HTTP1Oracle -j $(JOBS)
	bash Tests/Conformance/run $(RELEASE) .build/debug/HTTP1Oracle --quick

attacks: release setup-test ## What hostile peers try, while others are served; half an hour
	TOCSIN_BINARY=$(CURDIR)/$(RELEASE) bash Tests/Attacks/run --long

attacks-quick: release setup-test ## The same for some seconds each
	@echo "== attacks"
	TOCSIN_BINARY=$(CURDIR)/$(RELEASE) bash Tests/Attacks/run -q

sanitize: setup ## The tests in Swift, watched by a sanitizer: SANITIZER=thread or address
	@echo "== unit tests with the $(SANITIZER) sanitizer"
	$(SWIFT) build --build-tests --sanitize=$(SANITIZER) --scratch-path .build-$(SANITIZER) -j $(JOBS)
	TSAN_OPTIONS=suppressions=$(CURDIR)/Tests/Sanitizers/thread.txt ASAN_OPTIONS=detect_leaks=0 \
		TOCSIN_SANITIZER=$(SANITIZER) SWIFT_BACKTRACE=enable=no \
		$(SWIFT) test --skip-build --sanitize=$(SANITIZER) --scratch-path .build-$(SANITIZER) --parallel --num-workers $(JOBS)

fuzz: setup ## Runs each fuzzer for SECONDS (60); findings go to Fixtures/Fuzz
	Tests/Fuzz/run $(SECONDS)

simulate: setup ## The whole server over a simulated clock, network and disk: SEEDS=500 scenarios, each held to the promise
	@echo "== simulation"
	$(SWIFT) build --product Simulation -j $(JOBS)
	.build/debug/Simulation --seeds $(SEEDS)
	.build/debug/Simulation --fail-each

simulate-defects: setup ## Shows that the simulation can fail: each deliberate defect has to be caught
	TOCSIN_DEFECTS=1 $(SWIFT) build --product Simulation -j $(JOBS) --scratch-path .build-defects
	.build-defects/debug/Simulation --defect all --seeds 1000

build: setup ## A debug build
	$(SWIFT) build -j $(JOBS)

release: setup ## An optimised build, in .build/release/tocsin
	@echo "== building the server, optimised (the first time some minutes)"
	$(SWIFT) build -c release --product tocsin -j $(JOBS)

lint: ## Is the code formatted as .swift-format says?
	@echo "== swift format lint"
	$(SWIFT) format lint --strict --parallel --recursive Sources Tests Package.swift

format: ## Formats the code
	$(SWIFT) format --in-place --parallel --recursive Sources Tests Package.swift

setup:
	@$(call install,$(BUILD_PACKAGES))

setup-test: setup
	@$(call install,$(TEST_PACKAGES))

clean: ## Removes what was built
	rm -rf .build .build-defects .build-fuzz .build-thread .build-address .venv-interop .venv-conformance .venv-autobahn .venv-proxies

# Installs the Debian packages that are missing, if it may.
define install
missing=""; for package in $(1); do \
	dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'install ok installed' || missing="$$missing $$package"; done; \
if [ -n "$$missing" ]; then \
	if [ "$$(id -u)" = 0 ]; then sudo=; elif command -v sudo >/dev/null; then sudo=sudo; else \
		echo "these packages are missing, and only root can install them:$$missing" >&2; exit 1; fi; \
	echo "== installing$$missing"; \
	$$sudo apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
fi
endef
