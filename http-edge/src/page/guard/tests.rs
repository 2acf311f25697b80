use std::io::Write as _;

use super::*;

const HERE: &str = "127.0.0.1:8000";
const ANYWHERE: &str = "0.0.0.0:8000";

fn args(at_home: bool, enabled: Option<bool>, token_file: Option<PathBuf>) -> PageArgs {
    PageArgs { enabled, token_file, at_home, ..PageArgs::default() }
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
    let pairs = pairs.iter().cloned();
    pairs.map(|(name, value)| (name, HeaderValue::from_str(value).unwrap())).collect()
}

#[test]
fn without_a_token_the_page_is_for_concert_up_on_this_machine_alone() {
    let file = file(&"t".repeat(32));
    let token = || Some(file.path().to_owned());
    // (concert up, where, enabled, token) -> "off", "local", "token" or "refused"
    for (at_home, listen, page, token, expected) in [
        (true, HERE, None, None, "local"),
        (true, "[::1]:8000", None, None, "local"),
        (true, HERE, Some(false), None, "off"),
        (true, HERE, None, token(), "token"),
        (true, ANYWHERE, None, None, "off"),
        (true, ANYWHERE, Some(true), None, "refused"),
        (true, ANYWHERE, Some(true), token(), "token"),
        (false, HERE, None, None, "off"),
        (false, HERE, None, token(), "off"),
        (false, HERE, Some(true), None, "refused"),
        (false, HERE, Some(true), token(), "token"),
    ] {
        let listen = listen.parse().unwrap();
        let found = match Viewers::new(&args(at_home, page, token), listen) {
            Ok(None) => "off",
            Ok(Some(Viewers::Local)) => "local",
            Ok(Some(Viewers::WithToken(_))) => "token",
            Err(_) => "refused",
        };
        assert_eq!(found, expected, "at home: {at_home}, {listen}, {page:?}");
    }
}

#[test]
fn a_token_that_can_be_guessed_or_not_be_read_is_refused_at_start() {
    for text in [
        "",
        "short",
        &"t".repeat(31),
        &format!("{} {}", "t".repeat(20), "t".repeat(20)),
        &"ü".repeat(40),
    ] {
        let file = file(text);
        let args = args(false, Some(true), Some(file.path().to_owned()));
        let refused = Viewers::new(&args, HERE.parse().unwrap());
        assert!(matches!(refused, Err(BadPage::Weak { .. })), "{text:?}");
    }
    let args = args(false, Some(true), Some("/there/is/no/such/file".into()));
    assert!(matches!(Viewers::new(&args, HERE.parse().unwrap()), Err(BadPage::Unreadable { .. })));
}

#[test]
fn a_name_that_leads_to_this_machine_is_not_a_name_of_this_machine() {
    let ours =
        ["127.0.0.1", "127.0.0.1:8000", "localhost:8000", "LocalHost", "[::1]:8000", "127.3.2.1:1"];
    let others = [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost.evil.example:8000",
        "10.0.0.1:8000",
        "[::2]:8000",
        "",
    ];
    for (names, expected) in [(&ours[..], true), (&others[..], false)] {
        for name in names {
            let admitted = Viewers::Local.admit_name(&headers(&[(header::HOST, name)]));
            assert_eq!(admitted.is_ok(), expected, "{name}");
        }
    }
    assert!(Viewers::Local.admit_name(&HeaderMap::new()).is_err());
}

#[test]
fn data_is_for_the_page_itself_and_for_no_other_site() {
    let host = (header::HOST, HERE);
    for (pairs, expected) in [
        (vec![], true),
        (vec![(SEC_FETCH_SITE, "same-origin")], true),
        (vec![(SEC_FETCH_SITE, "none")], true),
        (vec![(SEC_FETCH_SITE, "cross-site")], false),
        (vec![(SEC_FETCH_SITE, "same-site")], false),
        (vec![(header::ORIGIN, "http://127.0.0.1:8000")], true),
        (vec![(header::ORIGIN, "http://127.0.0.1:3000")], false),
        (vec![(header::ORIGIN, "https://evil.example")], false),
        (vec![(header::ORIGIN, "null")], false),
        (vec![(SEC_FETCH_SITE, "same-origin"), (header::ORIGIN, "https://evil.example")], false),
    ] {
        let mut pairs = pairs;
        pairs.push(host.clone());
        assert_eq!(admit_site(&headers(&pairs)).is_ok(), expected, "{pairs:?}");
    }
}

#[test]
fn only_the_token_itself_is_the_token() {
    let token = "0123456789abcdef0123456789abcdef";
    let viewers = Viewers::WithToken(digest(token));
    for (given, expected) in [
        (format!("Bearer {token}"), true),
        (format!("bearer {token}"), true),
        (format!("Bearer {token}0"), false),
        ("Bearer 0123456789abcdef0123456789abcde".to_owned(), false),
        (format!("Basic {token}"), false),
        (token.to_owned(), false),
        ("Bearer ".to_owned(), false),
    ] {
        let headers = headers(&[(header::AUTHORIZATION, &given)]);
        assert_eq!(viewers.admit_token(&headers).is_ok(), expected, "{given}");
    }
    assert!(matches!(viewers.admit_token(&HeaderMap::new()), Err(Refusal::NoToken)));
}
