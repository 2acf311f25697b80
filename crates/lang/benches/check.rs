//! Benchmark of the checker: `cargo bench -p concert-lang --bench check`. It has no time limit.

#![expect(clippy::panic, reason = "invalid rules are an error in the benchmark")]

use std::fmt::Write as _;

use concert_lang::compile;
use concert_lang::requesting;
use concert_lang::source::SourceFile;
use divan::Bencher;

fn main() {
    divan::main();
}

/// Rules of a large application: for each path a request, a response and a failure; twenty rules
/// per concept and per file.
fn application(rules: usize) -> (Vec<SourceFile>, Vec<SourceFile>) {
    let mut specs = vec![requesting::source()];
    let mut files: Vec<SourceFile> = Vec::new();
    for number in 0..rules.div_ceil(4) {
        let concept = number / 5;
        if number % 5 == 0 {
            let spec = format!(
                "concept Shelf{concept} [User]\npurpose\n    keep things\nactions\n    put (owner: User, title: String, pages?: Number) : (text: Text)\n        effects adds a text\n    put (owner: User, title: String, pages?: Number) : (error: String)\nqueries\n    _getOwner (title: String) : (owner: User)?\n    _getTexts (owner: User) : (text: Text, title: String)*\n"
            );
            specs.push(SourceFile::new(format!("Shelf{concept}.concept"), spec));
            files.push(SourceFile::new(format!("shelf{concept}.sync"), String::new()));
        }
        let Some(file) = files.last_mut() else { continue };
        let written = write!(
            file.text,
            r#"
sync Put{number}
when
    Requesting.request (path: "/put/{number}", title, pages?) : (request)
where
    Shelf{concept}._getOwner (title) : (owner)
        else Requesting.respond (request, error: "no owner", status: 404)
then
    Shelf{concept}.put (owner, title, pages?: pages)

sync Respond{number}
when
    Requesting.request (path: "/put/{number}") : (request)
    Shelf{concept}.put () : (text)
then
    Requesting.respond (request, text)

sync Refuse{number}
when
    Requesting.request (path: "/put/{number}") : (request)
    Shelf{concept}.put () : (error)
then
    Requesting.respond (request, error)

sync List{number}
when
    Requesting.request (path: "/list/{number}", owner) : (request)
where
    Shelf{concept}._getTexts (owner) : (text, title)
    title != ""
    collect (text, title) as texts
then
    Requesting.respond (request, texts)
"#
        );
        assert!(written.is_ok());
    }
    (specs, files)
}

/// Compiles this many rules.
#[divan::bench(args = [100, 1000, 5000], sample_count = 10)]
fn rules(bencher: Bencher<'_, '_>, rules: usize) {
    let (specs, files) = application(rules);
    bencher.bench_local(|| match compile(&specs, &files) {
        Ok((program, warnings)) => {
            assert!(warnings.is_empty(), "{warnings:?}");
            program
        }
        Err(report) => panic!("{report}"),
    });
}
