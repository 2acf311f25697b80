# One image with one program; compose.yaml chooses the subcommand of each container. Rules, specs
# and settings are mounted. The tag is the compiler version in rust-toolchain.toml.
FROM rust:1.95.0-bookworm AS chef
RUN cargo install cargo-chef --locked --version 0.1.78
WORKDIR /src

# The recipe contains only the manifests, so a changed source file does not change it.
FROM chef AS plan
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM chef AS build
# Layer of the compiled dependencies.
COPY --from=plan /src/recipe.json recipe.json
RUN cargo chef cook --release --locked --package concert --recipe-path recipe.json
COPY . .
RUN cargo build --release --locked --package concert

FROM debian:bookworm-slim
WORKDIR /app
COPY --from=build /src/target/release/concert /usr/local/bin/
# Kubernetes recognizes a non-root user only by its number.
USER 10001:10001
ENTRYPOINT ["concert"]
CMD ["--help"]
