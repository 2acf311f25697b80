//! The kinds of faults.

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Fault {
    /// `kill -9` at a kill point.
    KillAtPoint,
    /// `kill -9` at any moment.
    Kill,
    /// SIGSTOP, and SIGCONT after more than the ack wait.
    Pause,
    /// `kill -9` of nats-server, and a restart.
    KillNats,
    /// `kill -9` of mongod, and a restart.
    KillMongo,
    /// The primary steps down.
    StepDown,
    /// Closes all connections of a process to a server, and rejects new ones for a while.
    Cut,
    /// Holds back the data that a process sends for a while.
    HoldToServer,
    /// Holds back the data that a server sends for a while.
    HoldToProcess,
    /// Duplicated, malformed and forged messages.
    Forge,
    /// Rotates the key for sealing, tokens, or requests and clients.
    RotateKeys,
    /// Rotates the key of a NATS user.
    RotateUser,
    /// A stream that accepts no messages for a while.
    FullStream,
    /// Changes the clock of a process by up to hours for a while.
    Clock,
    /// Fills the disk of nats-server for a while.
    FullDiskNats,
    /// Fills the disk of mongod for a while.
    FullDiskMongo,
    /// Isolates a NATS node from the others for a while, in one or both directions.
    DivideNats,
    /// Isolates a member of the replica set from the others for a while, in one or both directions.
    DivideMongo,
}

impl Fault {
    /// Returns whether it needs a link between a process and its server.
    pub const fn is_of_links(self) -> bool {
        matches!(self, Self::Cut | Self::HoldToServer | Self::HoldToProcess)
    }

    /// Returns whether it needs a small disk.
    pub const fn is_of_disks(self) -> bool {
        matches!(self, Self::FullDiskNats | Self::FullDiskMongo)
    }

    /// Returns whether it needs several nodes.
    pub const fn is_of_nodes(self) -> bool {
        matches!(self, Self::DivideNats | Self::DivideMongo)
    }
}
