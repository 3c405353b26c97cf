# Common commands. `make` without arguments lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
CARGO ?= cargo
RUST_NEEDED := 1.94
INSTALL_DENY := cargo install cargo-deny@0.20.2 --locked

.DEFAULT_GOAL := help
.PHONY: help setup rust demo platform build test api-fuzzer browser console-shots soak fuzz lint advisories sbom bench doc clips

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install dependencies (Debian packages, ONNX Runtime); takes seconds if they are installed
	@edge-deploy/setup.sh --build

rust:
	@have=$$($(CARGO) --version 2>/dev/null | awk '{ print $$2 }') || true; \
	if [ -z "$$have" ]; then \
	  echo "make: $(CARGO) not found; gridwatch needs Rust $(RUST_NEEDED) or newer: install it from rustup.rs, then open a new shell." >&2; exit 1; \
	fi; \
	if [ "$$(printf '%s\n' "$(RUST_NEEDED)" "$$have" | sort -V | head -n 1)" != "$(RUST_NEEDED)" ]; then \
	  echo "make: Rust $$have is too old; gridwatch needs $(RUST_NEEDED) or newer: run 'rustup update stable'." >&2; exit 1; \
	fi

# Debug information is moved out of the programs into NAME.debug beside each, which debuggers and Rust's backtraces find there by themselves.
# A program that was not linked again has none left to move.
split_symbols = cd target/release && for program in $(1); do \
  if readelf -S $$program | grep '\.debug_line' >/dev/null; then \
    objcopy --only-keep-debug --compress-debug-sections $$program $$program.debug && \
    objcopy --strip-debug --remove-section=.gnu_debuglink --add-gnu-debuglink=$$program.debug $$program || exit 1; \
  fi; \
done

build: rust setup ## Build target/release/gridwatch, gridwatch-hub and gridwatch-lab, their symbols beside them in *.debug
	CARGO_PROFILE_RELEASE_DEBUG=line-tables-only CARGO_PROFILE_RELEASE_STRIP=none $(CARGO) build --release --locked -p gridwatch -p gridwatch-hub -p gridwatch-lab
	@$(call split_symbols,gridwatch gridwatch-hub gridwatch-lab)

demo: build ## Run three cameras, a broker, the daemon and a subscriber on this machine; stop with Ctrl-C
	./target/release/gridwatch-lab demo

PLATFORM_DATA ?= gridwatch-hub-data
platform: build ## Run the demo with gridwatch-hub as its platform, whose data stay in PLATFORM_DATA=gridwatch-hub-data; stop with Ctrl-C
	./target/release/gridwatch-lab demo --hub $(PLATFORM_DATA)

# Everything once with all features; then the commands again without native libraries, where some answer differently.
test: rust setup ## Run all tests, with cargo nextest if it is installed
	@without="-p gridwatch -p gridwatch-camera -p gridwatch-model -p gridwatch-vision --no-default-features --lib --test cli"; \
	if $(CARGO) nextest --version >/dev/null 2>&1; then \
	  run="$(CARGO) nextest run"; \
	else \
	  export RUST_TEST_THREADS=$${RUST_TEST_THREADS:-6}; run="$(CARGO) test"; \
	fi; \
	set -x; \
	$$run --locked --workspace --no-fail-fast; \
	$$run --locked $$without --no-fail-fast

api-fuzzer: ## Install the fuzzer of the JSON API (Python) outside the repository; without it its tests are skipped
	@crates/console/tests/schemathesis/setup.sh

browser: setup ## Install what the browser tests need (Chromium, Node, node modules); without it they are skipped
	@crates/console/web/test/setup.sh

console-shots: setup browser ## Make the pictures of docs/console.md anew, with the demo's cameras
	$(CARGO) build --locked -p gridwatch -p gridwatch-lab
	cd crates/console/web && node scripts/console-shots.mjs

MINUTES ?= 30
soak: rust setup ## Fault injection for MINUTES=30: kills, broker failures, cut connections, full disks; prints the counts
	GRIDWATCH_SOAK_MINUTES=$(MINUTES) $(CARGO) test --locked --test faults -- --nocapture

FUZZ_MINUTES ?= 60
FUZZ_TARGETS := message session_description challenge h264 h265 jpeg client h264_keyframe h265_keyframe fmp4 onvif_discovery onvif_answer
# libFuzzer with the coverage counters of the stable compiler, so that no nightly compiler is needed. The flags are those of cargo-fuzz without its sanitizers:
# the code that is fuzzed has no unsafe part.
FUZZ_FLAGS := --cfg fuzzing -Cdebug-assertions -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares

fuzz: rust setup ## Fuzz what reads the bytes of cameras, FUZZ_MINUTES=60 for all targets together; inputs that fail are kept in fuzz/artifacts
	host=$$(rustc -vV | sed -n 's/^host: //p'); \
	RUSTFLAGS="$(FUZZ_FLAGS)" $(CARGO) build --release --locked --manifest-path fuzz/Cargo.toml --target-dir target/fuzz --target "$$host"; \
	for target in $(FUZZ_TARGETS); do \
	  mkdir -p fuzz/corpus/$$target fuzz/artifacts/$$target; \
	  echo "fuzz: $$target"; \
	  "target/fuzz/$$host/release/$$target" fuzz/corpus/$$target crates/*/corpus/$$target -artifact_prefix=fuzz/artifacts/$$target/ \
	    -max_total_time=$$(( $(FUZZ_MINUTES) * 60 / $(words $(FUZZ_TARGETS)) )) -max_len=65536 -rss_limit_mb=1024 -timeout=10 -print_final_stats=1; \
	done

lint: rust setup ## Check formatting, clippy, documentation, dependency policy and shell scripts
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked -p gridwatch --all-targets --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
	  $(CARGO) deny --locked check bans licenses sources; \
	else \
	  echo "make lint: skipped deny.toml: cargo-deny is not installed ($(INSTALL_DENY))."; \
	fi
	@if command -v shellcheck >/dev/null; then \
	  shellcheck edge-deploy/*.sh demo/*.sh .ci/run; \
	else \
	  echo "make lint: skipped the shell scripts: shellcheck is not installed (apt-get install shellcheck)."; \
	fi

# By whoever maintains a release, once a week and before each release: a new advisory does not wait for a change here.
advisories: rust ## Check the dependencies against the RustSec database (needs cargo-deny and access to github.com)
	@if ! $(CARGO) deny --version >/dev/null 2>&1; then \
	  echo "make advisories: cargo-deny is not installed ($(INSTALL_DENY))." >&2; exit 1; \
	fi
	@$(CARGO) deny --locked fetch db || { \
	  echo "make advisories: nothing was checked: the database could not be fetched from github.com." >&2; exit 1; }
	@$(CARGO) deny --locked check advisories
	@$(CARGO) deny --locked --manifest-path fuzz/Cargo.toml --config deny.toml check --allow license-not-encountered \
	  advisories bans licenses sources

sbom: build ## Write the bill of materials (CycloneDX) and the licence texts of the linked crates to target/sbom
	./target/release/gridwatch-lab sbom --out target/sbom --program target/release/gridwatch

bench: build ## Run 50 cameras for 30 seconds beside the ffmpeg comparison; figures are in docs/performance.md
	./target/release/gridwatch-lab bench cameras --count 50 --seconds 30 --look-every 10s

doc: rust setup ## Build the API documentation: target/doc/gridwatch/index.html
	$(CARGO) doc --locked --workspace --no-deps

clips: ## Regenerate the demo clips (Python; see docs/demo.md)
	python3 demo/make_clips.py
