use concert_wire::envelope::Object;
use serde_json::Value;

use super::*;

const LIMITS: Limits = Limits { attempts: 3, ack_wait_ms: 100, margin_ms: 10 };
/// A time at which the message is this worker's, and one at which it may not be.
const IN_TIME: u64 = 89;
const TOO_LATE: u64 = 90;

fn completion(text: &str) -> Arc<Completion> {
    Arc::new(Completion {
        input: Object::new(),
        output: Object::from_iter([("text".to_owned(), Value::from(text))]),
    })
}

fn own() -> Arc<Completion> {
    completion("own")
}

fn standing() -> Arc<Completion> {
    completion("standing")
}

fn why() -> String {
    "why".to_owned()
}

fn found() -> Event {
    Event::Found(Found::Completion(standing()))
}

fn nothing() -> Event {
    Event::Found(Found::Nothing)
}

fn unread() -> Event {
    Event::Found(Found::Unread(why()))
}

fn malformed() -> Event {
    Event::Found(Found::Malformed(why()))
}

fn handled() -> Event {
    Event::Handled(Handled::Completed(own()))
}

fn failed() -> Event {
    Event::Handled(Handled::Failed(why()))
}

fn published(published: Published) -> Event {
    Event::Published(published)
}

fn retried() -> Effect {
    Effect::End(End::Nak { wait: Wait::Backoff, why: why() })
}

fn left(why: &str) -> Effect {
    Effect::End(End::Leave(why.to_owned()))
}

fn letter(why: &str) -> Effect {
    Effect::StoreLetter(why.to_owned())
}

/// A way into a state: which attempt, and what happened so far.
type Way = (i64, Vec<Event>);

fn running() -> Way {
    (1, vec![])
}

fn running_again() -> Way {
    (2, vec![nothing(), Event::Turn])
}

fn running_last() -> Way {
    let events = [nothing(), Event::Turn, nothing(), Event::NoteTaken(false), Event::NoteLeft];
    (4, events.into())
}

fn then((attempt, mut events): Way, event: Event) -> Way {
    events.push(event);
    (attempt, events)
}

/// The delivery after all that, at the time 0, with a write that was granted.
fn written((attempt, events): Way) -> Delivery {
    let (mut delivery, _) = Delivery::new(attempt, LIMITS, 0);
    for event in events {
        if matches!(event, Event::Handled(_)) {
            assert_eq!(delivery.may_write(0), Permit::Look);
            assert_eq!(delivery.looked(Found::Nothing, 0), Permit::Granted);
        }
        delivery.on(event, 0);
    }
    delivery
}

fn after((attempt, events): Way) -> (Delivery, Effects) {
    let (mut delivery, mut effects) = Delivery::new(attempt, LIMITS, 0);
    for event in events {
        effects = delivery.on(event, 0);
    }
    (delivery, effects)
}

/// What follows at this time.
fn check(way: Way, event: Event, now_ms: u64, expected: &[Effect]) {
    let text = format!("{way:?}, {event:?} at {now_ms}");
    let (mut delivery, _) = after(way);
    assert_eq!(delivery.on(event, now_ms).as_slice(), expected, "{text}");
}

#[test]
fn first_delivery_runs_without_a_look() {
    assert_eq!(after((1, vec![])).1.as_slice(), [Effect::Run]);
}

#[test]
fn redelivery_looks_before_it_runs() {
    assert_eq!(after((2, vec![])).1.as_slice(), [Effect::Look]);
    check((2, vec![]), nothing(), 0, &[Effect::AwaitTurn { alone: false }]);
    check((3, vec![]), nothing(), 0, &[Effect::AwaitTurn { alone: false }]);
    check((4, vec![]), nothing(), 0, &[Effect::AwaitTurn { alone: true }]);
    check((2, vec![nothing()]), Event::Turn, IN_TIME, &[Effect::Run]);
}

