//! Secrets and large values.

use anyhow::{Context as _, ensure};
use concert_runtime::keys::{self, Purpose, Subject};
use concert_runtime::{clock, log};
use concert_wire::large::{Place, Reference};
use concert_wire::seal::Sealer;
use serde_json::{Value, json};

use crate::conform::call::Call;
use crate::conform::report::{Checked, ok};
use crate::conform::world::World;

/// More than a message contains, in characters.
const LARGE_CHARS: usize = 100_000;

/// `measure` with a word that is encrypted with the sealer's key, or plain.
fn measure(sealer: Option<&Sealer>, word: &str) -> Call {
    let mut call = Call::root("measure", &json!({}));
    let word = sealer.map_or_else(|| word.to_owned(), |sealer| sealer.seal(call.flow, word));
    call.body = json!({ "word": word }).to_string().into_bytes();
    call
}

/// Checks that the handler had the word in clear, and that the output has it encrypted.
fn expect_word(call: &Call, sealer: &Sealer, output: &Value, word: &str) -> anyhow::Result<()> {
    let length = output.get("length").and_then(Value::as_u64);
    ensure!(length == Some(word.len() as u64), "the output is {output}");
    let sealed = output.get("word").and_then(Value::as_str).context("no word")?;
    let opened = sealer.open(call.flow, sealed).context("the word of the output")?;
    ensure!(opened.expose() == word, "the output has another word");
    Ok(())
}

pub(super) async fn secrets(world: &World) -> Checked {
    let (sealer, word) = (world.sealer()?, "correct horse");
    for call in [measure(Some(&sealer), word), measure(None, word)] {
        let output = world.run(&call).await?;
        expect_word(&call, &sealer, &output, word)?;
        let stored = log::find(&world.bus, &call.completion()).await?.context("no completion")?;
        let body = String::from_utf8_lossy(&stored.body);
        ensure!(!body.contains(word), "the log contains the secret in clear");
    }
    let mut other_flow = measure(Some(&sealer), word);
    other_flow.body = measure(Some(&sealer), word).body;
    let output = world.run(&other_flow).await?;
    ensure!(output.get("fault") == Some(&json!("invalid")), "a seal of another flow: {output}");
    ok("in clear for the handler, encrypted in the log; the seal of another flow is a fault")
}

pub(super) async fn key_rotation(world: &World) -> Checked {
    let before = world.sealer()?;
    let (dir, seal) = (world.keys_dir(), Subject::Ring(Purpose::Seal));
    let id = keys::add(&dir, &seal)?;
    keys::put_first(&dir, &seal, &id)?;
    let (after, word) = (world.sealer()?, "battery staple");
    for sealer in [&after, &before] {
        let call = measure(Some(sealer), word);
        let output = world.run(&call).await?;
        expect_word(&call, &after, &output, word)?;
    }
    ok("values of the new and of the old key are read without a restart")
}

pub(super) async fn large_values(world: &World) -> Checked {
    let text = "large ".repeat(LARGE_CHARS / 6);
    let echo = |reference: &Reference| {
        let input = json!({ "value": reference.to_string() });
        Call::in_flow(clock::new_flow(), "echo", &input)
    };
    let reference = world.blobs.store(Place::new([1; 16]), text.clone()).await?;
    let output = world.run(&echo(&reference)).await?;
    let value = output.get("value").with_context(|| format!("the output is {output}"))?;
    let whole = match Reference::of(value) {
        Some(reference) => world.blobs.load(&reference).await?,
        None => value.as_str().unwrap_or_default().to_owned(),
    };
    ensure!(whole == text, "the output is another text");
    let root = Call::root("echo", &json!({ "value": reference.to_string() }));
    let output = world.run(&root).await?;
    ensure!(output.get("fault") == Some(&json!("invalid")), "at the root of a flow: {output}");
    let missing = Reference::to_text(Place::new([2; 16]), &text);
    let output = world.run(&echo(&missing)).await?;
    ensure!(output.get("fault") == Some(&json!("expired")), "a missing value: {output}");
    ok("resolved for the handler; the faults `invalid` at a root, and `expired`")
}
