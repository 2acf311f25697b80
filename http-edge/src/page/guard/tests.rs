use std::io::Write as _;

use super::*;

const HERE: &str = "127.0.0.1:8001";
const ANYWHERE: &str = "0.0.0.0:8001";

fn args(is_concert_up: bool, enabled: Option<bool>, token_file: Option<PathBuf>) -> PageArgs {
    PageArgs { enabled, token_file, is_concert_up, ..PageArgs::default() }
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
fn console_without_a_token_needs_concert_up_on_loopback() {
    let file = file(&"t".repeat(32));
    let token = || Some(file.path().to_owned());
    // (is concert up, address, enabled, token) -> "off", "local", "token" or "refused"
    for (is_concert_up, listen, enabled, token, expected) in [
        (true, HERE, None, None, "local"),
        (true, "[::1]:8001", None, None, "local"),
        (true, HERE, Some(false), None, "off"),
        (true, HERE, None, token(), "token"),
        (true, ANYWHERE, None, None, "refused"),
        (true, ANYWHERE, Some(true), None, "refused"),
        (true, ANYWHERE, Some(true), token(), "token"),
        (false, HERE, None, None, "off"),
        (false, HERE, None, token(), "off"),
        (false, HERE, Some(true), None, "refused"),
        (false, HERE, Some(true), token(), "token"),
    ] {
        let args = args(is_concert_up, enabled, token);
        let access = args.is_on().then(|| PageAccess::new(&args, listen.parse().unwrap()));
        let found = match access {
            None => "off",
            Some(Ok(PageAccess::Local)) => "local",
            Some(Ok(PageAccess::WithToken(_))) => "token",
            Some(Err(_)) => "refused",
        };
        assert_eq!(found, expected, "{is_concert_up}, {listen}, {enabled:?}");
    }
}

#[test]
fn weak_or_unreadable_token_is_refused_at_start() {
    for text in [
        "",
        "short",
        &"t".repeat(31),
        &format!("{} {}", "t".repeat(20), "t".repeat(20)),
        &"ü".repeat(40),
    ] {
        let file = file(text);
        let args = args(false, Some(true), Some(file.path().to_owned()));
        let refused = PageAccess::new(&args, HERE.parse().unwrap());
        assert!(matches!(refused, Err(BadPage::Weak { .. })), "{text:?}");
    }
    let args = args(false, Some(true), Some("/there/is/no/such/file".into()));
    assert!(matches!(
        PageAccess::new(&args, HERE.parse().unwrap()),
        Err(BadPage::Unreadable { .. })
    ));
}

#[test]
fn only_loopback_names_are_accepted_without_a_token() {
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
            let admitted = PageAccess::Local.admit_name(&headers(&[(header::HOST, name)]));
            assert_eq!(admitted.is_ok(), expected, "{name}");
        }
    }
    assert!(PageAccess::Local.admit_name(&HeaderMap::new()).is_err());
}

#[test]
fn forwarded_request_needs_a_token() {
    let token = PageAccess::WithToken(digest("a token"));
    for name in ["x-forwarded-for", "x-forwarded-host", "forwarded", "via", "x-real-ip"] {
        let name = HeaderName::from_static(name);
        let headers = headers(&[(header::HOST, HERE), (name.clone(), "203.0.113.9")]);
        let refused = PageAccess::Local.admit_name(&headers);
        assert!(matches!(refused, Err(Refusal::Forwarded)), "{name}");
        assert!(token.admit_name(&headers).is_ok(), "{name}");
    }
}

#[test]
fn requests_from_other_sites_are_rejected() {
    let host = (header::HOST, HERE);
    for (pairs, expected) in [
        (vec![], true),
        (vec![(SEC_FETCH_SITE, "same-origin")], true),
        (vec![(SEC_FETCH_SITE, "none")], true),
        (vec![(SEC_FETCH_SITE, "cross-site")], false),
        (vec![(SEC_FETCH_SITE, "same-site")], false),
        (vec![(header::ORIGIN, "http://127.0.0.1:8001")], true),
        (vec![(header::ORIGIN, "http://127.0.0.1:8000")], false),
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
fn only_the_exact_token_is_accepted() {
    let token = "0123456789abcdef0123456789abcdef";
    let access = PageAccess::WithToken(digest(token));
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
        assert_eq!(access.admit_token(&headers).is_ok(), expected, "{given}");
    }
    assert!(matches!(access.admit_token(&HeaderMap::new()), Err(Refusal::NoToken)));
}
