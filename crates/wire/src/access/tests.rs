use super::*;

fn access(names: &[&str]) -> Result<Access, Vec<NameTaken>> {
    let open = vec![("Sessioning".parse().unwrap(), "_getUser".parse().unwrap())];
    Access::new(names.iter().map(|name| name.parse().unwrap()), open)
}

fn matches(pattern: &str, subject: &str) -> bool {
    let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
    loop {
        match (pattern.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some(expected), Some(token)) if expected == "*" || expected == token => {}
            _ => return false,
        }
    }
}

/// Returns whether messages of a user on a subject leave its account.
fn may_publish(user: &User, said: &str) -> bool {
    let access = access(&["Profile", "Sessioning", "Requesting"]).unwrap();
    access.imports(user).iter().any(|import| {
        import.kind != Kind::Stream && matches(import.to.as_ref().unwrap_or(&import.subject), said)
    })
}

fn profile() -> User {
    User::Worker("Profile".parse().unwrap())
}

#[test]
fn services_reach_only_their_own_subjects() {
    let check = |user: &User, own: &[&str], foreign: &[&str]| {
        for said in own {
            assert!(may_publish(user, said), "{user:?} may not publish {said}");
        }
        for said in foreign {
            assert!(!may_publish(user, said), "{user:?} may publish {said}");
        }
    };
    check(
        &profile(),
        &[
            "done.f.Profile.authenticate.i",
            "action.Profile.authenticate.i",
            "bus.API.DIRECT.GET.COMPLETIONS.done.f.Profile.authenticate.i",
            "bus.API.$KV.concert_Profile.last-attempt.i",
            "$JS.ACK.ACTIONS_Profile.workers.1.2.3.4.5",
            "blob.folder.name",
            "bus.API.DIRECT.GET.BLOBS.blob.folder.name",
        ],
        &[
            "done.f.Sessioning.create.i",
            "done.f.Concert.fired.i",
            "action.Sessioning.create.i",
            "dead.Sessioning.create",
            "concept.Sessioning._getUser",
            "bus.API.DIRECT.GET.COMPLETIONS",
            "bus.API.DIRECT.GET.COMPLETIONS.done.f.Sessioning.create.i",
            "bus.API.CONSUMER.MSG.NEXT.ACTIONS_Sessioning.workers",
            "bus.API.CONSUMER.CREATE.ACTIONS_Profile.x",
            "bus.API.STREAM.CREATE.X",
            "bus.API.$KV.concert.routes",
            "$JS.ACK.ACTIONS_Sessioning.workers.1.2.3.4.5",
            "bus.API.DIRECT.GET.BLOBS",
            "bus.API.STREAM.INFO.BLOBS",
            "bus.API.STREAM.MSG.GET.BLOBS",
            "bus.API.STREAM.PURGE.BLOBS",
        ],
    );
    check(
        &User::Edge,
        &[
            "done.f.Requesting.request.f",
            "bus.API.DIRECT.GET.COMPLETIONS.done.f.Requesting.request.f",
            "concept.Sessioning._getUser",
            "blob.folder.name",
            "bus.API.DIRECT.GET.BLOBS.blob.folder.name",
        ],
        &[
            "bus.API.STREAM.INFO.BLOBS",
            "done.f.Requesting.respond.i",
            "bus.API.CONSUMER.MSG.NEXT.ACTIONS_Requesting.workers",
            "done.f.Profile.authenticate.i",
            "action.Profile.authenticate.i",
            "concept.Sessioning.delete",
            "concept.Profile._getUser",
            "bus.API.CONSUMER.CREATE.KV_concert.x",
        ],
    );
    check(
        &User::Router,
        &[
            "action.Profile.authenticate.i",
            "done.f.Concert.fired.i",
            "done.f.Requesting.respond.i",
            "concept.Profile._getUserDetails",
        ],
        &[
            "done.f.Profile.authenticate.i",
            "done.f.Requesting.request.f",
            "bus.API.STREAM.UPDATE.COMPLETIONS",
            "blob.folder.name",
            "bus.API.DIRECT.GET.BLOBS.blob.folder.name",
        ],
    );
    check(
        &User::Archive,
        &[
            "bus.API.CONSUMER.MSG.NEXT.COMPLETIONS.archives",
            "bus.API.CONSUMER.MSG.NEXT.DEAD.archives",
            "bus.API.DIRECT.GET.KV_concert.$KV.concert.rules.v",
            "bus.API.CONSUMER.INFO.ACTIONS_Profile.workers",
        ],
        &[
            "done.f.Profile.authenticate.i",
            "action.Profile.authenticate.i",
            "concept.Profile._getUser",
            "bus.API.$KV.concert.routes",
            "bus.API.CONSUMER.MSG.NEXT.COMPLETIONS.routers",
            "bus.API.CONSUMER.MSG.NEXT.ACTIONS_Profile.workers",
            "bus.API.STREAM.PURGE.COMPLETIONS",
            "blob.folder.name",
            "bus.API.DIRECT.GET.BLOBS.blob.folder.name",
        ],
    );
}

