//! Diagnostics as workflow commands of GitHub Actions, which show them as annotations: `::error
//! file=…,line=…::message`.

use concert_lang::diagnostics::Severity;

use super::Checked;

pub(super) fn write(checked: &Checked) -> String {
    let mut text = String::new();
    for found in &checked.diagnostics {
        let command = match found.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let mut properties = Vec::new();
        if let Some(source) = checked.sources.get(found.span.file) {
            let (start, end) = (source.position(found.span.start), source.position(found.span.end));
            properties.push(format!("file={}", property(&source.name)));
            properties.push(format!("line={},col={}", start.line, start.column));
            properties.push(format!("endLine={},endColumn={}", end.line, end.column));
        }
        properties.push(format!("title={}", property(found.code)));
        let mut message = found.message.clone();
        for (number, sentence) in found.story.iter().enumerate() {
            message += &format!("\n{}. {sentence}", number + 1);
        }
        if let Some(help) = &found.help {
            message += &format!("\nhelp: {help}");
        }
        text += &format!("::{command} {}::{}\n", properties.join(","), data(&message));
    }
    text
}

/// Escapes line ends, which end a command, and `%`, which starts an escape.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes commas and colons as well, which end a property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters_in_commands_and_properties_are_escaped() {
        assert_eq!(data("50 %\r\nor: more, or less"), "50 %25%0D%0Aor: more, or less");
        assert_eq!(property("a,b:c%\n"), "a%2Cb%3Ac%25%0A");
    }
}
