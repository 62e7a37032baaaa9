# The container image. The build context has no git, so "make docker" passes the version:
#
#   docker build --build-arg VERSION="$(scripts/version)" --build-arg COMMIT="$(scripts/version commit)" .
#
# In a release archive, .version, .commit and the arguments below have it. Without either, the build fails.

# The base images. --build-arg replaces one, for example with a mirror's.
#
# busybox:glibc is built on Debian trixie (glibc 2.41). The builder is older, bookworm (glibc 2.36): a binary does not start on
# a glibc older than the one it was linked with. trixie's OpenSSL 3.5 would also be 2.2 MB larger than bookworm's 3.0.
# The Rust version must equal that of rust-toolchain.toml. That file is not in the context: it lists rustfmt and clippy, which
# the image lacks, and rustup would download them.
ARG RUST_IMAGE=docker.io/library/rust:1.95.0-bookworm
ARG BUSYBOX_IMAGE=docker.io/library/busybox:1.38.0-glibc
ARG CERTS_IMAGE=docker.io/library/alpine:3.22

# hadolint ignore=DL3006
FROM ${CERTS_IMAGE} AS certs

# hadolint ignore=DL3006
FROM ${RUST_IMAGE} AS build
WORKDIR /build

# Dependencies first: this layer is cached until Cargo.lock, the Makefile, stand-ins/ or crates/ change. The placeholder program is
# removed, so that cargo rebuilds the real one. The empty benchmarks stay: Cargo.toml names them, and they are not in the context.
COPY Cargo.toml Cargo.lock Makefile ./
COPY scripts/install-missing scripts/
COPY stand-ins/ stand-ins/
COPY crates/ crates/
RUN mkdir -p src benches/bridge \
    && echo 'fn main() {}' >src/main.rs \
    && touch benches/mapping.rs benches/bridge/main.rs \
    && make build LINK=packed \
    && cargo clean --locked --release --package canopsis-connector-prometheus \
    && rm -r src

COPY . .
ARG VERSION=""
ARG COMMIT=""
RUN if [ -n "$VERSION" ]; then echo "$VERSION" >.version; fi \
    && if [ -n "$COMMIT" ]; then echo "$COMMIT" >.commit; fi \
    && scripts/version upstream \
    && scripts/version commit \
    && make build LINK=packed
# The libraries that busybox:glibc lacks. The loaders of x86_64 and aarch64 search /usr/lib without ld.so.cache.
RUN mkdir -p /image/usr/bin /image/usr/lib \
    && cp target/release/canopsis-connector-prometheus /image/usr/bin/ \
    && ldd /image/usr/bin/canopsis-connector-prometheus >libraries \
    && for library in libssl.so.3 libcrypto.so.3 libgcc_s.so.1; do \
        cp -L "$(awk -v name="$library" '$1 == name { print $3 }' libraries)" /image/usr/lib/ || exit 1; \
    done \
    && licenses=/image/usr/share/licenses/canopsis-connector-prometheus \
    && mkdir -p "$licenses" \
    && cp LICENSE THIRD-PARTY-LICENSES "$licenses/" \
    && cp /usr/share/doc/libssl3/copyright "$licenses/OpenSSL" \
    && cp /usr/share/doc/libgcc-s1/copyright "$licenses/libgcc"

# hadolint ignore=DL3006
FROM ${BUSYBOX_IMAGE}
ARG VERSION=""
ARG COMMIT=""
ARG CREATED=""
ARG SOURCE=""
ARG BUSYBOX_IMAGE
ARG BUSYBOX_DIGEST=""
# The licences are those of the binary (scripts/licenses), then of busybox, glibc, libgcc and the CA certificates.
LABEL org.opencontainers.image.title="canopsis-connector-prometheus" \
    org.opencontainers.image.description="Turns Prometheus Alertmanager notifications into Canopsis events on RabbitMQ" \
    org.opencontainers.image.licenses="MIT AND Apache-2.0 AND (Apache-2.0 OR BSL-1.0) AND (Apache-2.0 OR MIT) AND BSD-2-Clause AND BSD-3-Clause AND (MIT OR Unlicense) AND GPL-2.0-only AND LGPL-2.1-or-later AND GPL-3.0-or-later WITH GCC-exception-3.1 AND MPL-2.0" \
    org.opencontainers.image.vendor="The maintainers of canopsis-connector-prometheus" \
    org.opencontainers.image.url="https://git.canopsis.net/canopsis-connectors/connector-prometheus" \
    org.opencontainers.image.documentation="https://git.canopsis.net/canopsis-connectors/connector-prometheus/-/blob/main/README.md" \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$COMMIT" \
    org.opencontainers.image.created="$CREATED" \
    org.opencontainers.image.source="$SOURCE" \
    org.opencontainers.image.base.name="$BUSYBOX_IMAGE" \
    org.opencontainers.image.base.digest="$BUSYBOX_DIGEST"
# No RUN in this stage, so that it builds for other architectures without emulation. The most stable layers come first.
COPY --from=certs --chown=0:0 --chmod=0644 /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build --chown=0:0 --chmod=0755 /image/usr/lib/ /usr/lib/
COPY --from=build --chown=0:0 /image/usr/share/licenses/ /usr/share/licenses/
COPY --chown=0:0 --chmod=0755 contrib/image/healthcheck /usr/bin/
COPY --chown=0:0 --chmod=0644 config.yml /etc/canopsis-connectors/prometheus/
COPY --from=build --chown=0:0 --chmod=0755 /image/usr/bin/ /usr/bin/
# Numeric: Kubernetes checks runAsNonRoot only for a numeric user. No file of the image belongs to it.
USER 18401:18401
# glibc creates up to 8 malloc arenas per processor, which rarely return memory to the system.
ENV MALLOC_ARENA_MAX=2
# OpenSSL would search in the directories of Debian's package.
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
EXPOSE 18401/tcp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 CMD ["/usr/bin/healthcheck"]
ENTRYPOINT ["/usr/bin/canopsis-connector-prometheus"]
