//! The documents and the program agree on settings. `docs/configuration.md` is the output of
//! `concert config reference` (`CONCERT_BLESS=1` updates it). The limits on the other pages have
//! the same defaults.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot read the project has failed"
)]

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use concert_tests::binaries::{self, root};
use serde_json::json;

/// The output of `concert`.
async fn concert(args: &[&str]) -> anyhow::Result<String> {
    let dir = binaries::dir().await?;
    binaries::finished(binaries::command(&dir.join("concert")).args(args)).await
}

/// A row of the settings page.
struct Setting {
    variable: String,
    default: String,
}

/// Every setting by its key.
async fn settings() -> anyhow::Result<BTreeMap<String, Setting>> {
    let page = concert(&["config", "reference"]).await?;
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split(" | ").collect();
        let code = |cell: usize| cells.get(cell)?.split('`').nth(1).map(str::to_owned);
        let (key, variable) = (code(0)?, code(1).filter(|_| cells.len() == 6)?);
        let default = code(2).unwrap_or_default();
        Some((key, Setting { variable, default }))
    });
    let settings: BTreeMap<_, _> = rows.collect();
    ensure!(settings.len() > 100, "{} settings", settings.len());
    Ok(settings)
}

#[tokio::test]
async fn settings_page_matches_program_output() -> anyhow::Result<()> {
    let found = concert(&["config", "reference"]).await?;
    let file = root().join("docs/configuration.md");
    if std::env::var_os("CONCERT_BLESS").is_some() {
        std::fs::write(&file, &found)?;
    }
    ensure!(
        std::fs::read_to_string(&file)? == found,
        "docs/configuration.md is outdated; CONCERT_BLESS=1 updates it"
    );
    Ok(())
}

#[tokio::test]
async fn effective_settings_are_shown_with_their_sources() -> anyhow::Result<()> {
    let dir = binaries::dir().await?;
    let mut show = binaries::command(&dir.join("concert"));
    show.args(["config", "show", "--json", "--listen", "127.0.0.1:1"]);
    show.env("CONCERT_HTTP__DEADLINE_MS", "7").env("MONGODB_URI", "mongodb://ada:lovelace@db/");
    let shown: serde_json::Value = serde_json::from_str(&binaries::finished(&mut show).await?)?;
    for (key, value, source) in [
        ("app.name", json!("reader"), "file concert.toml:4"),
        ("http.listen", json!("127.0.0.1:1"), "flag --listen"),
        ("http.deadline_ms", json!(7), "variable CONCERT_HTTP__DEADLINE_MS"),
        ("mongodb.uri", json!("mongodb://***@db/"), "variable MONGODB_URI"),
        ("http.max_requests", json!(1024), "default"),
    ] {
        ensure!(shown[key]["value"] == value, "{key}: {}", shown[key]);
        ensure!(shown[key]["source"] == source, "{key}: {}", shown[key]);
    }
    Ok(())
}

#[tokio::test]
async fn failed_start_reports_its_reason_in_the_log_format() -> anyhow::Result<()> {
    let dir = binaries::dir().await?;
    let why = async |more: &[&str]| -> anyhow::Result<String> {
        let mut router = binaries::command(&dir.join("concert"));
        let ended = router.args(["sync-router", "--syncs", "/nowhere"]).args(more).output().await?;
        ensure!(ended.status.code() == Some(1), "{ended:?}");
        Ok(String::from_utf8(ended.stderr)?)
    };
    let printed = why(&["--log-format", "json"]).await?;
    let line: serde_json::Value = serde_json::from_str(printed.trim())?;
    ensure!(line["level"] == "ERROR", "{line}");
    let message = line["message"].as_str().context("no message")?;
    ensure!(message.starts_with("cannot read /nowhere: "), "{message}");
    ensure!(message.matches("No such file").count() == 1, "{message}");
    // With the log switched off, the error is still printed.
    ensure!(why(&["--log", "off"]).await? == format!("error: {message}\n"));
    Ok(())
}

/// A row of a table of limits: its default and the settings it names.
struct Limit {
    line: String,
    default: String,
    names: Vec<String>,
}

