//! What the documents say of flags is what the programs say: `docs/configuration.md` is made of their `--help` (`CONCERT_BLESS=1` writes it anew), and the limits of `docs/operations.md` are held against it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot read the project has failed"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use concert_tests::binaries::{self, root};
use tokio::process::Command;

/// The commands of `concert` whose flags are settings.
const COMMANDS: [&str; 7] = ["up", "http-edge", "sync-router", "worker", "archive", "setup", "keys"];

/// A flag, as a program tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Flag {
    name: String,
    /// What its value is called.
    value: String,
    env: Option<String>,
    default: Option<String>,
    text: String,
}

/// The flags of a program's `--help`.
fn flags(help: &str) -> Vec<Flag> {
    let (_, options) = help.split_once("\nOptions:\n").unwrap();
    let mut entries: Vec<Vec<&str>> = Vec::new();
    for line in options.lines().map(str::trim) {
        match entries.last_mut() {
            _ if line.starts_with("--") || (line.starts_with('-') && line.contains(", --")) => entries.push(vec![line]),
            Some(entry) => entry.push(line),
            None => {}
        }
    }
    entries.iter().map(|entry| flag(entry)).collect()
}

fn flag(lines: &[&str]) -> Flag {
    let (_, head) = lines[0].split_at(lines[0].find("--").unwrap());
    let (name, value) = head.split_once([' ', '[', '=']).unwrap_or((head, ""));
    let mut values = Vec::new();
    let mut text = String::new();
    for line in &lines[1..] {
        match line.strip_prefix("- ").and_then(|item| item.split_once(':')) {
            Some((value, _)) => values.push(format!("`{value}`")),
            None if *line == "Possible values:" => {}
            // What the values mean goes on here.
            None if !values.is_empty() && !line.starts_with('[') => {}
            None => {
                text.push_str(line);
                text.push(' ');
            }
        }
    }
    let env = bracketed(&mut text, "[env: ").map(|env| env.split('=').next().unwrap().to_owned());
    let default = bracketed(&mut text, "[default: ");
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if !values.is_empty() {
        write!(text, ". One of {}", values.join(", ")).unwrap();
    }
    Flag {
        name: name.to_owned(),
        value: value.trim_matches(['[', ']', '=']).to_owned(),
        env,
        default,
        text,
    }
}

/// Takes out of a text what stands in brackets.
fn bracketed(text: &mut String, begin: &str) -> Option<String> {
    let at = text.find(begin)?;
    let end = at + text[at..].find(']')?;
    let inner = text[at + begin.len()..end].to_owned();
    text.replace_range(at..=end, "");
    Some(inner)
}

/// Every flag with the commands that have it so.
async fn all() -> anyhow::Result<Vec<(Flag, Vec<&'static str>)>> {
    let dir = binaries::dir().await?;
    let mut all: Vec<(Flag, Vec<&str>)> = Vec::new();
    for command in COMMANDS {
        let mut asked = Command::new(dir.join("concert"));
        // What the environment says stands in the help, and shapes it.
        asked.args([command, "--help"]).stdin(Stdio::null()).env_clear();
        let help = asked.output().await?;
        ensure!(help.status.success(), "{command}");
        let found = flags(std::str::from_utf8(&help.stdout)?);
        ensure!(found.len() >= 8, "{command} has {} flags", found.len());
        for flag in found {
            if flag.name == "--help" || flag.name == "--version" {
                continue;
            }
            match all.iter_mut().find(|(known, _)| *known == flag) {
                Some((_, commands)) => commands.push(command),
                None => all.push((flag, vec![command])),
            }
        }
    }
    Ok(all)
}

fn page(all: &[(Flag, Vec<&str>)]) -> String {
    let mut page = String::from(
        "# Configuration\n\nEvery setting is a flag and, but for few, a variable of the environment; the flag wins. This page is made of what the programs say with `--help`, and a test holds it to that (`CONCERT_BLESS=1 cargo test -p concert-tests --test configuration` writes it anew). What happens past each limit, and why it is what it is, says [operations.md](operations.md).\n\n| flag | environment | default | what it is | of |\n|---|---|---|---|---|\n",
    );
    for (flag, commands) in all {
        let value = if flag.value.is_empty() {
            String::new()
        } else {
            format!(" {}", flag.value)
        };
        let code = |text: &Option<String>| text.as_ref().map(|text| format!("`{text}`")).unwrap_or_default();
        let cells = [
            format!("`{}{value}`", flag.name),
            code(&flag.env),
            code(&flag.default),
            flag.text.clone(),
            commands
                .iter()
                .map(|command| format!("`concert {command}`"))
                .collect::<Vec<_>>()
                .join(", "),
        ];
        // Within code, too, a bar would end the cell.
        let cells = cells.map(|cell| cell.replace('|', "\\|"));
        writeln!(page, "| {} |", cells.join(" | ")).unwrap();
    }
    page
}

#[tokio::test]
async fn the_page_of_settings_is_what_the_programs_say() -> anyhow::Result<()> {
    let found = page(&all().await?);
    let file = root().join("docs/configuration.md");
    if std::env::var_os("CONCERT_BLESS").is_some() {
        std::fs::write(&file, &found)?;
    }
    ensure!(
        std::fs::read_to_string(&file)? == found,
        "docs/configuration.md is not what the programs say; with CONCERT_BLESS=1 it is written anew"
    );
    Ok(())
}

