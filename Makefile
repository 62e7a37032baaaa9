# canopsis-connector-prometheus
.PHONY: all build check demo clean help

all: build

help:
	@echo 'make         builds the release binary, target/release/canopsis-connector-prometheus'
	@echo 'make check   format, clippy, unit tests, and tests of the real binary on a real RabbitMQ and Alertmanager'
	@echo 'make demo    shows an alert on its way from Alertmanager to the queue, on this machine'
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

clean:
	cargo clean
