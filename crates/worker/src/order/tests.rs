use concert_wire::envelope::Object;
use serde_json::Value;

use super::*;

const LIMITS: Limits = Limits { attempts: 3, ack_wait_ms: 100, margin_ms: 10 };
/// Times before and after the ack deadline.
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

fn existing() -> Arc<Completion> {
    completion("existing")
}

fn why() -> String {
    "why".to_owned()
}

fn found() -> Event {
    Event::Found(Found::Completion(existing()))
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

/// A path to a state: the attempt, and the events so far.
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

/// The delivery after these events, at time 0, with a granted write.
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

/// Checks the effects of an event at this time.
fn check(way: Way, event: Event, now_ms: u64, expected: &[Effect]) {
    let text = format!("{way:?}, {event:?} at {now_ms}");
    let (mut delivery, _) = after(way);
    assert_eq!(delivery.on(event, now_ms).as_slice(), expected, "{text}");
}

#[test]
fn first_delivery_runs_without_a_lookup() {
    assert_eq!(after((1, vec![])).1.as_slice(), [Effect::Run]);
}

#[test]
fn redelivery_looks_up_before_it_runs() {
    assert_eq!(after((2, vec![])).1.as_slice(), [Effect::Look]);
    check((2, vec![]), nothing(), 0, &[Effect::AwaitTurn { isolated: false }]);
    check((3, vec![]), nothing(), 0, &[Effect::AwaitTurn { isolated: false }]);
    check((4, vec![]), nothing(), 0, &[Effect::AwaitTurn { isolated: true }]);
    check((2, vec![nothing()]), Event::Turn, IN_TIME, &[Effect::Run]);
}

#[test]
fn completed_action_is_replied_to_and_acknowledged() {
    let done = [Effect::Reply(existing()), Effect::End(End::Ack)];
    check((2, vec![]), found(), TOO_LATE, &done);
    let with_note = [Effect::Reply(existing()), Effect::ForgetNote];
    check((4, vec![]), found(), 0, &with_note);
    check((4, vec![found()]), Event::NoteForgotten, 0, &[Effect::End(End::Ack)]);
    let in_turn = (4, vec![nothing(), Event::Turn]);
    check(in_turn.clone(), found(), 0, &with_note);
    let ended = [Effect::ReleaseTurn, Effect::End(End::Ack)];
    check(then(in_turn, found()), Event::NoteForgotten, 0, &ended);
}

#[test]
fn isolated_attempt_looks_up_again_and_leaves_a_note() {
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
fn late_delivery_touches_no_note_and_releases_its_turn() {
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
fn only_first_write_waits_for_a_lookup() {
    let (mut delivery, _) = after(running());
    assert_eq!(delivery.may_write(0), Permit::Look);
    assert_eq!(delivery.looked(Found::Nothing, IN_TIME), Permit::Granted);
    assert_eq!(delivery.may_write(IN_TIME), Permit::Granted);
    assert_eq!(delivery.may_write(TOO_LATE), Permit::Refused(NoPermit::Late));
}

#[test]
fn late_completed_or_unknown_delivery_gets_no_permit() {
    for (found, now_ms, expected) in [
        (Found::Nothing, TOO_LATE, NoPermit::Late),
        (Found::Completion(existing()), 0, NoPermit::Completed),
        (Found::Unread(why()), 0, NoPermit::Unknown(why())),
        (Found::Malformed(why()), 0, NoPermit::Unknown(why())),
    ] {
        let (mut delivery, _) = after(running());
        assert_eq!(delivery.may_write(0), Permit::Look);
        assert_eq!(delivery.looked(found, now_ms), Permit::Refused(expected));
    }
}

#[test]
fn failed_lookup_is_repeated_and_found_completion_is_kept() {
    let (mut delivery, _) = after(running());
    delivery.looked(Found::Unread(why()), 0);
    assert_eq!(delivery.may_write(0), Permit::Look);
    delivery.looked(Found::Completion(existing()), 0);
    assert_eq!(delivery.may_write(0), Permit::Refused(NoPermit::Completed));
}

#[test]
fn write_outside_a_running_handler_is_refused() {
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
fn failure_is_retried_until_the_isolated_attempt() {
    check(running(), failed(), IN_TIME, &[retried()]);
    check(running(), failed(), TOO_LATE, &[left("why")]);
    check(running_again(), failed(), 0, &[Effect::ReleaseTurn, retried()]);
    check(running_last(), failed(), 0, &[Effect::ForgetNote]);
    let way = then(running_last(), failed());
    let dead = [Effect::ReleaseTurn, letter("failed after 4 attempts: why")];
    check(way, Event::NoteForgotten, 0, &dead);
}

#[test]
fn missing_permit_does_not_count_as_an_attempt() {
    let event = || Event::Handled(Handled::NoPermit(why()));
    check(running(), event(), IN_TIME, &[retried()]);
    let way = then(running_last(), event());
    check(way, Event::NoteForgotten, 0, &[Effect::ReleaseTurn, retried()]);
}

#[test]
fn handler_refused_as_completed_replies_with_existing_completion() {
    let before = Event::Handled(Handled::Before);
    check(running(), before.clone(), TOO_LATE, &[Effect::Find]);
    let done = [Effect::Reply(existing()), Effect::End(End::Ack)];
    check(then(running(), before), found(), TOO_LATE, &done);
}

#[test]
fn stored_completion_is_audited_replied_to_and_acknowledged() {
    let stored = || published(Published::Stored);
    let done = [Effect::Audit(own()), Effect::Reply(own())];
    let ended = |ends: &[Effect]| [&done[..], ends].concat();
    let publishing = |way| then(way, handled());
    check(publishing(running()), stored(), TOO_LATE, &ended(&[Effect::End(End::Ack)]));
    let ends = ended(&[Effect::ReleaseTurn, Effect::End(End::Ack)]);
    check(publishing(running_again()), stored(), 0, &ends);
    check(publishing(running_last()), stored(), 0, &ended(&[Effect::ForgetNote]));
    let way = then(publishing(running_last()), stored());
    check(way, Event::NoteForgotten, 0, &[Effect::ReleaseTurn, Effect::End(End::Ack)]);
}

#[test]
fn failed_publish_is_retried_or_dead_lettered() {
    let publishing = || then(running(), handled());
    check(publishing(), published(Published::Failed(why())), IN_TIME, &[retried()]);
    check(publishing(), published(Published::Failed(why())), TOO_LATE, &[left("why")]);
    let dead = [letter("the completion exceeds the server's maximum message size")];
    check(publishing(), published(Published::TooLarge), 0, &dead);
    // Only handlers use up attempts.
    let way = then(then(running_last(), handled()), published(Published::Failed(why())));
    check(way, Event::NoteForgotten, 0, &[Effect::ReleaseTurn, retried()]);
}

#[test]
fn rejected_completion_without_a_write_replies_with_the_first() {
    let way = then(running(), handled());
    check(way.clone(), published(Published::AlreadyThere), 0, &[Effect::Find]);
    let way = then(way, published(Published::AlreadyThere));
    let done = [Effect::Reply(existing()), Effect::End(End::Ack)];
    check(way.clone(), found(), TOO_LATE, &done);
    let missing = Effect::End(End::Nak {
        wait: Wait::Backoff,
        why: "the log rejected the completion, but has no other one".to_owned(),
    });
    check(way, nothing(), 0, &[missing]);
}

#[test]
fn rejected_completion_after_a_write_is_compared_with_the_first() {
    let way = then(then(running(), handled()), published(Published::AlreadyThere));
    let compare = Effect::Compare { existing: existing(), own: own() };
    let mut delivery = written(way.clone());
    assert_eq!(delivery.on(found(), 0).as_slice(), [Effect::Reply(existing()), compare]);
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
    let dead = [Effect::ReleaseTurn, letter("failed after 4 attempts: why")];
    assert_eq!(effects.as_slice(), dead);
}

#[test]
fn unread_log_is_retried_and_malformed_completion_is_dead_lettered() {
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
fn dead_letter_ends_delivery_only_when_stored_and_in_time() {
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
fn deadline_is_extended_while_running_or_waiting_for_a_turn() {
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
fn extension_counts_from_its_request_and_not_after_the_deadline() {
    let (mut delivery, _) = after(running());
    delivery.extended(50, IN_TIME);
    assert!(delivery.is_ours(139) && !delivery.is_ours(140));
    // A confirmation that overtook an earlier one does not shorten the deadline.
    delivery.extended(30, 60);
    assert!(delivery.is_ours(139));
    delivery.extended(130, 140);
    assert!(!delivery.is_ours(140));
}

#[test]
fn unexpected_event_leaves_the_message_unacknowledged() {
    check(running(), Event::Turn, 0, &[left(OUT_OF_ORDER)]);
    check(then(running(), failed()), nothing(), 0, &[left(OUT_OF_ORDER)]);
}