#[test]
fn services_cannot_create_or_change_streams_or_consumers() {
    let access = access(&["Profile", "Sessioning"]).unwrap();
    for user in access.users() {
        for import in access.imports(&user) {
            for verb in ["CREATE", "UPDATE", "DELETE.", "RESTORE", "LEADER"] {
                let is_message = import.subject.starts_with("$JS.API.STREAM.MSG.DELETE.");
                assert!(is_message || !import.subject.contains(verb), "{user:?}: {import:?}");
            }
        }
    }
}

#[test]
fn user_has_the_same_account_with_both_keys() {
    let access = access(&["Profile"]).unwrap();
    let config = access.server_config(|user| match user {
        User::Router => vec!["UOLD".to_owned(), "UNEW".to_owned()],
        other => vec![format!("U{}", other.name().to_uppercase())],
    });
    let router = config.split("  ROUTER {\n").nth(1).unwrap();
    assert!(router.starts_with(
        "    users: [\n      { nkey: UOLD } # router\n      { nkey: UNEW } # router\n    ]\n"
    ));
    for line in [
        "  CONCEPT_Profile {",
        r#"      { service: "done.*.Profile.*.*", accounts: [CONCEPT_Profile] }"#,
        r#"      { stream: { account: BUS, subject: "notice.dead.>" } }"#,
        r#"      { service: "$JS.API.DIRECT.GET.COMPLETIONS", response: stream, accounts: [ARCHIVE, EDGE, ROUTER] }"#,
        r#"      { service: { account: BUS, subject: "$JS.API.STREAM.INFO.COMPLETIONS" }, to: "bus.API.STREAM.INFO.COMPLETIONS" }"#,
    ] {
        assert!(config.lines().any(|found| found == line), "{line}\n{config}");
    }
}

#[test]
fn all_name_clashes_of_users_are_reported() {
    let clashes = access(&["Profile", "PROFILE", "Edge", "Sessioning"]).unwrap_err();
    let named: Vec<_> = clashes.iter().map(|clash| clash.0.as_str()).collect();
    assert_eq!(named, ["Edge", "Profile"]);
    assert!(clashes.iter().all(|clash| clash.to_string().contains("is used already")));
}

#[test]
fn single_process_has_only_the_users_setup_and_operator() {
    let apart = access(&["Profile", "Sessioning"]).unwrap();
    let key = |user: &User| vec![format!("U{}", user.name().to_uppercase())];
    assert!(!Access::is_of_one_process(&apart.server_config(key)));
    let together = apart.in_one_process(|_| false);
    assert_eq!(together.users(), [User::Setup, User::Operator]);
    let config = together.server_config(key);
    assert!(Access::is_of_one_process(&config));
    assert_eq!(config.matches("nkey:").count(), 2);
    assert!(config.contains("nkey: USETUP }") && config.contains("nkey: UOPERATOR, permissions"));
    // Within one account, no imports are needed.
    assert!(!config.contains("account:") && !config.contains("accounts: ["), "{config}");
}

#[test]
fn worker_in_another_program_has_its_own_account() {
    let apart = access(&["Profile", "Sessioning"]).unwrap();
    let profile: ConceptName = "Profile".parse().unwrap();
    let mixed = apart.in_one_process(|concept| *concept == profile);
    assert_eq!(mixed.users(), [User::Worker(profile), User::Setup, User::Operator]);
    let config = mixed.server_config(|user| vec![format!("U{}", user.name().to_uppercase())]);
    assert!(Access::is_of_one_process(&config));
    assert!(!config.contains("EDGE") && !config.contains("CONCEPT_Sessioning"), "{config}");
    let (bus, worker) = config.split_once("  CONCEPT_Profile {").unwrap();
    assert!(bus.contains(r#"account: CONCEPT_Profile, subject: "concept.Profile.*""#), "{bus}");
    assert!(worker.contains(r#"account: BUS, subject: "done.*.Profile.*.*""#), "{worker}");
    assert!(!worker.contains("Sessioning"), "{worker}");
}