fn limits(text: &str) -> Vec<Limit> {
    let mut limits = Vec::new();
    let mut in_table = false;
    for line in text.lines() {
        if line.starts_with("| limit | default | setting |") {
            in_table = true;
        } else if !line.starts_with('|') {
            in_table = false;
        } else if in_table && !line.starts_with("|---") {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            limits.push(Limit {
                line: line.to_owned(),
                default: cells[2].to_owned(),
                names: cells[3].split('`').skip(1).step_by(2).map(str::to_owned).collect(),
            });
        }
    }
    limits
}

/// Parses a human-readable default in the unit of its setting.
fn in_unit_of(flag: &str, written: &str) -> anyhow::Result<u64> {
    let mut words = written.split([' ', ';']);
    let number: u64 = words.next().unwrap().replace(',', "").trim_end_matches(',').parse()?;
    let unit = words.next().unwrap_or_default().trim_end_matches(',');
    let of_flag = flag.rsplit(['_', '.']).next().unwrap();
    let ms = |unit| -> Option<u64> {
        Some(match unit {
            "ms" => 1,
            "s" | "seconds" => 1000,
            "min" | "minutes" => 60_000,
            "h" | "hours" => 3_600_000,
            "days" => 86_400_000,
            _ => return None,
        })
    };
    Ok(match (unit, of_flag) {
        ("KiB", "bytes") => number << 10,
        ("MiB", "bytes") => number << 20,
        (unit, of_flag) => match (ms(unit), ms(of_flag)) {
            (Some(unit), Some(of_flag)) => number * unit / of_flag,
            (None, None) => number,
            _ => anyhow::bail!("{written} is not in a unit of {flag}"),
        },
    })
}

#[tokio::test]
async fn limits_in_docs_match_program_defaults() -> anyhow::Result<()> {
    let settings = settings().await?;
    let mut seen = 0;
    for page in ["operations.md", "delivery.md", "rules.md"] {
        let text = std::fs::read_to_string(root().join("docs").join(page))?;
        for Limit { line, default, names } in limits(&text) {
            seen += 1;
            let name = names.first().with_context(|| format!("no setting: {line}"))?;
            let setting = settings.get(name).with_context(|| format!("no such setting: {line}"))?;
            let real: u64 = setting.default.parse().with_context(|| line.clone())?;
            let written = match default.starts_with(|c: char| c.is_ascii_digit()) {
                true => in_unit_of(name, &default).with_context(|| line.clone())?,
                // A default described in words, such as a server limit.
                false => 0,
            };
            ensure!(written == real, "the default is {real}: {line}");
        }
    }
    ensure!(seen >= 25, "{seen} limits");
    Ok(())
}

#[tokio::test]
async fn docs_mention_only_existing_settings() -> anyhow::Result<()> {
    let settings = settings().await?;
    let known = |name: &str| settings.values().any(|setting| setting.variable == name);
    // Variables of the tests, of compose.yaml and of workers in other languages.
    let others = [
        "CONCERT_API",
        "CONCERT_BLESS",
        "CONCERT_COMPOSE_IMAGES",
        "CONCERT_DATABASE_PREFIX",
        "CONCERT_FUZZ_SECONDS",
        "CONCERT_HAND_OUT",
        "CONCERT_KEYS",
        "CONCERT_NATS_ACCOUNTS",
        "CONCERT_NATS_API",
        "CONCERT_NATS_PID_FILE",
        "CONCERT_PORT",
        "CONCERT_READER_KILLS",
        "CONCERT_SIM_SEED",
        "CONCERT_SIM_SEEDS",
        "CONCERT_WORKER_SETTINGS",
    ];
    let mut files: Vec<_> = std::fs::read_dir(root().join("docs"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<_>>()?;
    files.extend(
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "compose.yaml", "Dockerfile"]
            .map(|file| root().join(file)),
    );
    let mut seen = 0;
    for file in files.iter().filter(|file| {
        file.is_file() && file.extension().is_none_or(|kind| kind == "md" || kind == "yaml")
    }) {
        let text = std::fs::read_to_string(file)?;
        for word in
            text.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
        {
            // The settings page also names old variables and the pattern of all variables.
            if word.starts_with("CONCERT_") && !file.ends_with("configuration.md") {
                seen += 1;
                ensure!(known(word) || others.contains(&word), "{}: {word}", file.display());
            }
        }
    }
    ensure!(seen >= 10, "{seen} variables");
    Ok(())
}
