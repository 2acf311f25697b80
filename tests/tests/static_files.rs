//! The frontend as static files of the edge, and a console on another origin.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use concert_local_servers::Port;
use concert_tests::{System, http, until};
use reqwest::Response;

const TIMEOUT: Duration = Duration::from_secs(60);

async fn get(system: &System, path: &str) -> anyhow::Result<Response> {
    Ok(http::get(format!("http://{}{path}", system.address())).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn frontend_is_served_next_to_the_paths_of_rules() -> anyhow::Result<()> {
    let system = System::start().await?;
    let page = get(&system, "/").await?;
    assert_eq!(page.status(), 200);
    assert_eq!(page.headers()["content-type"], "text/html");
    let policy = page.headers()["content-security-policy"].to_str()?;
    assert!(policy.starts_with("default-src 'self'; ") && !policy.contains("unsafe"), "{policy}");
    assert!(policy.ends_with("frame-ancestors 'none'"), "{policy}");
    let tag = page.headers()["etag"].clone();
    assert!(page.text().await?.contains("<title>Reader</title>"));
    let client = http::client()?;
    let again = client.get(format!("http://{}/", system.address())).header("if-none-match", tag);
    assert_eq!(again.send().await?.status(), 304);

    let script = get(&system, "/js/app.js").await?;
    assert_eq!(
        (script.status().as_u16(), &script.headers()["x-content-type-options"]),
        (200, &"nosniff".parse()?)
    );
    assert_eq!(script.headers()["content-type"], "text/javascript");
    let answers = [
        ("GET", "/none", 404),
        ("GET", "/js/none.js", 404),
        ("GET", "/%2e%2e/concert.toml", 404),
        ("GET", "/api/none", 404),
        ("GET", "/api/auth/login", 405),
        ("POST", "/api/none", 404),
        ("POST", "/", 404),
        ("POST", "/js/app.js", 404),
    ];
    for (method, path, status) in answers {
        let answer = http::request(method, system.address(), path, Vec::new(), &[]).await?;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.headers["concert-answered-by"], "edge", "{method} {path}");
        assert!(answer.body["error"].is_string(), "{method} {path}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_without_a_base_take_precedence_over_files() -> anyhow::Result<()> {
    let system = System::start().await?;
    let port = Port::free().context("no free port")?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
    let mut edge = system.concert(&["http-edge", "--base", "", "--listen", &address.to_string()]);
    let mut edge = edge.env("NATS_NKEY", system.seeds("edge")).spawn()?;
    until("the edge is ready", TIMEOUT, async || {
        ensure!(edge.try_wait()?.is_none(), "the edge exited");
        Ok(http::is_ready(address).await.then_some(()))
    })
    .await?;
    for (path, status) in [("/", 200), ("/js/app.js", 200), ("/auth/login", 405), ("/none", 404)] {
        let found = http::get(format!("http://{address}{path}")).await?;
        assert_eq!(found.status().as_u16(), status, "{path}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_static_files_stop_the_start() -> anyhow::Result<()> {
    let system = System::start().await?;
    for (setting, reason) in [
        ("http.static=/nowhere", "cannot read the directory /nowhere of http.static: "),
        ("http.static_fallback=none.html", "none.html of http.static_fallback: "),
    ] {
        let edge =
            system.concert(&["http-edge", "--listen", "0", "--set", setting]).output().await?;
        let printed = String::from_utf8_lossy(&edge.stderr).into_owned();
        assert!(!edge.status.success() && printed.contains(reason), "{printed}");
    }
    Ok(())
}
