//! Substitutes for the images in compose.yaml, for a machine that cannot pull any: a Debian base
//! made by debootstrap, the servers that `concert up` runs, Debian's Prometheus, and the last stage
//! of the Dockerfile with the program that cargo builds here.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use concert_local_servers::{FindOptions, find_or_fetch};
use concert_tests::binaries;
use tokio::process::Command;

use crate::engine::{BUILDING, docker, output_of, output_within};

const BASE: &str = "debian:bookworm-slim";
/// Packages installed on the base: dependencies of the servers, programs that compose's health
/// checks call, and a shell for inspection.
const PACKAGES: &str = "--include=bash,ca-certificates,libcurl4,libssl3,wget";
const NATS: &str =
    "FROM debian:bookworm-slim\nCOPY nats-server /usr/bin/\nENTRYPOINT [\"nats-server\"]\n";
const MONGO: &str = r#"FROM debian:bookworm-slim
COPY mongod /usr/bin/
RUN useradd mongodb && mkdir -p /data/db /data/configdb && \
    printf '#!/bin/sh\nexec "$@" --dbpath /data/db\n' > /usr/bin/docker-entrypoint.sh && \
    chmod 755 /usr/bin/docker-entrypoint.sh
ENTRYPOINT ["docker-entrypoint.sh"]
"#;
const PROMETHEUS: &str = "FROM debian:bookworm-slim\nCOPY prometheus /usr/bin/\n\
    RUN mkdir /prometheus\n\
    ENTRYPOINT [\"prometheus\", \"--config.file=/etc/prometheus/prometheus.yml\", \
    \"--storage.tsdb.path=/prometheus\"]\n";

/// The line of the Dockerfile's last stage that copies the program.
const BUILT: &str = "COPY --from=build /src/target/release/concert ";

/// Images available to compose.
pub(crate) struct Images {
    /// `true` if the image of Concert is already built.
    pub(crate) exist: bool,
    /// The services of compose.observability.yaml that have images.
    pub(crate) observers: Vec<&'static str>,
}

/// Provides the images as `CONCERT_COMPOSE_IMAGES` specifies.
pub(crate) async fn images() -> anyhow::Result<Images> {
    let wanted = std::env::var_os("CONCERT_COMPOSE_IMAGES").unwrap_or_else(|| "build".into());
    match &*wanted.to_string_lossy() {
        "build" => Ok(Images {
            exist: false,
            observers: vec!["otel-collector", "jaeger", "prometheus", "grafana"],
        }),
        "stand-ins" => {
            make().await.context("building stand-in images")?;
            Ok(Images { exist: true, observers: vec!["prometheus"] })
        }
        other => bail!("CONCERT_COMPOSE_IMAGES is `build` or `stand-ins`, not `{other}`"),
    }
}

async fn make() -> anyhow::Result<()> {
    let servers = find_or_fetch(&FindOptions::of_user()?, &|_| {}).await?;
    let built = binaries::dir().await?;
    if output_of(&mut docker(&["image", "inspect", BASE])).await.is_err() {
        base().await?;
    }
    let file = |path: PathBuf, name: &str| (path, name.to_owned());
    image("nats:2.12-alpine", NATS, &[file(servers.nats_server, "nats-server")]).await?;
    image("mongo:7", MONGO, &[file(servers.mongod, "mongod")]).await?;

    let fetched = tempfile::tempdir()?;
    let mut download = Command::new("apt-get");
    output_of(download.current_dir(fetched.path()).args(["download", "-q", "prometheus"])).await?;
    let package = std::fs::read_dir(fetched.path())?.next().context("no package")??;
    let mut unpack = Command::new("dpkg-deb");
    output_of(unpack.arg("-x").arg(package.path()).arg(fetched.path().join("unpacked"))).await?;
    let prometheus = file(fetched.path().join("unpacked/usr/bin/prometheus"), "prometheus");
    image("prom/prometheus:v3.13.3", PROMETHEUS, &[prometheus]).await?;

    let dockerfile = std::fs::read_to_string(binaries::root().join("Dockerfile"))?;
    let last = dockerfile.rfind("\nFROM ").context("the Dockerfile has no last stage")?;
    let (_, last) = dockerfile.split_at(last);
    ensure!(last.contains(BUILT), "the last stage has no `{BUILT}`");
    let last = last.replace(BUILT, "COPY concert ");
    image("concert", &last, &[file(built.join("concert"), "concert")]).await
}

async fn base() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", PACKAGES, "bookworm"]).arg(dir.path());
    output_within(BUILDING, &mut debootstrap).await?;
    let archive = tempfile::NamedTempFile::new()?;
    let mut tar = Command::new("tar");
    output_of(tar.arg("-cf").arg(archive.path()).arg("-C").arg(dir.path()).arg(".")).await?;
    output_of(docker(&["import"]).arg(archive.path()).arg(BASE)).await?;
    Ok(())
}

/// Builds an image from a Dockerfile and named files and directories.
async fn image(name: &str, dockerfile: &str, files: &[(PathBuf, String)]) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let to = |name: &str| -> PathBuf { Path::new(dir.path()).join(name) };
    for (path, name) in files {
        let mut copy = Command::new("cp");
        output_of(copy.arg("-rL").arg(path).arg(to(name))).await?;
    }
    std::fs::write(to("Dockerfile"), dockerfile)?;
    output_within(BUILDING, docker(&["build", "-q", "-t", name]).arg(dir.path())).await?;
    Ok(())
}
