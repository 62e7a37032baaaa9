# canopsis-connector-prometheus
.PHONY: all audit bench build check check-all check-cluster check-installed check-merge check-offline check-packages clean demo dist docker faults fuzz help install lint man mutants oracle rpm uninstall

NAME = canopsis-connector-prometheus
CARGO ?= cargo

# Installs the tools that a target needs. Package builds set it to ":", because they must not install anything.
PREPARE = scripts/install-missing

# Installation directories, below DESTDIR.
PREFIX ?= /usr/local
bindir = $(PREFIX)/bin
docdir = $(PREFIX)/share/doc/$(NAME)
licensedir = $(PREFIX)/share/licenses/$(NAME)
mandir = $(PREFIX)/share/man
unitdir = $(PREFIX)/lib/systemd/system
confdir = /etc/canopsis-connectors/prometheus
sysconfdir = /etc/sysconfig

TARGET = $(or $(CARGO_TARGET_DIR),target)
BINARY = $(TARGET)/release/$(NAME)
MANPAGES = man/$(NAME).8 man/$(NAME).yml.5

# Reproducible builds: no build path in the binary, and the same bytes from a git checkout with the crates in ~/.cargo and from a
# release archive with the crates in vendor/. index.crates.io-1949cf8c6b5b557f is cargo's directory name for crates.io.
CARGO_HOME ?= $(HOME)/.cargo
REMAP = --remap-path-prefix=$(CURDIR)=/build --remap-path-prefix=$(CARGO_HOME)/registry/src=/cargo \
	--remap-path-prefix=$(CURDIR)/vendor=/cargo/index.crates.io-1949cf8c6b5b557f

# LINK=packed saves 0.2 MB of relocations, for the image. It needs glibc 2.36 at run time; EL 9 has 2.34.
LINKING = $(if $(filter packed,$(LINK)),-Clink-arg=-Wl$(comma)-z$(comma)pack-relative-relocs)
comma = ,

all: build man

help:
	@echo 'make                  build the release binary (target/release/$(NAME)) and the manual pages'
	@echo 'make lint             only the format and the lints'
	@echo 'make check            lint, and the tests of a usual change, with a real RabbitMQ and Alertmanager (8 minutes)'
	@echo 'make check-merge      what a change must pass before it is merged: check, faults, check-packages, demo (as root)'
	@echo 'make check-all        everything that CI runs: check-merge, check-installed, check-cluster (as root)'
	@echo 'make check-packages   build the image, the release archive and the RPM, and check what is in them (as root; 7 minutes)'
	@echo 'make check-installed  install, upgrade and erase the RPM in a Debian root, boot it, and run the service (as root)'
	@echo 'make check-cluster    lose nodes of a RabbitMQ 4 cluster with a quorum queue (as root; 5 minutes)'
	@echo 'make demo             send an alert from Alertmanager to the queue on this machine'
	@echo 'make audit            licences, sources and advisories of all dependencies (cargo-deny; needs the Internet)'
	@echo 'make faults           the tests with faults, overload and hostile input, and the number of lost and repeated events (8 minutes)'
	@echo 'make fuzz             fuzz templates, configurations and each parser that reads from the network, 5 minutes each (installs cargo-fuzz if missing)'
	@echo 'make oracle           compare random templates with the output of Go (SEED=n repeats a run; installs Go if missing)'
	@echo 'make mutants          plant faults in the modules that carry the promises, and list those that their unit tests miss (hours; MODULES=http/auth for one)'
	@echo 'make bench            throughput, latency and footprint, compared with bridges in Python, Node.js and Go (10 minutes)'
	@echo 'make install          install below DESTDIR and PREFIX ($(PREFIX)); make uninstall removes it, and keeps the configuration'
	@echo 'make dist             make the release archive; make rpm: the packages; make docker: the image'
	@echo 'make clean            remove build products'

build:
	$(PREPARE) build
	RUSTFLAGS="$(REMAP) $(LINKING)" $(CARGO) build --locked --release

# tests/main.rs: which tests run when. CONTRIBUTING.md: which change needs which of them. CI runs all.
INTEGRATION = test --locked --test integration --

