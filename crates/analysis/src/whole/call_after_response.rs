//! Calls after the response, whose failure the client does not see.

use super::places::Places;
use crate::explore::{Site, is_answer, name};
use concert_lang::diagnostics::{AFTER_ANSWER, Diagnostic};
use concert_lang::program::{Call, Program};

pub(super) fn judge(program: &Program, places: &Places<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for (rule, sync) in program.syncs.iter().enumerate() {
        if places.allows(rule, AFTER_ANSWER) {
            continue;
        }
        let mut look = |calls: &[Call], site: fn(usize) -> Site| {
            let Some(answer) = calls.iter().position(is_answer) else {
                return;
            };
            let mut later = calls.iter().enumerate().skip(answer + 1);
            let Some((number, call)) = later.find(|(_, call)| !is_answer(call)) else {
                return;
            };
            let message = format!(
                "`{}` is called after the response; its failure cannot be reported to the client",
                name(&call.concept, &call.action)
            );
            let diagnostic =
                Diagnostic::warning(AFTER_ANSWER, places.call(rule, site(number)), message);
            let help = "move `Requesting.respond` after this call";
            let related = places.call(rule, site(answer));
            diagnostics.push(diagnostic.related(related, "the response").help(help));
        };
        look(&sync.then, Site::Then);
        if let Some(otherwise) = &sync.otherwise {
            look(&otherwise.calls, Site::ElseBranch);
        }
    }
}
