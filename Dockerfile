# One image with every process of Concert; compose.yaml says which of them a container runs.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package concert --package concert-archive --package concert-http-edge --package concert-sync-router --package concert-workers \
    && mkdir /out \
    && cp target/release/archive target/release/concert target/release/http-edge target/release/sync-router target/release/worker /out/

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --home-dir /app concert && cd / && mkdir -p app keys accounts hand-out/archive hand-out/edge hand-out/router hand-out/profile hand-out/sessioning && chown -R concert keys accounts hand-out
COPY --from=build /out/ /usr/local/bin/
COPY concepts /app/concepts
COPY syncs /app/syncs
WORKDIR /app
USER concert
CMD ["concert", "--help"]
