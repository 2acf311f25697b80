//! What Concert's containers cannot do.

use anyhow::{Context as _, ensure};
use concert_tests::binaries;

use crate::SCALE;
use crate::engine::{docker, said};
use crate::stack::{Container, Stack};

/// The user and group of the image.
const USER: &str = "10001";
/// The value of a set of capabilities without any.
const NONE: &str = "0000000000000000";
/// Prints each place of the container that its user can write to.
const WRITABLE: &str = "for place in / /app /app/* /keys /keys/* /keys/nats/* /tmp /var/tmp /home /usr/local/bin/concert; do \
    if [ -w \"$place\" ]; then echo \"$place\"; fi; done";

/// The services run as a user without rights, on file systems that they only read; the image holds
/// the program alone.
pub(crate) async fn holds(stack: &Stack) -> anyhow::Result<()> {
    for (service, _) in SCALE {
        let container = stack.one(service).await?;
        has_no_rights(&container).with_context(|| service)?;
        let writable = said(&mut docker(&["exec", &container.id, "sh", "-c", WRITABLE])).await?;
        ensure!(writable.is_empty(), "{service} can write to {writable}");
    }
    let files =
        said(&mut docker(&["run", "--rm", "--entrypoint", "find", "concert", "/app"])).await?;
    ensure!(files == "/app\n", "the image holds {files}");
    concepts_need_no_container(stack).await
}

/// The keys of a concept that no container runs have a place, too.
async fn concepts_need_no_container(stack: &Stack) -> anyhow::Result<()> {
    let mount = format!("{}:/concepts:ro", binaries::root().join("tests/moody").display());
    let flags = ["-v", &mount, "-e", "CONCERT_RULES__CONCEPTS=/concepts"];
    // The accounts of the system stay as they are.
    let flags = [&flags[..], &["-e", "CONCERT_NATS_ACCOUNTS=/hand-out/accounts.conf"]].concat();
    let script = "concert setup; test -s /hand-out/moody/nats/moody.nk";
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
