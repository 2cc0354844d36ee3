# Backend, panel, worker and the command `fog`: one image. No syntax of BuildKit, so that every engine builds it.
#
#   docker build --file docker/fog.Dockerfile --tag fog-compute:local .

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
COPY requirements requirements
RUN python3 -m venv /uv \
    && /uv/bin/pip install --no-cache-dir --require-hashes --requirement requirements/uv.txt
COPY pyproject.toml README.md LICENSE-MIT LICENSE-APACHE ./
COPY packaging packaging
COPY monitoring monitoring
COPY src src
RUN FOG_BUILD_PROFILE="$PROFILE" /uv/bin/uv build --wheel --build-constraints requirements/dev.txt --python /uv/bin/python \
        --out-dir /out

FROM python:3.11-slim-bookworm AS install
COPY --from=build /uv/bin/uv /usr/local/bin/
COPY --from=build /src/requirements/dev.txt /out/
COPY --from=build /out /out
# What the tests ran with, each file checked against its hash.
RUN uv venv --quiet --python python3 --no-python-downloads /opt/fog \
    && wheel="$(ls /out/*.whl)" \
    && uv pip install --no-cache --compile-bytecode --python /opt/fog/bin/python --constraint /out/dev.txt \
        "fog-compute[postgres,redis,python] @ file://$wheel"

FROM python:3.11-slim-bookworm
# The folders have their owner in the image, and volumes that are mounted over them get it from there.
RUN groupadd --gid 10001 fog \
    && useradd --uid 10001 --gid fog --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin fog \
    && install -d -o fog -g fog -m 0700 /var/lib/fog /var/lib/fog/daemon /var/lib/fog-worker \
    && install -d -o fog -g fog -m 0750 /run/fog \
    && install -d -o fog -g fog -m 0755 /run/betanet
COPY --from=install /opt/fog /opt/fog
COPY docker/fog-worker /usr/local/bin/
ENV PATH=/opt/fog/bin:$PATH
USER 10001:10001
CMD ["fog", "--help"]
