# One image with one program; compose.yaml says which subcommand a container runs. Its rules, specs and settings are mounted.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package concert

FROM debian:bookworm-slim
WORKDIR /app
COPY --from=build /src/target/release/concert /usr/local/bin/
# Kubernetes recognises a non-root user by its number only.
USER 10001:10001
ENTRYPOINT ["concert"]
CMD ["--help"]