#[test]
fn completed_action_is_answered_and_acknowledged() {
    let done = [Effect::Reply(standing()), Effect::End(End::Ack)];
    check((2, vec![]), found(), TOO_LATE, &done);
    let with_note = [Effect::Reply(standing()), Effect::ForgetNote];
    check((4, vec![]), found(), 0, &with_note);
    check((4, vec![found()]), Event::NoteForgotten, 0, &[Effect::End(End::Ack)]);
    let in_turn = (4, vec![nothing(), Event::Turn]);
    check(in_turn.clone(), found(), 0, &with_note);
    let ended = [Effect::ReleaseTurn, Effect::End(End::Ack)];
    check(then(in_turn, found()), Event::NoteForgotten, 0, &ended);
}

#[test]
fn last_attempt_looks_again_in_its_turn_and_leaves_a_note() {
    let way = (4, vec![nothing()]);
    check(way.clone(), Event::Turn, IN_TIME, &[Effect::Look]);
    let way = then(way, Event::Turn);
    check(way.clone(), nothing(), IN_TIME, &[Effect::TakeNote]);
    let way = then(way, nothing());
    check(way.clone(), Event::NoteTaken(false), IN_TIME, &[Effect::LeaveNote]);
    let dead = [Effect::ReleaseTurn, letter(ENDED_ITS_PROCESS)];
    check(way.clone(), Event::NoteTaken(true), IN_TIME, &dead);
    let retried = [Effect::ReleaseTurn, retried()];
    check(way.clone(), Event::NoteFailed(why()), IN_TIME, &retried);
    let way = then(way, Event::NoteTaken(false));
    check(way.clone(), Event::NoteLeft, IN_TIME, &[Effect::Run]);
    check(way.clone(), Event::NoteFailed(why()), IN_TIME, &[Effect::ForgetNote]);
    check(then(way, Event::NoteFailed(why())), Event::NoteForgotten, IN_TIME, &retried);
}

#[test]
fn delivery_that_lost_its_message_leaves_notes_and_turn_to_others() {
    let late = NoPermit::Late.to_string();
    let leaves = [Effect::ReleaseTurn, left(&late)];
    check((2, vec![nothing()]), Event::Turn, TOO_LATE, &leaves);
    let way = (4, vec![nothing(), Event::Turn]);
    check(way.clone(), nothing(), TOO_LATE, &leaves);
    let way = then(way, nothing());
    check(way.clone(), Event::NoteTaken(true), TOO_LATE, &leaves);
    check(way.clone(), Event::NoteTaken(false), TOO_LATE, &leaves);
    let way = then(way, Event::NoteTaken(false));
    check(way, Event::NoteLeft, TOO_LATE, &[Effect::ForgetNote]);
}

#[test]
fn first_write_waits_for_a_look_and_later_ones_do_not() {
    let (mut delivery, _) = after(running());
    assert_eq!(delivery.may_write(0), Permit::Look);
    assert_eq!(delivery.looked(Found::Nothing, IN_TIME), Permit::Granted);
    assert_eq!(delivery.may_write(IN_TIME), Permit::Granted);
    assert_eq!(delivery.may_write(TOO_LATE), Permit::Refused(NoPermit::Late));
}

#[test]
fn no_permit_for_late_completed_or_unknown() {
    for (found, now_ms, expected) in [
        (Found::Nothing, TOO_LATE, NoPermit::Late),
        (Found::Completion(standing()), 0, NoPermit::Completed),
        (Found::Unread(why()), 0, NoPermit::Unknown(why())),
        (Found::Malformed(why()), 0, NoPermit::Unknown(why())),
    ] {
        let (mut delivery, _) = after(running());
        assert_eq!(delivery.may_write(0), Permit::Look);
        assert_eq!(delivery.looked(found, now_ms), Permit::Refused(expected));
    }
}

#[test]
fn failed_look_is_made_again_and_a_completion_stays_found() {
    let (mut delivery, _) = after(running());
    delivery.looked(Found::Unread(why()), 0);
    assert_eq!(delivery.may_write(0), Permit::Look);
    delivery.looked(Found::Completion(standing()), 0);
    assert_eq!(delivery.may_write(0), Permit::Refused(NoPermit::Completed));
}

