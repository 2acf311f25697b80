//! Invalid requests are rejected immediately and have no effect.

use anyhow::Context;
use concert_tests::{System, http};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

const JSON: (&str, &str) = ("content-type", "application/json");

/// Posts a request. The edge or a rule must respond with this status and an `error`.
async fn check(
    system: &System,
    path: &str,
    body: &[u8],
    headers: &[(&str, &str)],
    status: u16,
) -> anyhow::Result<()> {
    let answer = http::post_with(system.address(), path, body.to_vec(), headers).await?;
    let shown =
        String::from_utf8_lossy(body.get(..body.len().min(80)).unwrap_or_default()).into_owned();
    assert_eq!(answer.status, status, "{path} {shown}: {answer:?}");
    assert!(!answer.text("error")?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_rejected_without_side_effects() -> anyhow::Result<()> {
    let system = System::start().await?;
    let login = "/api/auth/login";
    let long = "x".repeat(10_000);
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    let malformed: &[&[u8]] = &[
        b"",
        b"{",
        b"[1]",
        b"\"text\"",
        b"5",
        b"null",
        b"{\"username\":\"a\",}",
        b"{\"username\":\"a\" \"password\":\"b\"}",
        b"{\"username\":\"a\",\"username\":\"b\",\"password\":\"c\"}",
        b"{\"username\":\"\xff\xfe\",\"password\":\"x\"}",
        b"{\"n\":1e999}",
        b"{\"n\":9007199254740993}",
        deep.as_bytes(),
    ];
    for body in malformed {
        check(&system, login, body, &[JSON], 400).await?;
    }
    for wrong in [
        json!(1),
        json!(null),
        json!(true),
        json!(["ada"]),
        json!({ "$ne": null }),
        json!({ "$gt": "" }),
    ] {
        check(
            &system,
            login,
            json!({ "username": wrong, "password": "x" }).to_string().as_bytes(),
            &[JSON],
            400,
        )
        .await?;
        check(
            &system,
            login,
            json!({ "username": "ada", "password": wrong }).to_string().as_bytes(),
            &[JSON],
            400,
        )
        .await?;
        check(
            &system,
            "/api/auth/logout",
            json!({ "session": wrong }).to_string().as_bytes(),
            &[JSON],
            400,
        )
        .await?;
    }
    check(&system, login, br#"{"username":"ada"}"#, &[JSON], 400).await?;
    check(&system, login, b"{}", &[JSON], 400).await?;
    check(&system, login, br#"{"username":"ada","password":"x"}"#, &[], 415).await?;
    check(
        &system,
        login,
        br#"{"username":"ada","password":"x"}"#,
        &[("content-type", "text/plain")],
        415,
    )
    .await?;
    check(&system, login, &vec![b' '; 1024 * 1024], &[JSON], 413).await?;
    check(
        &system,
        login,
        json!({ "username": "x".repeat(1024 * 1024), "password": "x" }).to_string().as_bytes(),
        &[JSON],
        413,
    )
    .await?;
    for path in [
        "/api/nothing",
        "/api/auth/login/",
        "/api/auth/Login",
        "/api/",
        "/api",
        "/",
        "/auth/login",
        "/api/auth/login%00",
        "/api/Profile/authenticate",
    ] {
        check(&system, path, b"{}", &[JSON], 404).await?;
    }
    // Names that no account can have: unknown at login, refused with a reason at registration.
    // The edge itself refuses one that is longer than the spec allows.
    for (name, status) in
        [("a\u{0}b", 401), ("a\nb", 401), ("\u{7f}", 401), ("", 401), (" ada", 401), (&long, 400)]
    {
        check(
            &system,
            login,
            json!({ "username": name, "password": "correct horse" }).to_string().as_bytes(),
            &[JSON],
            status,
        )
        .await?;
        check(
            &system,
            "/api/auth/createAccount",
            json!({ "username": name, "password": "correct horse" }).to_string().as_bytes(),
            &[JSON],
            400,
        )
        .await?;
    }
    check(
        &system,
        login,
        json!({ "username": "ada", "password": long }).to_string().as_bytes(),
        &[JSON],
        400,
    )
    .await?;
    check(
        &system,
        "/api/auth/createAccount",
        json!({ "username": "ada", "password": long }).to_string().as_bytes(),
        &[JSON],
        400,
    )
    .await?;
    check(
        &system,
        "/api/auth/logout",
        json!({ "session": long }).to_string().as_bytes(),
        &[JSON],
        400,
    )
    .await?;
    check(
        &system,
        "/api/auth/logout",
        json!({ "session": "" }).to_string().as_bytes(),
        &[JSON],
        404,
    )
    .await?;
    // A session has 43 characters.
    for (chars, status) in [(43, 404), (44, 400)] {
        let session = json!({ "session": "x".repeat(chars) }).to_string();
        check(&system, "/api/auth/logout", session.as_bytes(), &[JSON], status).await?;
    }
    // The edge decodes no coding of a body, not even of one that is plain JSON.
    let coded = ("content-encoding", "gzip");
    let body = br#"{"username":"ada","password":"x"}"#;
    check(&system, login, body, &[JSON, coded], 415).await?;
    let coded = b"POST /api/auth/login HTTP/1.1\r\nhost: edge\r\nconnection: close\r\n\
        content-type: application/json\r\ntransfer-encoding: gzip, chunked\r\n\r\n\
        21\r\n{\"username\":\"ada\",\"password\":\"x\"}\r\n0\r\n\r\n";
    let answer = http::raw(system.address(), coded).await?;
    assert!(answer.starts_with("HTTP/1.1 501 "), "{answer}");
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let answer = http::request(method, system.address(), login, Vec::new(), &[]).await?;
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.headers.get("allow").and_then(|allow| allow.to_str().ok()), Some("POST"));
    }
    for key in ["", "with space", &"x".repeat(256)] {
        check(
            &system,
            login,
            br#"{"username":"ada","password":"x"}"#,
            &[JSON, ("idempotency-key", key)],
            400,
        )
        .await?;
    }
    // Bytes that are not HTTP only close the connection.
    for bytes in [
        b"\x16\x03\x01\x00\x00 hello\r\n\r\n".as_slice(),
        b"POST /api/auth/login HTTP/1.1\r\ncontent-length: -5\r\n\r\n",
    ] {
        assert!(!http::raw(system.address(), bytes).await?.contains("200 OK"));
    }
    // The system still works, an unknown key has no effect, and the requests above created and
    // found no user.
    let users = system.database("profile").await?.collection::<mongodb::bson::Document>("users");
    assert_eq!(users.count_documents(mongodb::bson::doc! {}).await?, 0);
    let extra = json!({
        "username": "ada",
        "password": "correct horse",
        "role": "admin",
        "path": "/auth/logout",
    });
    assert_eq!(system.post("/auth/createAccount", &extra).await?.status, 200);
    system.login("ada", "correct horse").await?;
    let requests = system.stream_messages("COMPLETIONS", "done.*.Requesting.request.*").await?;
    assert!(
        requests.iter().all(|(_, body)| body.pointer("/input/role").is_none()),
        "the log contains a key that no rule uses"
    );
    assert!(
        requests
            .iter()
            .any(|(_, body)| body.pointer("/input/path")
                == Some(&Value::from("/auth/createAccount")))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn strings_without_a_length_have_the_configured_one() -> anyhow::Result<()> {
    let system = System::with(&[("CONCERT_HTTP__STRING_LIMIT_CHARS", "10")]).await?;
    let of = |document: &str| json!({ "session": "x".repeat(43), "document": document });
    let path = "/Library/removeDocument";
    let answer = system.post(path, &of("1234567890")).await?;
    assert_eq!(answer.status, 401, "the session has its own length: {answer:?}");
    let answer = system.post(path, &of("12345678901")).await?;
    assert_eq!(answer.status, 400, "{answer:?}");
    let expected = "`document` must be a string of at most 10 characters";
    assert_eq!(answer.text("error")?, expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn excess_requests_get_503_and_late_responses_get_504() -> anyhow::Result<()> {
    let mut system = System::with(&[
        ("CONCERT_HTTP__MAX_REQUESTS", "2"),
        ("CONCERT_HTTP__DEADLINE_MS", "6000"),
        ("CONCERT_WORKERS__CLOCK_SKEW_MS", "0"),
    ])
    .await?;
    system.account("ada", "correct horse").await?;
    system.kill(concert_tests::Part::Profile).await?;
    let body = json!({ "username": "ada", "password": "correct horse" });
    let (one, two) = (system.post("/auth/login", &body), system.post("/auth/login", &body));
    let third = async {
        // The first two must be in progress.
        system
            .until("two requests are in progress", async |system: &System| {
                let metrics =
                    http::get(format!("http://{}/metrics", system.address())).await?.text().await?;
                Ok(metrics.contains("concert_http_requests_in_flight 2").then_some(()))
            })
            .await?;
        system.post("/auth/login", &body).await
    };
    let (one, two, third) = tokio::try_join!(one, two, third)?;
    assert_eq!((one.status, two.status), (504, 504));
    assert_eq!(third.status, 503);
    assert!(third.headers.contains_key("retry-after"));
    assert_eq!(
        third.headers.get("concert-answered-by").and_then(|by| by.to_str().ok()),
        Some("edge")
    );
    // The restarted worker finds the deadline exceeded and does nothing.
    system.start_part(concert_tests::Part::Profile)?;
    system.ready().await?;
    let late = system
        .until("the late logins are completed", async |system: &System| {
            let found =
                system.stream_messages("COMPLETIONS", "done.*.Profile.authenticate.*").await?;
            Ok((found.len() == 2).then_some(found))
        })
        .await?;
    assert!(
        late.iter()
            .all(|(_, body)| body.pointer("/output/fault") == Some(&Value::from("deadline"))),
        "{late:?}"
    );
    Ok(())
}

/// Limits of a few dozen messages, by number and by size.
const FULL: [(&str, &str); 2] =
    [("CONCERT_LOG__MAX_MESSAGES", "60"), ("CONCERT_LOG__MAX_BYTES", "40000")];
/// Number of requests that exceeds both limits.
const FILLING: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn full_log_rejects_requests() -> anyhow::Result<()> {
    for limit in FULL {
        // No message is old enough to be trimmed.
        let settings =
            [limit, ("CONCERT_LOG__KEEP_SECONDS", "3600"), ("CONCERT_HTTP__DEADLINE_MS", "5000")];
        let system = System::with(&settings).await?;
        let logout = json!({ "session": "nobody's" });
        let mut last = system.post("/auth/logout", &logout).await?;
        for _ in 0..FILLING {
            if last.status != 404 {
                break;
            }
            last = system.post("/auth/logout", &logout).await?;
        }
        // The request that fills the log may time out; the next one is rejected immediately.
        let refused = system.post("/auth/logout", &logout).await?;
        assert!([503, 504].contains(&last.status), "{limit:?}: {last:?}");
        assert_eq!(refused.status, 503, "{limit:?}: {refused:?}");
        assert!(refused.headers.contains_key("retry-after"));
        system
            .until("the edge is not ready", async |system: &System| {
                let ready = http::get(format!("http://{}/readyz", system.address())).await?;
                Ok((ready.status() == 503).then_some(()))
            })
            .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn edge_without_a_slot_for_a_request_body_is_not_ready() -> anyhow::Result<()> {
    let limits = [("CONCERT_HTTP__MAX_REQUESTS", "1"), ("CONCERT_HTTP__BODY_GRACE_MS", "60000")];
    let system = System::with(&limits).await?;
    let ready = async |status: u16| {
        let has_status = async |system: &System| {
            let answer = http::get(format!("http://{}/readyz", system.address())).await?;
            let found = (answer.status().as_u16(), answer.text().await?);
            Ok((found.0 == status).then_some(found.1))
        };
        system.until(&format!("/readyz is {status}"), has_status).await
    };
    ready(200).await?;
    let mut slow = TcpStream::connect(system.address()).await?;
    let head = "POST /api/auth/login HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n";
    slow.write_all(format!("{head}content-length: 100\r\n\r\n{{").as_bytes()).await?;
    assert_eq!(ready(503).await?, "too many request bodies in progress\n");
    drop(slow);
    ready(200).await?;
    Ok(())
}

/// Sends logouts one after the other until this number has been answered.
async fn log_out(system: &System, number: usize) -> anyhow::Result<()> {
    let mut answered = 0;
    while answered < number {
        let answer = system.post("/auth/logout", &json!({ "session": "nobody's" })).await?;
        match answer.status {
            404 => answered += 1,
            // Requests arrive faster than the router trims the log.
            503 | 504 => tokio::time::sleep(std::time::Duration::from_millis(200)).await,
            _ => anyhow::bail!("{answer:?}"),
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn full_log_that_may_be_trimmed_accepts_requests() -> anyhow::Result<()> {
    for limit in FULL {
        let settings =
            [limit, ("CONCERT_LOG__KEEP_SECONDS", "0"), ("CONCERT_HTTP__DEADLINE_MS", "2000")];
        let system = System::with(&settings).await?;
        log_out(&system, FILLING).await?;
        // All messages of a full log may belong to flows that wait for room.
        let logout = json!({ "session": "nobody's" });
        futures_util::future::join_all((0..FILLING).map(|_| system.post("/auth/logout", &logout)))
            .await;
        tokio::time::timeout(std::time::Duration::from_secs(60), log_out(&system, FILLING))
            .await
            .with_context(|| format!("the full log stays full: {limit:?}"))??;
    }
    Ok(())
}
