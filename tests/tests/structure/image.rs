//! Agreement of the image and of compose.yaml with the project and its documents.

use std::collections::BTreeMap;

use concert_tests::binaries::root;

#[test]
fn image_is_built_with_the_pinned_compiler() {
    let read = |file: &str| std::fs::read_to_string(root().join(file)).unwrap();
    let pins = read("rust-toolchain.toml");
    let pinned = pins.lines().find_map(|line| line.strip_prefix("channel = "));
    let first = format!("FROM rust:{}-bookworm AS chef", pinned.unwrap().trim_matches('"'));
    let dockerfile = read("Dockerfile");
    assert!(dockerfile.lines().any(|line| line == first), "the Dockerfile has no `{first}`");
}

/// The lines of each service of compose.yaml.
fn services() -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(root().join("compose.yaml")).unwrap();
    let of_services = text.split("\nservices:\n").nth(1).unwrap();
    let of_services = of_services.split("\nnetworks:\n").next().unwrap();
    let mut services = BTreeMap::<String, Vec<String>>::new();
    let mut name = String::new();
    for line in of_services.lines() {
        match line.strip_prefix("  ").and_then(|line| line.strip_suffix(':')) {
            Some(service) if !service.starts_with([' ', '#']) => name = service.to_owned(),
            _ => services.entry(name.clone()).or_default().push(line.trim().to_owned()),
        }
    }
    services
}

#[test]
fn edge_and_router_of_compose_have_no_route_to_mongodb() {
    let compose = std::fs::read_to_string(root().join("compose.yaml")).unwrap();
    assert!(compose.contains("\n  data:\n    internal: true\n"));
    assert!(compose.contains("CONCERT_MONGODB__USERS: \"true\""));
    let services = services();
    let networks = |name: &str| {
        services[name].iter().find_map(|line| line.strip_prefix("networks: ")).map(str::to_owned)
    };
    assert_eq!(networks("mongo").as_deref(), Some("[data]"));
    assert_eq!(networks("keys").as_deref(), Some("&with-data [default, data]"));
    for name in ["profile", "sessioning", "archive", "setup"] {
        assert_eq!(networks(name).as_deref(), Some("*with-data"), "{name}");
    }
    for name in ["edge", "router", "nats", "key-rotation"] {
        assert_eq!(networks(name), None, "{name}");
    }
    assert!(services["mongo"].iter().any(|line| line.contains("--keyFile")));
}

#[test]
fn compose_rotates_keys_and_passes_the_trusted_proxies() {
    let services = services();
    let has = |name: &str, line: &str| services[name].iter().any(|found| found == line);
    assert!(has("key-rotation", r#"command: ["keys", "rotate"]"#));
    // It has the keys of all services, and runs until it is stopped.
    assert!(has("key-rotation", "volumes: *of-setup") && has("setup", "volumes: *of-setup"));
    assert!(!services["key-rotation"].iter().any(|line| line.starts_with("restart:")));
    let proxies = "CONCERT_HTTP__TRUSTED_PROXIES: ${CONCERT_HTTP__TRUSTED_PROXIES:-}";
    assert!(has("edge", proxies));
}
