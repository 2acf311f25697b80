//! `concert fmt`: formats rule files.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, ensure};
use clap::Args;
use concert_lang::source::SourceFile;
use concert_sync_router::files::RULES;
use concert_worker::Worker;

use crate::config;
use crate::output;

/// Arguments of `concert fmt`.
#[derive(Debug, Clone, Args)]
pub(crate) struct FmtArgs {
    /// Rule files, or directories to search for `*.sync`; `-` formats standard input to standard
    /// output. Hidden files are skipped. If not given: `rules.syncs` of the application
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Change nothing; print the first difference of each file, and exit 1 if there are any
    #[arg(long)]
    pub(crate) check: bool,
}

/// Path that denotes standard input and output.
const STANDARD: &str = "-";

/// Formats all files. Reports each file that cannot be formatted, and fails at the end if there was
/// one.
pub(crate) fn run(args: &FmtArgs, workers: &[Worker]) -> anyhow::Result<()> {
    let mut files = BTreeSet::new();
    let mut failed = 0_usize;
    let paths = match &*args.paths {
        [] => vec![config::of_rules(None, workers)?.rules.syncs],
        paths => paths.to_vec(),
    };
    for path in &paths {
        if let Err(error) = search(path, &mut files) {
            output::print_error(&error);
            failed += 1;
        }
    }
    let mut different = 0_usize;
    for file in &files {
        match one(file, args.check) {
            Ok(is_different) => different += usize::from(is_different),
            Err(error) => {
                output::print_error(&error);
                failed += 1;
            }
        }
    }
    ensure!(failed == 0, "some files could not be formatted; correct the errors above");
    ensure!(!args.check || different == 0, "some files are not formatted; run `concert fmt`");
    Ok(())
}

/// Collects the rule files of a path.
fn search(path: &Path, files: &mut BTreeSet<PathBuf>) -> anyhow::Result<()> {
    if path == Path::new(STANDARD) {
        files.insert(path.to_owned());
        return Ok(());
    }
    let cannot = || format!("cannot read {}", path.display());
    if fs::metadata(path).with_context(cannot)?.is_dir() {
        files.extend(RULES.find(path)?);
        return Ok(());
    }
    ensure!(
        RULES.matches(path),
        "{} is not a rule file: only .{} files can be formatted",
        path.display(),
        RULES.extension
    );
    files.insert(path.to_owned());
    Ok(())
}

/// Formats a file, or prints the first difference with `is_check`. Returns whether the file
/// differs.
fn one(path: &Path, is_check: bool) -> anyhow::Result<bool> {
    let is_standard = path == Path::new(STANDARD);
    let name = if is_standard { "standard input".to_owned() } else { path.display().to_string() };
    let bytes = if is_standard {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(path)
    };
    let bytes = bytes.with_context(|| format!("cannot read {name}"))?;
    let text = String::from_utf8(bytes).with_context(|| format!("{name} is not UTF-8"))?;
    let source = SourceFile::new(name, text);
    let formatted = concert_lang::format(&source).map_err(|report| {
        anyhow!("{} has errors\n{}", source.name, report.to_string().trim_end())
    })?;
    let is_different = formatted != source.text;
    if is_check {
        if is_different {
            output::print_line(hint(&source, &formatted));
        }
    } else if is_standard {
        output::print_text(&formatted).context("cannot write to standard output")?;
    } else if is_different {
        fs::write(path, &formatted).with_context(|| format!("cannot write {}", source.name))?;
        output::print_line(&source.name);
    }
    Ok(is_different)
}

/// The first lines that differ, with their number.
fn hint(source: &SourceFile, formatted: &str) -> String {
    let mut old = source.text.split_inclusive('\n');
    let mut new = formatted.split_inclusive('\n');
    let mut number = 1_usize;
    loop {
        let (old, new) = (old.next(), new.next());
        if old != new || old.is_none() {
            // Trailing blanks and invisible characters are shown, too.
            let shown = |sign: char, line: Option<&str>| {
                line.map(|line| format!("\n  {sign} {}", visible(line)))
            };
            let old = shown('-', old).unwrap_or_default();
            let new = shown('+', new).unwrap_or_default();
            return format!("{}:{number}{old}{new}", source.name);
        }
        number += 1;
    }
}

/// Makes trailing blanks, tabs, byte order marks and a missing line end visible.
fn visible(line: &str) -> String {
    let end = line.strip_suffix('\n');
    let line = end.unwrap_or(line);
    let text = line.trim_end();
    let blanks: String = line.get(text.len()..).unwrap_or_default().escape_default().collect();
    let mark = if end.is_none() { " (no line end)" } else { "" };
    format!("{}{blanks}{mark}", text.replace('\u{feff}', "\\u{feff}").replace('\t', "\\t"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(old: &str, new: &str, expected: &str) {
        assert_eq!(hint(&SourceFile::new("a.sync", old), new), expected);
    }

    #[test]
    fn first_different_line_is_shown() {
        check("a\nb\nc\n", "a\n  b\nc\n", "a.sync:2\n  - b\n  +   b");
        check("a\n\n", "a\n", "a.sync:2\n  - ");
    }

    #[test]
    fn invisible_differences_are_made_visible() {
        check("a \r\n", "a\n", "a.sync:1\n  - a \\r\n  + a");
        check("\u{feff}\ta", "a\n", "a.sync:1\n  - \\u{feff}\\ta (no line end)\n  + a");
    }

    const ROUGH: &str = "sync R\nwhen A.b ()\nthen A.c ()";
    const SMOOTH: &str = "sync R\nwhen\n    A.b ()\nthen\n    A.c ()\n";

    /// Formats files; returns success and the resulting texts.
    fn formatted(files: &[(&str, &str)], extra: Option<&str>, check: bool) -> (bool, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = files.iter().map(|(name, _)| dir.path().join(name)).collect();
        for (path, (_, text)) in paths.iter().zip(files) {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let extra = extra.map(|name| dir.path().join(name));
        let paths_given = extra.into_iter().chain([dir.path().to_owned()]).collect();
        let result = run(&FmtArgs { paths: paths_given, check }, &[]);
        let texts = paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        (result.is_ok(), texts)
    }

    #[test]
    fn only_rule_files_of_a_directory_are_formatted() {
        let files =
            [("a.sync", ROUGH), ("b/c.sync", ROUGH), ("d.concept", ROUGH), (".e/f.sync", ROUGH)];
        let (is_ok, texts) = formatted(&files, None, false);
        assert!(is_ok);
        assert_eq!(texts, [SMOOTH, SMOOTH, ROUGH, ROUGH]);
    }

    #[test]
    fn invalid_file_does_not_prevent_formatting_of_others() {
        let files = [("a.sync", "sync"), ("b.sync", ROUGH), ("d.concept", "")];
        let (is_ok, texts) = formatted(&files, None, false);
        assert!(!is_ok);
        assert_eq!(texts, ["sync", SMOOTH, ""]);
        for extra in ["missing", "d.concept"] {
            let (is_ok, texts) = formatted(&files[1..], Some(extra), false);
            assert!(!is_ok);
            assert_eq!(texts, [SMOOTH, ""]);
        }
    }

    #[test]
    fn check_changes_nothing_and_fails_on_differences() {
        for (text, expected) in [(ROUGH, false), (SMOOTH, true)] {
            let (is_ok, texts) = formatted(&[("a.sync", text)], None, true);
            assert_eq!((is_ok, texts), (expected, vec![text.to_owned()]));
        }
    }

    #[test]
    fn directory_without_rules_is_an_error() {
        assert!(!formatted(&[("d.concept", "")], None, false).0);
    }
}
