//! The rules of the simulation: those of the application and of a shop, in two versions.

use std::sync::Arc;

use concert_engine::Version;
use concert_lang::program::Program;
use concert_lang::requesting;
use concert_lang::source::SourceFile;

macro_rules! file {
    ($path:literal) => {
        SourceFile::new($path.to_owned(), include_str!(concat!("../../../", $path)).to_owned())
    };
}

/// Two versions of the rules, compiled once for all runs.
#[derive(Debug)]
pub struct Programs(pub(crate) [Arc<Program>; 2]);

impl Programs {
    /// Compiles them.
    ///
    /// # Errors
    /// The rendered diagnostics of the rules.
    pub fn compile() -> Result<Self, String> {
        let concepts = [
            file!("concepts/Profile.concept"),
            requesting::source(),
            file!("concepts/Sessioning.concept"),
            file!("tests/simulation/rules/Shop.concept"),
        ];
        let mut syncs = vec![
            file!("syncs/auth.sync"),
            file!("syncs/sessions.sync"),
            file!("tests/simulation/rules/shop.sync"),
        ];
        let compile = |syncs: &[SourceFile]| match concert_lang::compile(&concepts, syncs) {
            Ok((program, _)) => Ok(Arc::new(program)),
            Err(report) => Err(report.to_string()),
        };
        let older = compile(&syncs)?;
        syncs.push(file!("tests/simulation/rules/newer.sync"));
        Ok(Self([older, compile(&syncs)?]))
    }

    pub(crate) fn get(&self, number: usize) -> Arc<Program> {
        let [older, newer] = &self.0;
        if number.is_multiple_of(2) { older } else { newer }.clone()
    }

    pub(crate) fn of(&self, version: &Version) -> Option<Arc<Program>> {
        self.0.iter().find(|program| *program.version == **version).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simulation_rules_are_formatted() {
        for file in
            [file!("tests/simulation/rules/shop.sync"), file!("tests/simulation/rules/newer.sync")]
        {
            let laid_out = concert_lang::format(&file);
            assert_eq!(laid_out.ok().as_ref(), Some(&file.text), "{}", file.name);
        }
    }
}
