# One image with one program; compose.yaml says which subcommand a container runs. Its rules, specs and settings are mounted.
# The tag names the compiler that rust-toolchain.toml pins.
FROM rust:1.95.0-bookworm AS chef
RUN cargo install cargo-chef --locked --version 0.1.78
WORKDIR /src

# The recipe has the manifests only, so a changed source file leaves it as it is.
FROM chef AS plan
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM chef AS build
# The layer of the dependencies.
COPY --from=plan /src/recipe.json recipe.json
RUN cargo chef cook --release --locked --package concert --recipe-path recipe.json
COPY . .
RUN cargo build --release --locked --package concert

FROM debian:bookworm-slim
WORKDIR /app
COPY --from=build /src/target/release/concert /usr/local/bin/
# Kubernetes recognises a non-root user by its number only.
USER 10001:10001
ENTRYPOINT ["concert"]
CMD ["--help"]
