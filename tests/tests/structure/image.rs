//! Agreement between the image and the project.

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
