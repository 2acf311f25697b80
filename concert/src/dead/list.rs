//! Prints dead letters as a table or as JSON.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Duration;

use concert_runtime::bus::Bus;
use concert_runtime::clock;
use concert_runtime::dead::StoredDeadLetter;
use serde_json::{Map, Value, json};

use super::select::Filter;
use crate::output;

/// Prints the newest dead letters.
pub(crate) async fn list(
    bus: &Bus,
    filter: &Filter,
    limit: usize,
    as_json: bool,
) -> anyhow::Result<()> {
    let mut shown = VecDeque::new();
    let mut older = 0_usize;
    filter
        .each(bus, |letter| {
            shown.push_back(letter);
            if shown.len() > limit {
                shown.pop_front();
                older += 1;
            }
        })
        .await?;
    let mut text = String::new();
    if as_json {
        for letter in &shown {
            writeln!(text, "{}", to_json(letter))?;
        }
        return Ok(output::print_text(&text)?);
    }
    if shown.is_empty() {
        output::print_line("no dead letters");
        return Ok(());
    }
    let name_width = shown.iter().map(|letter| letter.name().len()).max().unwrap_or(0);
    writeln!(text, "{:>6}  {:>9}  {:name_width$}  REASON", "LETTER", "AGE", "ACTION")?;
    let now_ms = clock::now_ms();
    for letter in &shown {
        let (seq, age, name) = (letter.seq, age(now_ms, letter), letter.name());
        writeln!(text, "{seq:>6}  {age:>9}  {name:name_width$}  {}", letter.reason())?;
    }
    output::print_text(&text)?;
    if older > 0 {
        output::print_progress(&format!(
            "{older} older dead letters are not shown; increase --limit to see them"
        ));
    }
    Ok(())
}

/// Prints one dead letter in full.
pub(crate) fn show(letter: &StoredDeadLetter, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return Ok(output::print_text(&format!("{}\n", to_json(letter)))?);
    }
    let mut text = String::new();
    writeln!(text, "letter   {} ({} ago)", letter.seq, age(clock::now_ms(), letter))?;
    writeln!(text, "action   {}", letter.name())?;
    writeln!(text, "reason   {}", letter.reason())?;
    writeln!(text, "subject  {}", letter.original())?;
    for (name, value) in headers(letter) {
        writeln!(text, "{name}: {value}")?;
    }
    writeln!(text)?;
    match serde_json::from_slice::<Value>(&letter.body) {
        Ok(body) => writeln!(text, "{body:#}")?,
        Err(_) if letter.body.is_empty() => {
            writeln!(text, "The body was not stored: its secrets could not be encrypted.")?
        }
        Err(_) => writeln!(text, "{}", letter.body.escape_ascii())?,
    }
    Ok(output::print_text(&text)?)
}

/// The headers without those of NATS, sorted by name, each once.
fn headers(letter: &StoredDeadLetter) -> Vec<(String, String)> {
    let ours = letter.headers.iter().filter_map(|(name, values)| {
        let name = name.to_string();
        let value = values.first()?.to_string();
        (!name.starts_with("Nats-")).then_some((name, value))
    });
    let mut headers: Vec<_> = ours.collect();
    headers.sort_unstable();
    headers
}

fn to_json(letter: &StoredDeadLetter) -> Value {
    let headers: Map<String, Value> =
        headers(letter).into_iter().map(|(name, value)| (name, Value::String(value))).collect();
    let body = serde_json::from_slice(&letter.body)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&letter.body).into_owned()));
    json!({
        "letter": letter.seq,
        "storedAtMs": letter.stored_at_ms,
        "name": letter.name(),
        "reason": letter.reason(),
        "subject": letter.original(),
        "flow": letter.flow(),
        "action": letter.action_id(),
        "headers": headers,
        "body": body,
    })
}

/// The age in at most two units, such as `3m 12s`.
fn age(now_ms: u64, letter: &StoredDeadLetter) -> String {
    let age = Duration::from_secs(now_ms.saturating_sub(letter.stored_at_ms) / 1000);
    let text = humantime::format_duration(age).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}