#[test]
fn nobody_writes_beside_a_running_handler() {
    for way in [(2, vec![]), then(running(), handled()), then(running(), failed())] {
        let (mut delivery, _) = after(way);
        assert_eq!(delivery.may_write(0), Permit::Refused(NoPermit::Late));
        assert_eq!(delivery.looked(Found::Nothing, 0), Permit::Refused(NoPermit::Late));
    }
}

#[test]
fn outcome_is_published_only_while_the_message_is_ours() {
    check(running(), handled(), IN_TIME, &[Effect::Publish(own())]);
    check(running(), handled(), TOO_LATE, &[left(&NoPermit::Late.to_string())]);
}

#[test]
fn failure_is_retried_until_the_last_attempt() {
    check(running(), failed(), IN_TIME, &[retried()]);
    check(running(), failed(), TOO_LATE, &[left("why")]);
    check(running_again(), failed(), 0, &[Effect::ReleaseTurn, retried()]);
    check(running_last(), failed(), 0, &[Effect::ForgetNote]);
    let way = then(running_last(), failed());
    let dead = [Effect::ReleaseTurn, letter("given up after 4 attempts: why")];
    check(way, Event::NoteForgotten, 0, &dead);
}

#[test]
fn missing_permit_uses_no_attempt_up() {
    let event = || Event::Handled(Handled::NoPermit(why()));
    check(running(), event(), IN_TIME, &[retried()]);
    let way = then(running_last(), event());
    check(way, Event::NoteForgotten, 0, &[Effect::ReleaseTurn, retried()]);
}

#[test]
fn handler_that_was_told_of_a_completion_is_answered_with_it() {
    let before = Event::Handled(Handled::Before);
    check(running(), before.clone(), TOO_LATE, &[Effect::Find]);
    let done = [Effect::Reply(standing()), Effect::End(End::Ack)];
    check(then(running(), before), found(), TOO_LATE, &done);
}

#[test]
fn stored_completion_is_audited_answered_and_acknowledged() {
    let stored = || published(Published::Stored);
    let told = [Effect::Audit(own()), Effect::Reply(own())];
    let ended = |ends: &[Effect]| [&told[..], ends].concat();
    let publishing = |way| then(way, handled());
    check(publishing(running()), stored(), TOO_LATE, &ended(&[Effect::End(End::Ack)]));
    let ends = ended(&[Effect::ReleaseTurn, Effect::End(End::Ack)]);
    check(publishing(running_again()), stored(), 0, &ends);
    check(publishing(running_last()), stored(), 0, &ended(&[Effect::ForgetNote]));
    let way = then(publishing(running_last()), stored());
    check(way, Event::NoteForgotten, 0, &[Effect::ReleaseTurn, Effect::End(End::Ack)]);
}

#[test]
fn publish_that_fails_is_retried_or_dead() {
    let publishing = || then(running(), handled());
    check(publishing(), published(Published::Failed(why())), IN_TIME, &[retried()]);
    check(publishing(), published(Published::Failed(why())), TOO_LATE, &[left("why")]);
    let dead = [letter("the completion is larger than the server takes")];
    check(publishing(), published(Published::TooLarge), 0, &dead);
    // Attempts are used up by handlers alone.
    let way = then(then(running_last(), handled()), published(Published::Failed(why())));
    check(way, Event::NoteForgotten, 0, &[Effect::ReleaseTurn, retried()]);
}

#[test]
fn refused_completion_without_a_write_is_answered_with_the_first() {
    let way = then(running(), handled());
    check(way.clone(), published(Published::AlreadyThere), 0, &[Effect::Find]);
    let way = then(way, published(Published::AlreadyThere));
    let done = [Effect::Reply(standing()), Effect::End(End::Ack)];
    check(way.clone(), found(), TOO_LATE, &done);
    let missing = Effect::End(End::Nak {
        wait: Wait::Backoff,
        why: "a completion is refused and not found".to_owned(),
    });
    check(way, nothing(), 0, &[missing]);
}

