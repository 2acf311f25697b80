//! Checks that no password and no token is in a log file or in a stream.

use std::collections::HashSet;

use crate::client::PASSWORD_MARK;
use crate::cluster::Cluster;
use crate::history::History;
use crate::log::Message;

pub(super) async fn check(
    cluster: &Cluster,
    history: &History,
    done: &[Message],
    dead: &[Message],
) -> anyhow::Result<()> {
    let secrets = history.secrets();
    let secrets: HashSet<&str> = secrets.iter().map(String::as_str).collect();
    let mut files = cluster.server_logs().await;
    files.extend(cluster.parts.iter().map(|part| cluster.log(part)));
    for file in files {
        let text = String::from_utf8_lossy(&std::fs::read(&file)?).into_owned();
        if holds(&text, &secrets) {
            history.violated(format!("a secret is in {}", file.display()));
        }
    }
    for message in done.iter().chain(dead) {
        if holds(&message.body.to_string(), &secrets) {
            history.violated(format!("a secret is at {} ({})", message.seq, message.subject));
        }
    }
    Ok(())
}

/// A token consists of letters, digits, `-` and `_`.
fn holds(text: &str, tokens: &HashSet<&str>) -> bool {
    text.contains(PASSWORD_MARK)
        || text
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'))
            .any(|word| tokens.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_or_password_in_a_text_is_found() {
        let tokens = HashSet::from(["a-Token_1"]);
        assert!(holds(r#"{"session":"a-Token_1"}"#, &tokens));
        assert!(holds(&format!("login with {PASSWORD_MARK}-7"), &tokens));
        assert!(!holds(r#"{"session":"sealed:k1:a-Token_12"}"#, &tokens));
    }
}
