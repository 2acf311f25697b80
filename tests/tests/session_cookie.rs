//! The session in a cookie, usable only by pages of allowed origins.

use concert_tests::{System, http};
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery";
const JSON: (&str, &str) = ("content-type", "application/json");
const USE_COOKIE: (&str, &str) = ("concert-session", "cookie");
const SAME: (&str, &str) = ("sec-fetch-site", "same-origin");
const LISTED: (&str, &str) = ("origin", "https://app.example");

async fn post(
    system: &System,
    path: &str,
    body: Value,
    headers: &[(&str, &str)],
) -> anyhow::Result<http::Answer> {
    let headers = [&[JSON], headers].concat();
    let body = body.to_string().into_bytes();
    http::post_with(system.address(), &format!("/api{path}"), body, &headers).await
}

fn cookie_of(answer: &http::Answer) -> &str {
    let lines: Vec<&str> =
        answer.headers.get_all("set-cookie").iter().filter_map(|line| line.to_str().ok()).collect();
    assert!(lines.len() < 2, "{lines:?}");
    lines.first().copied().unwrap_or_default()
}

async fn start() -> anyhow::Result<System> {
    let system = System::with(&[
        ("CONCERT_HTTP__SESSION_COOKIE__NAME", "__Host-session"),
        ("CONCERT_HTTP__SESSION_COOKIE__KEY", "session"),
        (
            "CONCERT_HTTP__SESSION_COOKIE__ENDS",
            "/auth/logout,/auth/logoutEverywhere,/auth/deleteAccount",
        ),
        ("CONCERT_HTTP__CORS_ORIGINS", LISTED.1),
    ])
    .await?;
    system.account("ada", PASSWORD).await?;
    Ok(system)
}

fn credentials() -> Value {
    json!({ "username": "ada", "password": PASSWORD })
}

const ENDED: &str = "__Host-session=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0";

