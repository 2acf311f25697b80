//! An account of a real NATS server that requires a maximum size of each stream, and has 1 GiB.

use concert_local_servers::{FindOptions, NatsOptions, NatsServer, find_or_fetch};
use concert_runtime::bus::{Bus, BusArgs};
use concert_runtime::streams::{self, LogLimits};

const ACCOUNTS: &str = "
accounts {
  APP {
    jetstream { max_file: 1G, max_bytes_required: true }
    users [{ user: app, password: app }]
  }
}
no_auth_user: app
";
const MIB: i64 = 1024 * 1024;

/// Sets one size.
type Set = fn(&mut LogLimits);

#[tokio::test]
async fn account_that_requires_sizes_gets_them_and_an_error_names_the_missing_one() {
    let dir = tempfile::tempdir().unwrap();
    let binaries = find_or_fetch(&FindOptions::of_user().unwrap(), &|_| {}).await.unwrap();
    let accounts = dir.path().join("accounts.conf");
    std::fs::write(&accounts, ACCOUNTS).unwrap();
    let options = NatsOptions { accounts: Some(accounts), ..NatsOptions::new(dir.path()) };
    let nats = NatsServer::start(&binaries.nats_server, &options).await.unwrap();
    let bus = Bus::connect(&BusArgs::at(nats.url()), "test").await.unwrap();
    let concepts = ["Profile".parse().unwrap()];
    let mut limits = LogLimits { large_values_max_bytes: 8 * MIB, ..LogLimits::default() };
    let sizes: [(&str, Set); 4] = [
        ("log.dead_max_bytes", |limits| limits.dead_max_bytes = 8 * MIB),
        ("log.max_bytes", |limits| limits.log_max_bytes = 8 * MIB),
        ("log.bucket_max_bytes", |limits| limits.bucket_max_bytes = 8 * MIB),
        ("log.queue_max_bytes", |limits| limits.queue_max_bytes = 8 * MIB),
    ];
    for (key, set) in sizes {
        let error = streams::make_all(&bus, &concepts, &limits).await.unwrap_err().to_string();
        assert!(error.contains(&format!("set {key},")), "{key}: {error}");
        set(&mut limits);
    }
    streams::make_all(&bus, &concepts, &limits).await.unwrap();
    limits.log_max_bytes = 2048 * MIB;
    let error = streams::make_all(&bus, &concepts, &limits).await.unwrap_err().to_string();
    assert!(error.contains("free disk space, or decrease log.max_bytes"), "{error}");
}
