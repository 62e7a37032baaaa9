# canopsis-connector-prometheus
.PHONY: all audit build check clean demo faults fuzz help

all: build

help:
	@echo 'make         builds the release binary, target/release/canopsis-connector-prometheus'
	@echo 'make check   format, clippy, unit tests, and tests of the real binary on a real RabbitMQ and Alertmanager'
	@echo 'make demo    shows an alert on its way from Alertmanager to the queue, on this machine'
	@echo 'make audit   licences, sources and known advisories of all dependencies (cargo-deny; needs the Internet)'
	@echo 'make faults  the tests of faults alone, with the account that each gives'
	@echo 'make fuzz    five minutes of noise for each parser that faces the network (cargo-fuzz; needs a nightly compiler)'
	@echo 'make clean   removes what was built'

build:
	scripts/install-missing build
	cargo build --locked --release

check:
	scripts/install-missing build rabbitmq alertmanager openssl shellcheck
	shellcheck scripts/* .ci/run
	cargo fmt --check
	cargo clippy --locked --all-targets -- --deny warnings
	cargo test --locked

demo:
	scripts/demo

audit:
	command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny --locked check

faults:
	scripts/install-missing build rabbitmq
	cargo test --locked --test faults -- --nocapture

fuzz:
	command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	mkdir -p fuzz/corpus/notification
	cp tests/data/payloads/*.json fuzz/corpus/notification/
	cargo +nightly fuzz run notification -- -max_total_time=300
	cargo +nightly fuzz run http_head -- -max_total_time=300

clean:
	cargo clean