#[tokio::test(flavor = "multi_thread")]
async fn session_cookie_is_set_and_cleared_on_request() -> anyhow::Result<()> {
    let system = start().await?;
    // Without the header, the session is in the body.
    let plain = post(&system, "/auth/login", credentials(), &[]).await?;
    assert_eq!((plain.status, cookie_of(&plain)), (200, ""));
    let token = plain.text("session")?.to_owned();

    let login = post(&system, "/auth/login", credentials(), &[USE_COOKIE, SAME]).await?;
    assert_eq!(login.status, 200, "{login:?}");
    assert!(login.body.get("session").is_none(), "{login:?}");
    assert_eq!(login.body["message"], "Login successful");
    let line = cookie_of(&login);
    let (pair, attributes) = line.split_once("; ").unwrap_or_default();
    assert_eq!(attributes, "Path=/; Secure; HttpOnly; SameSite=Strict");
    let value = pair.strip_prefix("__Host-session=").unwrap_or_default();
    assert!(value.len() == 43 && value != token, "each login has its own token");
    let cookie = ("cookie", pair);

    let who = post(&system, "/auth/whoami", json!({}), &[cookie, USE_COOKIE, SAME]).await?;
    assert_eq!((who.status, &who.body["username"]), (200, &json!("ada")), "{who:?}");
    assert_eq!(cookie_of(&who), "");
    // A token in the body also works, and takes precedence over the cookie.
    let with_token = post(&system, "/auth/whoami", json!({ "session": token }), &[]).await?;
    assert_eq!(with_token.status, 200);
    let body_first =
        post(&system, "/auth/whoami", json!({ "session": "x" }), &[cookie, USE_COOKIE, SAME])
            .await?;
    assert_eq!((body_first.status, cookie_of(&body_first)), (401, ""));

    let logout = post(&system, "/auth/logout", json!({}), &[cookie, USE_COOKIE, SAME]).await?;
    assert_eq!((logout.status, cookie_of(&logout)), (200, ENDED));
    let after = post(&system, "/auth/whoami", json!({}), &[cookie, USE_COOKIE, SAME]).await?;
    assert_eq!((after.status, cookie_of(&after)), (401, ENDED));
    // Without a cookie the key is missing.
    let none = post(&system, "/auth/whoami", json!({}), &[USE_COOKIE, SAME]).await?;
    assert_eq!(none.brief(), (400, r#"{"error":"`session` is missing"}"#.to_owned()));
    // The log does not contain the cookie's value in clear text.
    let log = system.stream_messages("COMPLETIONS", "done.>").await?;
    assert!(log.len() > 10 && log.iter().all(|(_, body)| !body.to_string().contains(value)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn cross_site_pages_cannot_use_the_session_cookie() -> anyhow::Result<()> {
    let system = start().await?;
    let login = post(&system, "/auth/login", credentials(), &[USE_COOKIE, SAME]).await?;
    let cookie = ("cookie", cookie_of(&login).split(';').next().unwrap_or_default());
    let evil = ("origin", "https://evil.example");
    let cross = ("sec-fetch-site", "cross-site");
    let forged: [&[(&str, &str)]; 5] = [
        &[cookie, SAME],
        &[cookie, USE_COOKIE],
        &[cookie, USE_COOKIE, cross],
        &[cookie, USE_COOKIE, evil],
        &[cookie, USE_COOKIE, cross, evil],
    ];
    for headers in forged {
        let answer = post(&system, "/auth/deleteAccount", json!({}), headers).await?;
        assert_eq!(answer.status, 403, "{headers:?} {answer:?}");
        assert_eq!(answer.headers["concert-answered-by"], "edge");
        assert!(
            answer
                .headers
                .get("access-control-allow-origin")
                .is_none_or(|origin| origin == LISTED.1)
        );
    }
    // Nor can it log a user in to another account.
    let login = post(&system, "/auth/login", credentials(), &[USE_COOKIE, cross, evil]).await?;
    assert_eq!((login.status, cookie_of(&login)), (403, ""));

    // A page of a listed origin can use it; the preflight response allows it.
    let who = post(
        &system,
        "/auth/whoami",
        json!({}),
        &[cookie, USE_COOKIE, LISTED, ("sec-fetch-site", "same-site")],
    )
    .await?;
    assert_eq!(who.status, 200, "{who:?}");
    assert_eq!(who.headers["access-control-allow-origin"], LISTED.1);
    assert_eq!(who.headers["access-control-allow-credentials"], "true");
    let preflight = async |origin| {
        let headers = [
            origin,
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type,concert-session"),
        ];
        http::request("OPTIONS", system.address(), "/api/auth/whoami", Vec::new(), &headers).await
    };
    let allowed = preflight(LISTED).await?;
    assert_eq!(allowed.headers["access-control-allow-origin"], LISTED.1);
    assert_eq!(allowed.headers["access-control-allow-credentials"], "true");
    let accepted = allowed.headers["access-control-allow-headers"].to_str()?.to_owned();
    assert!(accepted.contains("concert-session"), "{accepted}");
    assert!(preflight(evil).await?.headers.get("access-control-allow-origin").is_none());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wildcard_origins_get_no_credentials() -> anyhow::Result<()> {
    let system = System::with(&[("CONCERT_HTTP__CORS_ORIGINS", "*")]).await?;
    system.account("ada", PASSWORD).await?;
    let login = post(&system, "/auth/login", credentials(), &[LISTED]).await?;
    assert_eq!((login.status, cookie_of(&login)), (200, ""));
    assert!(!login.headers.contains_key("access-control-allow-credentials"));
    let refused = post(&system, "/auth/login", credentials(), &[USE_COOKIE, LISTED]).await?;
    assert_eq!(refused.status, 403, "{refused:?}");
    let refused = system
        .concert(&["http-edge", "--set", "http.session_cookie.name=session"])
        .output()
        .await?;
    let printed = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && printed.contains("__Host-"), "{printed}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn copied_session_cookie_serves_unmodified_pages() -> anyhow::Result<()> {
    let system = System::with(&[("CONCERT_HTTP__SESSION_COOKIE__MODE", "copy")]).await?;
    system.account("ada", PASSWORD).await?;
    let page = ("origin", &*format!("http://{}", system.address()));

    // Browsers name the page at logins, too. Without it, the response sets no cookie.
    let plain = post(&system, "/auth/login", credentials(), &[]).await?;
    assert_eq!((plain.status, cookie_of(&plain)), (200, ""));
    let foreign = [("sec-fetch-site", "cross-site"), LISTED];
    let login = post(&system, "/auth/login", credentials(), &foreign).await?;
    assert_eq!((login.status, cookie_of(&login)), (200, ""));

    let login = post(&system, "/auth/login", credentials(), &[page, SAME]).await?;
    let session = login.text("session")?.to_owned();
    let attributes = "Path=/; HttpOnly; SameSite=Strict";
    assert_eq!(cookie_of(&login), format!("session={session}; {attributes}; Max-Age=34560000"));
    let cookie = ("cookie", &*format!("session={session}"));

    let who = post(&system, "/auth/whoami", json!({}), &[cookie, page]).await?;
    assert_eq!((who.status, &who.body["username"]), (200, &json!("ada")), "{who:?}");
    let body = json!({ "session": plain.text("session")? });
    let body_first = post(&system, "/auth/whoami", body, &[cookie, page, SAME]).await?;
    assert_eq!(body_first.status, 200, "{body_first:?}");
    for site in [("sec-fetch-site", "none"), ("sec-fetch-site", "same-site"), LISTED] {
        let who = post(&system, "/auth/whoami", json!({}), &[cookie, site]).await?;
        assert_ne!(who.status, 200, "{site:?}");
    }

    let logout =
        post(&system, "/auth/logout", json!({ "session": session }), &[cookie, page, SAME]).await?;
    let cleared = format!("session=; {attributes}; Max-Age=0");
    assert_eq!((logout.status, cookie_of(&logout)), (200, &*cleared), "{logout:?}");
    let after = post(&system, "/auth/whoami", json!({}), &[cookie, page, SAME]).await?;
    assert_eq!((after.status, cookie_of(&after)), (401, &*cleared));
    Ok(())
}
