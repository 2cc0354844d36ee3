# The command `betanet`: nodes and the authority. No syntax of BuildKit, so that every engine builds it.
#
#   docker build --file docker/betanet.Dockerfile --tag fog-betanet:local .

FROM rust:1.95-slim-bookworm AS build
# release, or quick: built in a third of the time, and a little slower
ARG PROFILE=release
# The bindings are built for an interpreter, which has to be there; nothing of it gets into the program.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
ENV CARGO_PROFILE_RELEASE_STRIP=true
COPY Cargo.toml Cargo.lock ./
COPY crates crates
# Both Dockerfiles begin alike, down to this line: an engine compiles once for both.
RUN cargo build --locked --package betanet-node --package betanet-py --bin betanet --profile "$PROFILE" \
    && install -D --target-directory=/out "target/$PROFILE/betanet"

FROM debian:bookworm-slim
# The folders have their owner in the image, and volumes that are mounted over them get it from there.
RUN groupadd --gid 10001 fog \
    && useradd --uid 10001 --gid fog --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin fog \
    && install -d -o fog -g fog -m 0700 /var/lib/betanet /run/betanet-token \
    && install -d -o fog -g fog -m 0755 /run/betanet
COPY --from=build /out/betanet /usr/local/bin/
COPY docker/betanet-node docker/betanet-authority /usr/local/bin/
USER 10001:10001
CMD ["betanet", "--help"]
