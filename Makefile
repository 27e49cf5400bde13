# Posthaste: the commands that a newcomer needs. `make help` lists them.

CARGO ?= cargo

.PHONY: help demo test lint bench soak fuzz build docs

help: ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build the binary (target/release/posthaste)
	$(CARGO) build --release -p posthaste

demo: build ## start Posthaste with an example policy, send real mail through it, show what happened
	target/release/posthaste demo

test: lint ## install what the tests need, then run every test
	scripts/test-packages
	$(CARGO) test --workspace
	@echo "all tests passed"

lint: ## formatting, clippy with warnings as errors, licences and duplicates where cargo-deny is installed
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	scripts/licences
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --offline check licenses bans; \
	 else echo "cargo-deny is not installed: duplicates were not checked"; fi

bench: build ## Posthaste and Postfix side by side, both syncing to disk; prints ratios
	scripts/test-packages
	scripts/bench

soak: build ## the long forms of the tests: a thousand kills, a million queued messages, long fuzzing
	scripts/test-packages
	POSTHASTE_SOAK=1 $(CARGO) test --workspace --release -- --nocapture

fuzz: ## every fuzz target for a bounded time (FUZZ_SECONDS, default 60 each)
	scripts/fuzz

docs: build ## write the generated pages again (options, console, API, formats, man page, completions)
	target/release/posthaste docs --write docs
