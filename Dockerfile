# The image of the connector. Its version comes from outside, because git is not in the context ("make docker" passes it):
#
#   docker build --build-arg VERSION="$(scripts/version)" --build-arg COMMIT="$(scripts/version commit)" .
#
# or, in a release archive, from the files .version and .commit; without either it is not built.

# The three base images; another registry's or a mirror's take their place by --build-arg.
#
# busybox:glibc is made on Debian trixie, whose glibc 2.41 runs what was built for the 2.36 of bookworm; the other way round
# nothing would start. The builder is not on trixie, too, because the OpenSSL 3.5 there is 2.2 MB larger than 3.0.
# Keep the version of Rust that of rust-toolchain.toml, which the build does not see: the image has no rustfmt and clippy, for
# which rustup would go to the Internet.
ARG RUST_IMAGE=docker.io/library/rust:1.95.0-bookworm
ARG BUSYBOX_IMAGE=docker.io/library/busybox:1.38.0-glibc
ARG CERTS_IMAGE=docker.io/library/alpine:3.22

# hadolint ignore=DL3006
FROM ${CERTS_IMAGE} AS certs

# hadolint ignore=DL3006
FROM ${RUST_IMAGE} AS build
WORKDIR /build

# The crates first: as long as the lock, the Makefile and stand-ins/ stay, they are taken from the cache. The program that this
# builds on the way is removed, so that cargo never takes it for the real one; the benchmarks stay, as cargo wants to see
# the files.
COPY Cargo.toml Cargo.lock Makefile ./
COPY scripts/install-missing scripts/
COPY stand-ins/ stand-ins/
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
# The libraries that busybox:glibc lacks. They go to /usr/lib, where the loader of either processor looks without any cache.
RUN mkdir -p /image/usr/bin /image/usr/lib \
    && cp target/release/canopsis-connector-prometheus /image/usr/bin/ \
    && ldd /image/usr/bin/canopsis-connector-prometheus >libraries \
    && for library in libssl.so.3 libcrypto.so.3 libgcc_s.so.1; do \
        cp -L "$(awk -v name="$library" '$1 == name { print $3 }' libraries)" /image/usr/lib/ || exit 1; \
    done

# hadolint ignore=DL3006
FROM ${BUSYBOX_IMAGE}
ARG VERSION=""
ARG COMMIT=""
ARG SOURCE=""
LABEL org.opencontainers.image.title="canopsis-connector-prometheus" \
    org.opencontainers.image.description="Turns Prometheus Alertmanager notifications into Canopsis events on RabbitMQ" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$COMMIT" \
    org.opencontainers.image.source="$SOURCE"
# Nothing is run in this stage, so that it can be made for any processor. What changes least comes first.
COPY --from=certs --chown=0:0 --chmod=0644 /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build --chown=0:0 --chmod=0755 /image/usr/lib/ /usr/lib/
COPY --chown=0:0 --chmod=0755 contrib/image/healthcheck /usr/bin/
COPY --chown=0:0 --chmod=0644 config.yml /etc/canopsis-connectors/prometheus/
COPY --from=build --chown=0:0 --chmod=0755 /image/usr/bin/ /usr/bin/
# A number, because "must not run as root" of Kubernetes understands nothing else. The user owns nothing here.
USER 18401:18401
# The C library would keep 8 heaps for each processor, and give little of them back.
ENV MALLOC_ARENA_MAX=2
EXPOSE 18401/tcp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 CMD ["/usr/bin/healthcheck"]
ENTRYPOINT ["/usr/bin/canopsis-connector-prometheus"]
