//! Prints a flow as a tree: each action is below the rule that called it, each rule below the
//! action that made it fire.

use concert_engine::provenance::{Action, Firing, Flow, RootKind, Source, State};

use super::large::Expiries;
use super::lines::{self, Paint, clean};

/// The whole flow.
pub(super) fn of(flow: &Flow, expiries: &Expiries, paint: Paint) -> String {
    let mut text = heading(flow, paint);
    let tree = Tree { flow, expiries, paint };
    for action in &flow.actions {
        if action.by.is_none() {
            tree.action(action, "", "", &mut text);
        }
    }
    if let Some(halt) = &flow.halt {
        text += &format!("\n{} {}\n", paint.bad("Stopped:"), clean(&halt.why));
    }
    if !flow.undecided.is_empty() {
        text += "\nMatched, but its queries returned no rows or have not been answered yet:\n";
        for undecided in &flow.undecided {
            text += &format!("  {}\n", paint.rule(&undecided.sync));
        }
    }
    if !flow.near_misses.is_empty() {
        text += "\nNear misses:\n";
        for miss in &flow.near_misses {
            let at = if miss.failed.text.is_empty() {
                String::new()
            } else {
                format!(" stopped at {}", paint.faint(&clean(&miss.failed.text)))
            };
            text += &format!("  {}{at}: {}\n", paint.rule(&miss.sync), clean(&miss.failed.why));
        }
    }
    text
}

fn heading(flow: &Flow, paint: Paint) -> String {
    let began = match (&flow.path, flow.root_kind) {
        (Some(path), _) => format!("request of {}", clean(path)),
        (None, RootKind::Request) => "request".to_owned(),
        (None, RootKind::Injected) => "injected".to_owned(),
    };
    let status = flow.status.map(|status| format!(" {status}")).unwrap_or_default();
    let summary = flow.summary();
    let outcome = paint.of(flow.outcome, &format!("{}{status}", lines::word(flow.outcome)));
    let mut text = format!(
        "flow {}  {began}\n{}  {outcome} in {}",
        paint.bold(&flow.flow),
        lines::time(flow.began_us),
        lines::took(summary.took_us).trim()
    );
    if let Some(sync) = &flow.answered_by {
        text += &format!(", response by {}", paint.rule(sync));
    }
    let source = match flow.source {
        Source::Log => "the log",
        Source::Archive => "the archive",
    };
    text += &paint.faint(&format!("\nfrom {source}, rule version {}", flow.rules));
    if flow.truncated {
        text += &paint.faint("; values are omitted, because the flow is larger than one message");
    }
    text + "\n\n"
}

struct Tree<'a> {
    flow: &'a Flow,
    expiries: &'a Expiries,
    paint: Paint,
}

/// Children of an action.
enum Below<'a> {
    Firing(&'a Firing),
    /// A response of the router.
    Own(&'a Action),
}

impl Tree<'_> {
    fn action(&self, action: &Action, branch: &str, below: &str, text: &mut String) {
        let offset = lines::took(action.asked_us.saturating_sub(self.flow.began_us));
        let took = match action.completed_us {
            Some(completed) if action.by.is_some() || completed > action.asked_us => {
                lines::took(completed.saturating_sub(action.asked_us))
            }
            _ => " ".repeat(lines::took(0).len()),
        };
        let name = format!("{}.{}", action.concept, action.action);
        *text += &format!(
            "{} {}  {}{}  {}{}\n",
            self.paint.faint(&format!("{:>11}", format!("+{}", offset.trim_start()))),
            took,
            self.paint.faint(branch),
            self.paint.bold(&name),
            self.outcome(action),
            self.paint.faint(&lines::work(action))
        );
        let children: Vec<Below<'_>> = self.below(action);
        let count = children.len();
        for (number, child) in children.into_iter().enumerate() {
            let is_last = number + 1 == count;
            let (corner, line) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            match child {
                Below::Firing(firing) => self.firing(
                    firing,
                    &format!("{below}{corner}"),
                    &format!("{below}{line}"),
                    text,
                ),
                Below::Own(action) => self.action(
                    action,
                    &format!("{below}{corner}"),
                    &format!("{below}{line}"),
                    text,
                ),
            }
        }
    }

    fn firing(&self, firing: &Firing, branch: &str, below: &str, text: &mut String) {
        let blank = " ".repeat(11 + 1 + lines::took(0).len());
        let ended =
            |number: usize| firing.frames.get(number).is_some_and(|frame| frame.ended == "else");
        let all_else = !firing.frames.is_empty() && (0..firing.frames.len()).all(ended);
        let note = match (all_else, firing.frames.len()) {
            (true, _) => "  in the `else` of a step".to_owned(),
            (false, 0) => "  no frames left".to_owned(),
            (false, 1) => String::new(),
            (false, frames) => format!("  in {frames} frames"),
        };
        let name = self.paint.rule(&firing.sync);
        *text += &format!(
            "{blank}  {}{name}{}{}\n",
            self.paint.faint(branch),
            self.paint.faint(&note),
            self.paint.faint(&lines::queries(firing))
        );
        let calls: Vec<&Action> = firing
            .frames
            .iter()
            .flat_map(|frame| &frame.calls)
            .filter_map(|id| self.flow.actions.iter().find(|action| action.id == *id))
            .collect();
        let count = calls.len();
        for (number, action) in calls.into_iter().enumerate() {
            let is_last = number + 1 == count;
            let (corner, line) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            self.action(action, &format!("{below}{corner}"), &format!("{below}{line}"), text);
        }
    }

    /// The outcome of an action, in a few words.
    fn outcome(&self, action: &Action) -> String {
        let shown = |object: &Option<serde_json::Map<String, serde_json::Value>>, but: &[&str]| {
            object
                .as_ref()
                .map(|object| lines::object(object, but, self.expiries))
                .unwrap_or_default()
        };
        let responds = action.concept == "Requesting";
        match (action.state, action.outcome.as_deref()) {
            (State::Dead, _) => {
                let reason =
                    action.dead.as_ref().map(|dead| clean(&dead.reason)).unwrap_or_default();
                self.paint.bad(&format!("dead-lettered: {reason}"))
            }
            (State::InFlight, _) => self.paint.waits("in flight"),
            (State::Completed, Some("success")) if responds => {
                self.paint.faint(&shown(&action.input, &["request"]))
            }
            (State::Completed, Some("success")) => {
                let output = shown(&action.output, &[]);
                let done =
                    if output.is_empty() { "done".to_owned() } else { format!("→ {output}") };
                self.paint.good(&done)
            }
            (State::Completed, outcome) => {
                let word = if outcome == Some("fault") { "fault" } else { "refused" };
                let error = action.output.as_ref().and_then(|output| output.get("error")?.as_str());
                self.paint.bad(&format!("{word}: {}", clean(error.unwrap_or_default())))
            }
        }
    }

    /// The children of an action: firings whose newest cause it is, and the router's own response
    /// to it.
    fn below(&self, action: &Action) -> Vec<Below<'_>> {
        let Some(seq) = action.seq else { return Vec::new() };
        let seq_of = |id: &String| self.flow.actions.iter().find(|other| other.id == *id)?.seq;
        let firings = self.flow.firings.iter().filter(|firing| {
            let newest = firing.causes.iter().filter_map(seq_of).max();
            newest == Some(seq)
        });
        let own = self.flow.actions.iter().filter(|other| {
            let by = other.by.as_ref();
            by.is_some_and(|by| by.firing.is_none() && by.cause_seq == seq)
        });
        firings.map(Below::Firing).chain(own.map(Below::Own)).collect()
    }
}

#[cfg(test)]
mod tests;
