//! The result of `concert conform`: a table with a row for each rule of the protocol.

use serde::Serialize;

/// All rows, in the order of the table.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    rows: Vec<Row>,
}

/// One rule of the protocol.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// Its name.
    pub(super) row: &'static str,
    /// Whether the worker follows it.
    pub(super) result: Verdict,
    /// What the kit saw, or what is wrong.
    pub(super) seen: String,
}

/// Whether the worker follows a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Verdict {
    /// It does.
    #[serde(rename = "ok")]
    Ok,
    /// It does not.
    #[serde(rename = "failed")]
    Failed,
    /// Unknown: the row was not selected, or the rule is optional and the worker leaves it out.
    #[serde(rename = "not tried")]
    NotTried,
}

/// What a row saw: the rule is followed, or it does not apply.
pub(super) struct Seen(pub(super) Verdict, pub(super) String);

/// The result of a row; the error says which rule is broken.
pub(super) type Checked = anyhow::Result<Seen>;

/// The worker follows the rule.
#[expect(clippy::unnecessary_wraps, reason = "the last expression of each row")]
pub(super) fn ok(seen: impl Into<String>) -> Checked {
    Ok(Seen(Verdict::Ok, seen.into()))
}

impl Verdict {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::NotTried => "not tried",
        }
    }
}

impl Report {
    pub(super) const fn new(rows: Vec<Row>) -> Self {
        Self { rows }
    }

    /// The table for a terminal.
    pub(super) fn table(&self) -> String {
        let width = self.rows.iter().map(|row| row.row.len()).max().unwrap_or_default();
        let line =
            |row: &Row| format!("{:width$}  {:9}  {}\n", row.row, row.result.name(), row.seen);
        let count = |result| self.rows.iter().filter(|row| row.result == result).count();
        let (ok, failed) = (count(Verdict::Ok), count(Verdict::Failed));
        let lines: String = self.rows.iter().map(line).collect();
        format!("{lines}\n{ok} ok, {failed} failed, {} not tried\n", count(Verdict::NotTried))
    }

    /// The same as JSON. Keys are added, never renamed.
    ///
    /// # Errors
    /// Never.
    pub(super) fn json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Succeeds if no row has failed.
    ///
    /// # Errors
    /// The rows that failed.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let failed = self.rows.iter().filter(|row| row.result == Verdict::Failed);
        let failed: Vec<&str> = failed.map(|row| row.row).collect();
        anyhow::ensure!(
            failed.is_empty(),
            "the worker does not follow the protocol: {}; see docs/wire.md",
            failed.join(", ")
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_and_json_show_each_row() {
        let row = |row, result, seen: &str| Row { row, result, seen: seen.to_owned() };
        let report = Report::new(vec![
            row("refusal", Verdict::Ok, "no entry"),
            row("happy path", Verdict::Failed, "no completion"),
            row("batches", Verdict::NotTried, "optional"),
        ]);
        let expected = "refusal     ok         no entry\n\
                        happy path  failed     no completion\n\
                        batches     not tried  optional\n\n\
                        1 ok, 1 failed, 1 not tried\n";
        assert_eq!(report.table(), expected);
        let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        assert_eq!(json["rows"][2]["result"], "not tried");
        let error = report.check().unwrap_err().to_string();
        assert!(error.contains("happy path") && !error.contains("refusal"), "{error}");
    }
}
