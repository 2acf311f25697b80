//! Confinement of Concert's containers.

use anyhow::{Context as _, ensure};
use concert_tests::binaries;

use crate::SCALE;
use crate::engine::{docker, output_of};
use crate::stack::{Container, Stack};

/// The user and group of the image.
const USER: &str = "10001";
/// A capability set without any capability.
const NONE: &str = "0000000000000000";
/// Prints each path of the container that its user can write to.
const WRITABLE: &str = "for place in / /app /app/* /keys /keys/* /keys/nats/* /tmp /var/tmp /home \
    /usr/local/bin/concert; do \
    if [ -w \"$place\" ]; then echo \"$place\"; fi; done";

/// The services run as an unprivileged user on read-only file systems; the image holds only the
/// program.
pub(crate) async fn holds(stack: &Stack) -> anyhow::Result<()> {
    for (service, _) in SCALE {
        let container = stack.one(service).await?;
        has_no_rights(&container).with_context(|| service)?;
        let writable =
            output_of(&mut docker(&["exec", &container.id, "sh", "-c", WRITABLE])).await?;
        ensure!(writable.is_empty(), "{service} can write to {writable}");
    }
    let files =
        output_of(&mut docker(&["run", "--rm", "--entrypoint", "find", "concert", "/app"])).await?;
    ensure!(files == "/app\n", "the image holds {files}");
    concepts_need_no_container(stack).await
}

/// `concert setup` can write the keys of a concept that no container runs.
async fn concepts_need_no_container(stack: &Stack) -> anyhow::Result<()> {
    let mount = format!("{}:/concepts:ro", binaries::root().join("tests/faulty").display());
    let flags = ["-v", &mount, "-e", "CONCERT_RULES__CONCEPTS=/concepts"];
    // The accounts of the running system stay unchanged.
    let flags = [&flags[..], &["-e", "CONCERT_NATS_ACCOUNTS=/hand-out/accounts.conf"]].concat();
    let script = "concert setup; test -s /hand-out/faulty/nats/faulty.nk";
    stack.run_with(&flags, "sh", &["-ec", script]).await?;
    Ok(())
}

fn has_no_rights(container: &Container) -> anyhow::Result<()> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", container.pid))?;
    let of = |key: &str| -> anyhow::Result<Vec<&str>> {
        let values = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        Ok(values.with_context(|| format!("no {key}"))?.split_whitespace().collect())
    };
    for (key, wanted) in [
        ("Uid", &[USER; 4][..]),
        ("Gid", &[USER; 4]),
        ("CapEff", &[NONE]),
        ("CapBnd", &[NONE]),
        ("NoNewPrivs", &["1"]),
    ] {
        let found = of(key)?;
        ensure!(found == wanted, "{key} is {found:?}");
    }
    Ok(())
}
