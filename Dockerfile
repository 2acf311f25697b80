# One image with one program; compose.yaml says which subcommand a container runs.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package concert \
    && mkdir /out \
    && cp target/release/concert /out/

FROM debian:bookworm-slim
WORKDIR /app
COPY --from=build /out/ /usr/local/bin/
COPY concepts concepts
COPY syncs syncs
# Docker gives a new volume the owner of the directory it is mounted on.
RUN useradd --system --uid 10001 --home-dir /app concert \
    && users="archive edge router $(ls concepts | sed -n 's/\.concept$//p' | tr A-Z a-z)" \
    && mkdir /keys /accounts && for user in $users; do mkdir -p /hand-out/$user; done \
    && chown -R concert /keys /accounts /hand-out
USER concert
ENTRYPOINT ["concert"]
CMD ["--help"]
