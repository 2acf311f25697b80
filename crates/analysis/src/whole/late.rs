//! Calls behind the answer: the client is told that something has happened before it has.

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
                "the request is answered before `{}` is asked",
                name(&call.concept, &call.action)
            );
            let diagnostic =
                Diagnostic::warning(AFTER_ANSWER, places.call(rule, site(number)), message);
            let help = "if the answer tells of this call, it must come last; a failure here is told to nobody";
            let related = places.call(rule, site(answer));
            diagnostics.push(diagnostic.related(related, "the answer").help(help));
        };
        look(&sync.then, Site::Then);
        if let Some(otherwise) = &sync.otherwise {
            look(&otherwise.calls, Site::Otherwise);
        }
    }
}
