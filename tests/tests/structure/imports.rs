//! Import graph of a crate's files, built from `use` and from paths within the code, without tests.
//!
//! A re-export counts as an import of the file that defines the name, not of `lib.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::source::{Name, Source};

/// Maximum depth of nested re-exports.
const MAX_DEPTH: usize = 16;

/// A module in a separate file, or inline in the file of its parent.
struct Module {
    parent: Option<usize>,
    file: PathBuf,
    children: BTreeMap<String, usize>,
    defined: BTreeSet<String>,
    /// Imported names, each with its path.
    imports: BTreeMap<String, Name>,
    globs: Vec<Name>,
    /// All paths, including those of `use`.
    paths: Vec<Name>,
}

/// The modules of a crate; the first is its root.
struct Crate(Vec<Module>);

/// The target of a path.
enum Target {
    Module(usize),
    /// An item that this module defines.
    Item(usize),
}

/// The import cycles of the crate with this root file, largest first, each as a sorted list of
/// files.
pub(crate) fn cycles(root: &Path) -> Vec<Vec<PathBuf>> {
    let mut all = Crate(Vec::new());
    let source = Source::read(root);
    all.add(None, root.to_owned(), root.parent().unwrap(), source);
    let imports = all.file_imports();
    let reached: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> =
        imports.keys().map(|file| (file, reachable(&imports, file))).collect();
    let mut cycles: BTreeSet<Vec<PathBuf>> = BTreeSet::new();
    for (file, others) in &reached {
        let circle: Vec<PathBuf> = others
            .iter()
            .filter(|other| reached.get(*other).is_some_and(|back| back.contains(*file)))
            .map(|other| (*other).clone())
            .collect();
        if circle.len() > 1 {
            cycles.insert(circle);
        }
    }
    let mut cycles: Vec<_> = cycles.into_iter().collect();
    cycles.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
    cycles
}

fn reachable<'a>(
    imports: &'a BTreeMap<PathBuf, BTreeSet<PathBuf>>,
    from: &PathBuf,
) -> BTreeSet<&'a PathBuf> {
    let mut found = BTreeSet::new();
    let mut waiting: Vec<&PathBuf> = imports.get(from).into_iter().flatten().collect();
    while let Some(file) = waiting.pop() {
        if found.insert(file) {
            waiting.extend(imports.get(file).into_iter().flatten());
        }
    }
    found
}

impl Crate {
    /// Adds a module and its descendants. `dir` is the directory of its child files.
    fn add(&mut self, parent: Option<usize>, file: PathBuf, dir: &Path, source: Source) -> usize {
        let number = self.0.len();
        self.0.push(Module {
            parent,
            file: file.clone(),
            children: BTreeMap::new(),
            defined: source.defined,
            imports: source.imports,
            globs: source.globs,
            paths: source.paths,
        });
        for (name, inline) in source.modules {
            let below = dir.join(&name);
            let child = if let Some(inline) = inline {
                self.add(Some(number), file.clone(), &below, inline)
            } else {
                let path = dir.join(format!("{name}.rs"));
                let source = Source::read(&path);
                self.add(Some(number), path, &below, source)
            };
            self.0[number].children.insert(name, child);
        }
        number
    }

    fn file_imports(&self) -> BTreeMap<PathBuf, BTreeSet<PathBuf>> {
        let mut imports: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
        for (number, module) in self.0.iter().enumerate() {
            let of_file = imports.entry(module.file.clone()).or_default();
            for path in &module.paths {
                if let Some(Target::Module(target) | Target::Item(target)) =
                    self.resolve(number, path, 0)
                    && self.0[target].file != module.file
                {
                    of_file.insert(self.0[target].file.clone());
                }
            }
        }
        imports
    }

    /// The target of a path as seen from a module; `None` if it is outside the crate.
    fn resolve(&self, from: usize, path: &[String], depth: usize) -> Option<Target> {
        let (first, rest) = path.split_first()?;
        let start = match first.as_str() {
            "crate" => Target::Module(0),
            "self" => Target::Module(from),
            "super" => Target::Module(self.0[from].parent?),
            name => self.member(from, name, depth)?,
        };
        rest.iter().try_fold(start, |at, name| match at {
            // The rest of the path is a variant or an associated function.
            Target::Item(_) => Some(at),
            Target::Module(at) if name == "super" => Some(Target::Module(self.0[at].parent?)),
            Target::Module(at) if name == "self" => Some(Target::Module(at)),
            // An unknown name (from a macro or another crate) at least uses the module.
            Target::Module(at) => Some(self.member(at, name, depth).unwrap_or(Target::Item(at))),
        })
    }

    /// The meaning of a name in a module.
    fn member(&self, of: usize, name: &str, depth: usize) -> Option<Target> {
        let module = &self.0[of];
        if let Some(child) = module.children.get(name) {
            return Some(Target::Module(*child));
        }
        if module.defined.contains(name) {
            return Some(Target::Item(of));
        }
        if depth == MAX_DEPTH {
            return None;
        }
        if let Some(path) = module.imports.get(name) {
            // `use name::…` of another crate must not resolve to itself.
            let is_itself = path.first().is_some_and(|first| first == name);
            return if is_itself { None } else { self.resolve(of, path, depth + 1) };
        }
        module.globs.iter().find_map(|glob| match self.resolve(of, glob, depth + 1)? {
            Target::Module(at) => self.member(at, name, depth + 1),
            Target::Item(_) => None,
        })
    }
}