#[tokio::test]
async fn a_process_that_cannot_start_says_why_in_the_form_of_its_log() -> anyhow::Result<()> {
    let dir = binaries::dir().await?;
    let why = async |more: &[&str]| -> anyhow::Result<String> {
        let mut router = binaries::command(&dir.join("concert"));
        let ended = router
            .args(["sync-router", "--syncs", "/nowhere"])
            .args(more)
            .output()
            .await?;
        ensure!(ended.status.code() == Some(1), "{ended:?}");
        Ok(String::from_utf8(ended.stderr)?)
    };
    let told = why(&["--log-format", "json"]).await?;
    let line: serde_json::Value = serde_json::from_str(told.trim())?;
    ensure!(line["level"] == "ERROR", "{line}");
    let message = line["message"].as_str().context("no message")?;
    ensure!(message.starts_with("/nowhere cannot be read: "), "{message}");
    ensure!(message.matches("No such file").count() == 1, "{message}");
    // A log that is off leaves nobody without a word.
    ensure!(why(&["--log", "off"]).await? == format!("error: {message}\n"));
    Ok(())
}

/// What no setting can be: as milliseconds, bytes or a count it may wrap around later, or ask for more than there is.
const TOO_MUCH: &str = "18446744073709551615";

#[tokio::test]
async fn no_number_is_taken_that_cannot_be_meant() -> anyhow::Result<()> {
    let dir = binaries::dir().await?;
    let mut tried = 0;
    for (flag, commands) in all().await? {
        let is_number = flag.default.is_some_and(|default| default.parse::<u64>().is_ok());
        if !is_number {
            continue;
        }
        let mut told = Command::new(dir.join("concert"));
        // It is read before the wish for help is; a program that took it would say that.
        told.args([commands[0], &*flag.name, TOO_MUCH, "--help"]);
        let answer = told.stdin(Stdio::null()).env_clear().output().await?;
        let why = String::from_utf8_lossy(&answer.stderr);
        ensure!(
            answer.status.code() == Some(2) && why.contains(TOO_MUCH) && why.contains(&flag.name),
            "{} takes {TOO_MUCH}: {why}",
            flag.name
        );
        tried += 1;
    }
    ensure!(tried >= 50, "{tried} flags");
    Ok(())
}

/// A table's row of limits: what is written as default, and the flags and variables that it names.
struct Limit {
    line: String,
    default: String,
    names: Vec<String>,
}

fn limits(text: &str) -> Vec<Limit> {
    let mut limits = Vec::new();
    let mut in_table = false;
    for line in text.lines() {
        if line.starts_with("| limit | default | flag |") {
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

/// A default as people write it, in the unit of its flag.
fn in_unit_of(flag: &str, written: &str) -> anyhow::Result<u64> {
    let mut words = written.split([' ', ';']);
    let number: u64 = words.next().unwrap().replace(',', "").trim_end_matches(',').parse()?;
    let unit = words.next().unwrap_or_default().trim_end_matches(',');
    let of_flag = flag.rsplit('-').next().unwrap();
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
            _ => anyhow::bail!("{written} is in no unit of {flag}"),
        },
    })
}

#[tokio::test]
async fn the_limits_of_the_handbook_are_those_of_the_programs() -> anyhow::Result<()> {
    let all = all().await?;
    let by_name: BTreeMap<&str, &Flag> = all.iter().rev().map(|(flag, _)| (&*flag.name, flag)).collect();
    let mut seen = 0;
    for page in ["operations.md", "delivery.md", "rules.md"] {
        let text = std::fs::read_to_string(root().join("docs").join(page))?;
        for Limit { line, default, names } in limits(&text) {
            seen += 1;
            let name = names.first().with_context(|| format!("no flag: {line}"))?;
            let flag = by_name.get(&**name).with_context(|| format!("no such flag: {line}"))?;
            ensure!(
                names.get(1) == flag.env.as_ref(),
                "{:?} is the variable: {line}",
                flag.env
            );
            let real: u64 = flag.default.as_ref().with_context(|| line.clone())?.parse()?;
            let written = match default.starts_with(|c: char| c.is_ascii_digit()) {
                true => in_unit_of(name, &default).with_context(|| line.clone())?,
                // Told in words, such as what the server holds.
                false => 0,
            };
            ensure!(written == real, "the default is {real}: {line}");
        }
    }
    ensure!(seen >= 25, "{seen} limits");
    Ok(())
}

#[tokio::test]
async fn no_document_tells_of_a_setting_that_is_not_there() -> anyhow::Result<()> {
    let all = all().await?;
    let known = |name: &str| all.iter().any(|(flag, _)| flag.env.as_deref() == Some(name));
    // Of the tests, and of compose.yaml.
    let others = [
        "CONCERT_BLESS",
        "CONCERT_COMPOSE_IMAGES",
        "CONCERT_FUZZ_SECONDS",
        "CONCERT_PORT",
        "CONCERT_SIM_SEED",
        "CONCERT_SIM_SEEDS",
    ];
    let mut files: Vec<_> = std::fs::read_dir(root().join("docs"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<_>>()?;
    files.extend(
        [
            "README.md",
            "ARCHITECTURE.md",
            "CONTRIBUTING.md",
            "compose.yaml",
            "Dockerfile",
        ]
        .map(|file| root().join(file)),
    );
    let mut seen = 0;
    for file in files
        .iter()
        .filter(|file| file.is_file() && file.extension().is_none_or(|kind| kind == "md" || kind == "yaml"))
    {
        let text = std::fs::read_to_string(file)?;
        for word in text.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')) {
            if word.starts_with("CONCERT_") {
                seen += 1;
                ensure!(known(word) || others.contains(&word), "{}: {word}", file.display());
            }
        }
    }
    ensure!(seen >= 100, "{seen} variables");
    Ok(())
}