lint:
	$(PREPARE) shellcheck
	shellcheck $$(grep -lE '^#!/(bin/sh|usr/bin/env bash)' scripts/*) .ci/run contrib/image/healthcheck
	scripts/lint-files
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- --deny warnings

check: lint
	$(PREPARE) build rabbitmq alertmanager promtool openssl curl scdoc valgrind
	cargo test --locked --workspace --exclude $(NAME)
	cargo test --locked --lib
	$(MAKE) build
	cargo $(INTEGRATION) offline:: release:: servers::
	scripts/instructions --check
	$(MAKE) oracle

# .ci/run runs this in one job, .gitlab-ci.yml a job for each target of check-all.
check-merge: check faults check-packages demo
check-all: check-merge check-installed check-cluster

check-packages:
	$(PREPARE) build rabbitmq alertmanager openssl rpm rpmlint scdoc systemd-analyze readelf buildah debootstrap podman runc
	cargo $(INTEGRATION) packages::

# The tests that a package build runs (%check in the spec), after "make build": without a broker and without Alertmanager.
check-offline:
	$(CARGO) test --locked --package gotemplate --package yamldoc
	$(CARGO) test --locked --lib
	$(CARGO) $(INTEGRATION) offline:: release::

demo:
	scripts/demo

man: $(MANPAGES)

man/%: man/%.scd
	$(PREPARE) scdoc
	SOURCE_DATE_EPOCH=$$(scripts/version date) scdoc <$< >$@

# firewalld reads only /usr/lib and /etc. Keeps an existing configuration. The package canopsis-common creates the group canopsis; without the group, only root can read
# the configuration.
install:
	@test -x $(BINARY) && test -f man/$(NAME).8 || { echo 'make install: not built yet; run "make" first' >&2; exit 1; }
	install -D -m 0755 $(BINARY) $(DESTDIR)$(bindir)/$(NAME)
	install -d -m 0755 $(DESTDIR)$(unitdir) $(DESTDIR)$(sysconfdir) $(DESTDIR)$(confdir)
	sed 's|/usr/bin/|$(bindir)/|' $(NAME).service >$(DESTDIR)$(unitdir)/$(NAME).service
	chmod 0644 $(DESTDIR)$(unitdir)/$(NAME).service
	test -e $(DESTDIR)$(sysconfdir)/$(NAME) || install -m 0640 sysconfig $(DESTDIR)$(sysconfdir)/$(NAME)
	test -e $(DESTDIR)$(confdir)/config.yml || install -m 0640 config.yml $(DESTDIR)$(confdir)/config.yml
	if [ "$$(id -u)" = 0 ] && getent group canopsis >/dev/null; then chgrp canopsis $(DESTDIR)$(confdir)/config.yml; fi
	install -D -m 0644 man/$(NAME).8 $(DESTDIR)$(mandir)/man8/$(NAME).8
	install -D -m 0644 man/$(NAME).yml.5 $(DESTDIR)$(mandir)/man5/$(NAME).yml.5
	install -d -m 0755 $(DESTDIR)$(licensedir)
	install -m 0644 LICENSE THIRD-PARTY-LICENSES $(DESTDIR)$(licensedir)
	install -d -m 0755 $(DESTDIR)$(docdir)
	install -m 0644 *.md config.yml $(DESTDIR)$(docdir)
	install -d -m 0755 $(DESTDIR)$(docdir)/contrib $(DESTDIR)$(docdir)/docs
	install -m 0644 contrib/*.json contrib/*.yml contrib/*.xml $(DESTDIR)$(docdir)/contrib
	install -m 0644 docs/*.md $(DESTDIR)$(docdir)/docs
ifeq ($(PREFIX),/usr)
	install -D -m 0644 contrib/firewalld.xml $(DESTDIR)/usr/lib/firewalld/services/$(NAME).xml
endif

uninstall:
	rm -f $(DESTDIR)$(bindir)/$(NAME) $(DESTDIR)$(unitdir)/$(NAME).service
	rm -f $(DESTDIR)$(mandir)/man8/$(NAME).8 $(DESTDIR)$(mandir)/man5/$(NAME).yml.5
	rm -rf $(DESTDIR)$(licensedir) $(DESTDIR)$(docdir)
ifeq ($(PREFIX),/usr)
	rm -f $(DESTDIR)/usr/lib/firewalld/services/$(NAME).xml
endif
	@echo 'kept: $(DESTDIR)$(confdir) $(DESTDIR)$(sysconfdir)/$(NAME)'

# The release archive, dist/build/$(NAME)-VERSION.tar.gz. It builds without network; the same commit gives the same bytes.
dist:
	scripts/dist

rpm:
	$(MAKE) -C dist rpm

# For the labels of the image: where the sources are, and the digest of the base image.
SOURCE ?= $(CI_PROJECT_URL)
DOCKER ?= docker
BUSYBOX_IMAGE = $(shell sed -n 's/^ARG BUSYBOX_IMAGE=//p' Dockerfile)

docker:
	$(DOCKER) pull --quiet $(BUSYBOX_IMAGE)
	$(DOCKER) build --build-arg VERSION="$$(scripts/version)" --build-arg COMMIT="$$(scripts/version commit)" \
		--build-arg CREATED="$$(date --utc --date="@$$(scripts/version date)" +%FT%TZ)" --build-arg SOURCE="$(SOURCE)" \
		--build-arg BUSYBOX_DIGEST="$$($(DOCKER) image inspect --format '{{index .RepoDigests 0}}' $(BUSYBOX_IMAGE) | sed 's/.*@//')" \
		--tag $(NAME):"$$(scripts/version)" .

check-installed:
	$(PREPARE) build rpm scdoc systemd-analyze readelf debootstrap systemd-nspawn cpio curl ip
	scripts/check-installed

# RabbitMQ 4 is not in Debian 12: it comes from a Debian trixie in target/.
check-cluster:
	$(PREPARE) build rabbitmq debootstrap
	scripts/rabbitmq-4-root $(TARGET)/trixie
	RABBITMQ_4_ROOT=$(abspath $(TARGET)/trixie) $(CARGO) $(INTEGRATION) --ignored --nocapture

audit:
	command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny --locked check

# Pure modules: the unit tests of a module alone must find its faults. One that makes them hang is found, too.
MODULES = event http/auth http/permits http/slots memory pipeline/groups publisher/batch publisher/caller publisher/ledger
# Faults without effect: at such a bound, both sides are right.
WITHOUT_EFFECT = BatchBuilder::finish EntityGroups::record Ledger::limit_parked Window::push
# The time for the tests of one fault. An eighth of the usual cases of property tests: 32, and 1,280 for the ledger.
TIMEOUT = 60
mutants:
	command -v cargo-mutants >/dev/null || cargo install --locked cargo-mutants
	failed=; for module in $(MODULES); do out=$(TARGET)/mutants/$$module; mkdir -p $$out; \
		PROPTEST_CASES=32 cargo mutants --timeout $(TIMEOUT) --output $$out --file "src/$$module.rs" --file "src/$$module/*.rs" \
			$(WITHOUT_EFFECT:%=--exclude-re 'replace > with >= in %') --cargo-arg=--locked --cargo-arg=--lib -- "$$(echo "$$module" | sed 's|/|::|g')::" || \
			{ test $$? -eq 3 && test ! -s $$out/mutants.out/missed.txt; } || failed="$$failed $$module"; \
	done; test -z "$$failed" || { echo "make mutants: faults survived in$$failed" >&2; exit 1; }

bench:
	scripts/install-missing build rabbitmq venv node npm amqp091-go valgrind
	RUSTFLAGS="$(REMAP)" scripts/bench

faults:
	scripts/install-missing build rabbitmq openssl curl
	cargo $(INTEGRATION) --show-output faults::

# Coverage instrumentation needs nightly features; RUSTC_BOOTSTRAP enables them in the pinned stable compiler.
FUZZ_SECONDS = 300
FUZZ = RUSTC_BOOTSTRAP=1 cargo fuzz run
fuzz:
	command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	mkdir -p fuzz/corpus/notification fuzz/corpus/configuration
	cp tests/data/payloads/*.json fuzz/corpus/notification/
	grep -v _file config.yml >fuzz/corpus/configuration/config.yml
	$(FUZZ) notification -- -max_total_time=$(FUZZ_SECONDS)
	$(FUZZ) template -- -max_total_time=$(FUZZ_SECONDS)
	$(FUZZ) http_head -- -max_total_time=$(FUZZ_SECONDS)
	$(FUZZ) configuration -- -max_total_time=$(FUZZ_SECONDS)

# Random templates, rendered by Go and by crates/gotemplate. The same seed makes the same templates.
SEED := $(or $(SEED),$(shell date +%s))
ORACLE_CASES = 2000
oracle:
	$(PREPARE) build go
	cd crates/gotemplate/oracle && test -z "$$(gofmt -l .)" && go vet . && go build -o $(abspath $(TARGET))/oracle .
	$(TARGET)/oracle $(SEED) $(ORACLE_CASES) >$(TARGET)/oracle-cases.json
	@echo 'oracle: seed $(SEED)'
	$(CARGO) run --quiet --locked --package gotemplate --example compare <$(TARGET)/oracle-cases.json

clean:
	cargo clean
	rm -rf dist/build $(MANPAGES)
