# canopsis-connector-prometheus
.PHONY: all audit bench build check check-offline check-packaging clean demo dist docker faults fuzz help install lint-packaging man rpm

NAME = canopsis-connector-prometheus
CARGO ?= cargo

# Installs what a target needs; ":" where nothing may be installed, as in a package build.
PREPARE = scripts/install-missing

# Where "make install" puts things; all of it below DESTDIR.
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

# The binary must not tell where it was built, and is the same wherever that was: from git with the crates of ~/.cargo, or from a
# release archive with those in vendor/ (the long name is what cargo calls crates.io).
CARGO_HOME ?= $(HOME)/.cargo
REMAP = --remap-path-prefix=$(CURDIR)=/build --remap-path-prefix=$(CARGO_HOME)/registry/src=/cargo \
	--remap-path-prefix=$(CURDIR)/vendor=/cargo/index.crates.io-1949cf8c6b5b557f

# LINK=packed: relocations take 0.2 MB less, which glibc 2.36 understands and RHEL's does not yet. For the image.
LINKING = $(if $(filter packed,$(LINK)),-Clink-arg=-Wl$(comma)-z$(comma)pack-relative-relocs)
comma = ,

all: build man

help:
	@echo 'make         builds the release binary, target/release/canopsis-connector-prometheus, and the manual pages'
	@echo 'make check   format, clippy, unit tests, and tests of the real binary on a real RabbitMQ and Alertmanager'
	@echo 'make demo    shows an alert on its way from Alertmanager to the queue, on this machine'
	@echo 'make audit   licences, sources and known advisories of all dependencies (cargo-deny; needs the Internet)'
	@echo 'make faults  the tests of faults alone, with the account that each gives'
	@echo 'make fuzz    five minutes of noise for each parser that faces the network (cargo-fuzz, which is installed if need be)'
	@echo 'make bench   measures throughput, latency and footprint, beside bridges in Python and Node.js (a quarter of an hour)'
	@echo 'make clean   removes what was built'

build:
	$(PREPARE) build
	RUSTFLAGS="$(REMAP) $(LINKING)" $(CARGO) build --locked --release

check:
	$(PREPARE) build rabbitmq alertmanager promtool openssl shellcheck rpm rpmlint scdoc systemd-analyze readelf \
		buildah debootstrap podman runc valgrind
	shellcheck scripts/* .ci/run contrib/image/healthcheck
	$(MAKE) lint-packaging
	cargo fmt --check
	cargo clippy --locked --all-targets -- --deny warnings
	cargo test --locked
	$(MAKE) build
	$(BINARY) --check --config tests/data/regexps.yml >/dev/null
	scripts/instructions --check

# What needs no broker and no Alertmanager: the part of the tests that a package build runs.
NEEDS_SERVERS = signals_end_it_with_status_0 alertmanager_takes_the_example
check-offline:
	$(CARGO) test --locked --lib --test cli --test properties --test readme -- $(NEEDS_SERVERS:%=--skip %)

demo:
	scripts/demo

man: $(MANPAGES)

man/%: man/%.scd
	$(PREPARE) scdoc
	SOURCE_DATE_EPOCH=$$(scripts/version date) scdoc <$< >$@

# An existing configuration is kept. The group canopsis comes with the package canopsis-common; where it is missing, only root can
# read the configuration.
install:
	@test -x $(BINARY) && test -f man/$(NAME).8 || { echo 'make install: nothing is built yet; run "make" first' >&2; exit 1; }
	install -D -m 0755 $(BINARY) $(DESTDIR)$(bindir)/$(NAME)
	install -d -m 0755 $(DESTDIR)$(unitdir) $(DESTDIR)$(sysconfdir) $(DESTDIR)$(confdir)
	sed 's|/usr/bin/|$(bindir)/|' $(NAME).service >$(DESTDIR)$(unitdir)/$(NAME).service
	chmod 0644 $(DESTDIR)$(unitdir)/$(NAME).service
	test -e $(DESTDIR)$(sysconfdir)/$(NAME) || install -m 0640 sysconfig $(DESTDIR)$(sysconfdir)/$(NAME)
	test -e $(DESTDIR)$(confdir)/config.yml || install -m 0640 config.yml $(DESTDIR)$(confdir)/config.yml
	if [ "$$(id -u)" = 0 ] && getent group canopsis >/dev/null; then chgrp canopsis $(DESTDIR)$(confdir)/config.yml; fi
	install -D -m 0644 man/$(NAME).8 $(DESTDIR)$(mandir)/man8/$(NAME).8
	install -D -m 0644 man/$(NAME).yml.5 $(DESTDIR)$(mandir)/man5/$(NAME).yml.5
	install -D -m 0644 LICENSE $(DESTDIR)$(licensedir)/LICENSE
	install -d -m 0755 $(DESTDIR)$(docdir)
	install -m 0644 README.md CHANGELOG.md config.yml $(DESTDIR)$(docdir)
	install -d -m 0755 $(DESTDIR)$(docdir)/contrib
	install -m 0644 contrib/*.json contrib/*.yml contrib/*.xml $(DESTDIR)$(docdir)/contrib
	install -D -m 0644 contrib/firewalld.xml $(DESTDIR)$(PREFIX)/lib/firewalld/services/$(NAME).xml

# The release archive, dist/build/$(NAME)-VERSION.tar.gz: builds without the Internet; the same bytes from the same commit.
dist:
	scripts/dist

rpm:
	$(MAKE) -C dist rpm

# Where the sources are, for the image's label.
SOURCE ?= $(CI_PROJECT_URL)

docker:
	docker build --build-arg VERSION="$$(scripts/version)" --build-arg COMMIT="$$(scripts/version commit)" \
		--build-arg SOURCE="$(SOURCE)" --tag $(NAME):"$$(scripts/version)" .

lint-packaging:
	scripts/lint-packaging

check-packaging:
	$(PREPARE) build rpm scdoc systemd-analyze readelf debootstrap systemd-nspawn cpio curl ip
	scripts/check-packaging

audit:
	command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny --locked check

bench:
	scripts/install-missing build rabbitmq venv node npm valgrind
	RUSTFLAGS="$(REMAP)" scripts/bench

faults:
	scripts/install-missing build rabbitmq
	cargo test --locked --test faults -- --nocapture

# Coverage needs what only a nightly compiler offers by itself; the pinned one is told to offer it, too.
FUZZ_SECONDS = 300
FUZZ = RUSTC_BOOTSTRAP=1 cargo fuzz run
fuzz:
	command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	mkdir -p fuzz/corpus/notification
	cp tests/data/payloads/*.json fuzz/corpus/notification/
	$(FUZZ) notification -- -max_total_time=$(FUZZ_SECONDS)
	$(FUZZ) http_head -- -max_total_time=$(FUZZ_SECONDS)

clean:
	cargo clean
	rm -rf dist/build $(MANPAGES)
