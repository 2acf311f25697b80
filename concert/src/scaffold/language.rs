//! The languages of workers, and their templates.

use std::path::Path;

use clap::ValueEnum;

use super::words;

/// A language with an SDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// TypeScript on Node.js
    #[value(name = "ts")]
    TypeScript,
    /// Python
    #[value(name = "py")]
    Python,
    /// Rust
    #[value(name = "rust")]
    Rust,
}

/// Name and text of a file.
type File = (&'static str, &'static str);

const TYPESCRIPT: [File; 2] = [
    ("package.json", include_str!("../../templates/typescript/package.json")),
    ("tsconfig.json", include_str!("../../templates/typescript/tsconfig.json")),
];
const PYTHON: [File; 1] =
    [("requirements.txt", include_str!("../../templates/python/requirements.txt"))];
const RUST: [File; 1] = [("Cargo.toml", include_str!("../../templates/rust/manifest.toml"))];

impl Language {
    /// The language of an application, by the file of its package manager.
    pub(super) fn of_app(dir: &Path) -> Option<Self> {
        Self::value_variants().iter().copied().find(|one| dir.join(one.manifest()).exists())
    }

    /// The main file of the package manager.
    pub(super) fn manifest(self) -> &'static str {
        match self {
            Self::TypeScript => "package.json",
            Self::Python => "requirements.txt",
            Self::Rust => "Cargo.toml",
        }
    }

    /// Directory of the SDK in a checkout of Concert.
    pub(super) fn sdk(self) -> &'static str {
        match self {
            Self::TypeScript => "sdk/typescript",
            Self::Python => "sdk/python",
            Self::Rust => "crates/worker",
        }
    }

    /// The files of the package manager.
    pub(super) fn project(self) -> &'static [File] {
        match self {
            Self::TypeScript => &TYPESCRIPT,
            Self::Python => &PYTHON,
            Self::Rust => &RUST,
        }
    }

    /// Directory of the workers.
    pub(super) fn workers(self) -> &'static str {
        match self {
            Self::TypeScript | Self::Python => "workers/",
            Self::Rust => "src/bin/",
        }
    }

    /// File of a concept's worker.
    fn worker(self, concept: &str) -> String {
        let words = words(concept);
        match self {
            Self::TypeScript => format!("workers/{}.ts", words.join("-")),
            Self::Python => format!("workers/{}.py", words.join("_")),
            Self::Rust => format!("src/bin/{}.rs", words.join("-")),
        }
    }

    /// Worker and test of a concept, as paths and texts.
    pub(super) fn files(self, concept: &str) -> Vec<(String, &'static str)> {
        let worker = self.worker(concept);
        let words = words(concept);
        match self {
            Self::TypeScript => vec![
                (worker, include_str!("../../templates/typescript/note.ts")),
                (
                    format!("tests/{}.test.ts", words.join("-")),
                    include_str!("../../templates/typescript/note.test.ts"),
                ),
            ],
            Self::Python => vec![
                (worker, include_str!("../../templates/python/note.py")),
                (
                    format!("tests/test_{}.py", words.join("_")),
                    include_str!("../../templates/python/test_note.py"),
                ),
            ],
            Self::Rust => vec![(worker, include_str!("../../templates/rust/bin/note.rs"))],
        }
    }

    /// Command that runs a concept's worker.
    pub(super) fn command(self, concept: &str) -> Vec<String> {
        let worker = self.worker(concept);
        let name = words(concept).join("-");
        match self {
            Self::TypeScript => ["node", "--import", "tsx", &worker].map(str::to_owned).to_vec(),
            Self::Python => [".venv/bin/python", &worker].map(str::to_owned).to_vec(),
            Self::Rust => ["cargo", "run", "--quiet", "--bin", &name].map(str::to_owned).to_vec(),
        }
    }

    /// Files and directories whose changes restart a concept's worker.
    pub(super) fn watched(self, concept: &str) -> Vec<String> {
        vec![self.worker(concept), self.manifest().to_owned()]
    }

    /// Command that writes the types of a concept's worker.
    pub(super) fn types(self, concept: &str) -> Option<String> {
        let words = words(concept);
        let (lang, file) = match self {
            Self::TypeScript => ("ts", format!("workers/{}-types.ts", words.join("-"))),
            Self::Python => ("py", format!("workers/{}_types.py", words.join("_"))),
            Self::Rust => return None,
        };
        Some(format!("concert gen {concept} --lang {lang} --out {file}"))
    }

    /// Commands that build the SDK in a checkout, if it needs that.
    pub(super) fn build_of_sdk(self, checkout: &Path) -> Vec<String> {
        let sdk = checkout.join(self.sdk());
        let is_built = self != Self::TypeScript || sdk.join("dist").exists();
        let build = || format!("(cd {} && npm ci && npm run build)", sdk.display());
        (!is_built).then(build).into_iter().collect()
    }

    /// Commands that install the dependencies.
    pub(super) fn install(self) -> &'static str {
        match self {
            Self::TypeScript => "npm install",
            Self::Python => {
                "python3 -m venv .venv\n.venv/bin/pip install --requirement requirements.txt"
            }
            Self::Rust => "cargo build",
        }
    }

    /// Command that runs the tests.
    pub(super) fn test(self) -> &'static str {
        match self {
            Self::TypeScript => "npm test              # tests the running application",
            Self::Python => ".venv/bin/python -m unittest discover tests   # while it runs",
            Self::Rust => "cargo test            # starts its own servers",
        }
    }

    /// Files that version control ignores.
    pub(super) fn ignored(self) -> &'static str {
        match self {
            Self::TypeScript => "/node_modules",
            Self::Python => "/.venv\n__pycache__",
            Self::Rust => "/target",
        }
    }
}