#[test]
fn refused_completion_with_a_write_is_compared_with_the_first() {
    let way = then(then(running(), handled()), published(Published::AlreadyThere));
    let compare = Effect::Compare { standing: standing(), own: own() };
    let mut delivery = written(way.clone());
    assert_eq!(delivery.on(found(), 0).as_slice(), [Effect::Reply(standing()), compare]);
    for (comparison, expected) in [
        (Comparison::Same, Effect::End(End::Ack)),
        (Comparison::Different, letter(DIVERGED)),
        (Comparison::Locked(why()), retried()),
    ] {
        let mut delivery = written(then(way.clone(), found()));
        let effects = delivery.on(Event::Compared(comparison), 0);
        assert_eq!(effects.as_slice(), [expected]);
    }
    let last = then(then(running_last(), handled()), published(Published::AlreadyThere));
    let mut delivery = written(then(last, found()));
    delivery.on(Event::Compared(Comparison::Locked(why())), 0);
    let effects = delivery.on(Event::NoteForgotten, 0);
    let dead = [Effect::ReleaseTurn, letter("given up after 4 attempts: why")];
    assert_eq!(effects.as_slice(), dead);
}

#[test]
fn log_that_is_not_read_is_retried_and_a_malformed_completion_is_dead() {
    let again = then(then(running(), handled()), published(Published::AlreadyThere));
    for way in [(2, vec![]), again] {
        check(way.clone(), unread(), IN_TIME, &[retried()]);
        check(way.clone(), unread(), TOO_LATE, &[left("why")]);
        check(way, malformed(), TOO_LATE, &[letter("why")]);
    }
    let in_turn = (4, vec![nothing(), Event::Turn]);
    check(in_turn.clone(), unread(), 0, &[Effect::ReleaseTurn, retried()]);
    check(in_turn, malformed(), 0, &[Effect::ReleaseTurn, letter("why")]);
}

#[test]
fn dead_letter_ends_the_message_only_when_stored_and_in_time() {
    let late = NoPermit::Late.to_string();
    let not_stored = || Event::LetterNotStored(why());
    let put_off = Effect::End(End::Nak { wait: Wait::Longest, why: why() });
    for (event, now_ms, expected) in [
        (Event::LetterStored, IN_TIME, Effect::End(End::Term)),
        (Event::LetterStored, TOO_LATE, left(&late)),
        (not_stored(), IN_TIME, put_off),
        (not_stored(), TOO_LATE, left("why")),
    ] {
        check((2, vec![malformed()]), event.clone(), now_ms, std::slice::from_ref(&expected));
        let mut unreadable = Delivery::dead(1, LIMITS, 0);
        assert_eq!(unreadable.on(event, now_ms).as_slice(), [expected]);
    }
}

#[test]
fn time_is_extended_while_a_handler_runs_or_a_turn_is_waited_for() {
    for (way, extends) in [
        (running(), true),
        ((2, vec![nothing()]), true),
        ((2, vec![]), false),
        (then(running(), handled()), false),
    ] {
        let text = format!("{way:?}");
        let (delivery, _) = after(way);
        assert_eq!(delivery.extends(IN_TIME), extends, "{text}");
        assert!(!delivery.extends(TOO_LATE), "{text}");
    }
}

#[test]
fn extension_counts_from_when_it_was_asked_for_and_not_after_the_time() {
    let (mut delivery, _) = after(running());
    delivery.extended(50, IN_TIME);
    assert!(delivery.is_ours(139) && !delivery.is_ours(140));
    // An answer that overtook an earlier one takes nothing away.
    delivery.extended(30, 60);
    assert!(delivery.is_ours(139));
    delivery.extended(130, 140);
    assert!(!delivery.is_ours(140));
}

#[test]
fn event_that_was_not_asked_for_leaves_the_message_to_its_next_delivery() {
    check(running(), Event::Turn, 0, &[left(OUT_OF_ORDER)]);
    check(then(running(), failed()), nothing(), 0, &[left(OUT_OF_ORDER)]);
}
