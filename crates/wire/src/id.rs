//! Ids. All of them are UUIDs, and those of a flow follow from its root and its log alone, so that
//! whoever computes them again gets the same.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use smallvec::SmallVec;
use uuid::{Builder, Uuid, Variant};

const MS_PER_DAY: u64 = 86_400_000;

/// A UUIDv8 of this meaning alone.
const RULES_FLOW: u128 = 0x636f_6e63_6572_8000_8000_0000_7275_6c65;

/// A string that is not a UUID in its hyphenated form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID")]
pub struct NotAnId;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Takes a UUID as this kind of id.
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The id as a UUID.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            /// Accepts the hyphenated form only: the other spellings of a UUID would be other
            /// subjects for the same id.
            fn from_str(text: &str) -> Result<Self, NotAnId> {
                if text.len() != 36 || text.bytes().any(|b| b.is_ascii_uppercase()) {
                    return Err(NotAnId);
                }
                Uuid::try_parse(text).map(Self).map_err(|_| NotAnId)
            }
        }
    };
}

id! {
    /// All actions that descend from one root carry its flow id.
    FlowId
}
id! {
    /// One invocation and its completion.
    ActionId
}
id! {
    /// One rule, one matched set of completions.
    FiringId
}

impl FlowId {
    /// The flow of the messages that put rules in force. It has no root.
    pub fn of_rules() -> Self {
        Self(Uuid::from_u128(RULES_FLOW))
    }

    /// The action id of the flow's root: the same UUID.
    pub const fn root(self) -> ActionId {
        ActionId(self.0)
    }

    /// The flow of a repeatable request (`Idempotency-Key`): a UUIDv8 of the UTC day and a digest,
    /// so that the same digest on the same day is the same flow.
    pub fn of_day(unix_ms: u64, digest: &[u8; 32]) -> Self {
        let day_start_ms = unix_ms - unix_ms % MS_PER_DAY;
        Self(timestamped(day_start_ms, digest, Builder::from_custom_bytes))
    }

    /// The latest time at which the flow can have been born, in milliseconds since 1970; `None`
    /// where the id does not tell.
    pub fn born_before_ms(self) -> Option<u64> {
        let bytes = self.0.as_bytes();
        if self.0.get_variant() != Variant::RFC4122 {
            return None;
        }
        let ms = bytes.iter().take(6).fold(0_u64, |ms, byte| ms << 8 | u64::from(*byte));
        match self.0.get_version_num() {
            7 => Some(ms),
            8 => Some(ms + MS_PER_DAY),
            _ => None,
        }
    }

    /// The id of the one answer that a flow gets when a limit was reached; it follows from the flow
    /// alone.
    pub fn limit_response(self) -> ActionId {
        ActionId(uuid_v5(&self.0, b"limit"))
    }
}

impl ActionId {
    /// The flow that this action is the root of.
    pub const fn as_root(self) -> FlowId {
        FlowId(self.0)
    }

    /// The id of an action that was injected without one: it follows from where the message stands
    /// in its stream, so that a redelivery has the same.
    ///
    /// `timestamp_ns` is the stream's timestamp of the message, in nanoseconds since 1970.
    pub fn injected(stream: &str, sequence: u64, timestamp_ns: u64) -> Self {
        let mut hash = Sha256::new();
        hash.update(stream.as_bytes());
        hash.update([0]);
        hash.update(sequence.to_be_bytes());
        hash.update(timestamp_ns.to_be_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        Self(timestamped(timestamp_ns / 1_000_000, &digest, |bytes| {
            Builder::from_custom_bytes(bytes).with_version(uuid::Version::SortRand)
        }))
    }

    /// The id of the call at `position` of the frame `frame` of a firing.
    pub fn of_call(firing: FiringId, frame: u32, position: u32) -> Self {
        let mut name = [0_u8; 8];
        for (to, from) in
            name.iter_mut().zip(frame.to_be_bytes().into_iter().chain(position.to_be_bytes()))
        {
            *to = from;
        }
        Self(uuid_v5(&firing.0, &name))
    }

    /// The id of the message that puts a version of the rules in force after the one at `previous`
    /// in the log: routers that see the same and want the same say it once.
    pub fn in_force(previous: u64, version: &str) -> Self {
        let name = format!("{previous} {version}");
        Self(uuid_v5(&FlowId::of_rules().0, name.as_bytes()))
    }

    /// The id of the firing record of this completion: what the rules that asked queries made of
    /// it.
    pub fn firing_record(self) -> Self {
        Self(uuid_v5(&self.0, b"fired"))
    }

    /// The id of the router's own answer to this action's failure, which no rule answered.
    pub fn fault_response(self) -> Self {
        Self(uuid_v5(&self.0, b"fault"))
    }
}

impl FiringId {
    /// The id of a firing: the rule's name and its causes *in the order of the rule's patterns*.
    pub fn of(flow: FlowId, sync: &str, causes: impl IntoIterator<Item = ActionId>) -> Self {
        // On the stack as rules go.
        let mut name: SmallVec<[u8; 256]> = SmallVec::from_slice(sync.as_bytes());
        name.push(0);
        for cause in causes {
            name.extend_from_slice(cause.0.as_bytes());
        }
        Self(uuid_v5(&flow.0, &name))
    }
}

/// The UUIDv5 of a name within a namespace (RFC 9562, section 5.5). Several are made for each
/// completion, so SHA-1 is that of a crate that uses the processor's instructions for it.
pub fn uuid_v5(namespace: &Uuid, name: &[u8]) -> Uuid {
    let digest: [u8; 20] =
        Sha1::new().chain_update(namespace.as_bytes()).chain_update(name).finalize().into();
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(digest) {
        *to = from;
    }
    Builder::from_sha1_bytes(bytes).into_uuid()
}

/// 48 bits of time, then the digest, in the layout that UUIDv7 and this crate's UUIDv8 share.
fn timestamped(unix_ms: u64, digest: &[u8; 32], build: impl Fn([u8; 16]) -> Builder) -> Uuid {
    let mut bytes = [0_u8; 16];
    let time = unix_ms.to_be_bytes().into_iter().skip(2);
    for (to, from) in bytes.iter_mut().zip(time.chain(digest.iter().copied())) {
        *to = from;
    }
    build(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOW: &str = "0199f0a0-0000-7000-8000-000000000001";

    #[test]
    fn only_the_hyphenated_lower_case_form_is_an_id() {
        assert!(FLOW.parse::<FlowId>().is_ok());
        for wrong in [
            "",
            "*",
            "a.b",
            "0199f0a0000070008000000000000001",
            "0199F0A0-0000-7000-8000-000000000001",
            "{0199f0a0-0000-7000-8000-00000000001}",
        ] {
            assert_eq!(wrong.parse::<FlowId>(), Err(NotAnId), "{wrong}");
        }
    }

    #[test]
    fn an_id_of_a_name_is_that_of_the_standard() {
        // RFC 9562, appendix A.4.
        let dns = Uuid::NAMESPACE_DNS;
        let expected = "2ed6657d-e927-568b-95e1-2665a8aea6a2";
        assert_eq!(uuid_v5(&dns, b"www.example.com").to_string(), expected);
    }

    #[test]
    fn the_order_of_causes_and_the_name_of_the_rule_matter() {
        let flow: FlowId = FLOW.parse().unwrap();
        let (a, b) = (ActionId::injected("S", 1, 1), ActionId::injected("S", 2, 1));
        let id = FiringId::of(flow, "Rule", [a, b]);
        assert_eq!(id, FiringId::of(flow, "Rule", [a, b]));
        assert_ne!(id, FiringId::of(flow, "Rule", [b, a]));
        assert_ne!(id, FiringId::of(flow, "Rule2", [a, b]));
        assert_ne!(ActionId::of_call(id, 0, 1), ActionId::of_call(id, 1, 0));
    }

    #[test]
    fn an_injected_id_is_a_uuid_v7_of_the_message_s_own_time() {
        let id = ActionId::injected("ACTIONS_Sessioning", 7, 1_700_000_000_123_456_789);
        assert_eq!(id.uuid().get_version_num(), 7);
        assert_eq!(id.as_root().born_before_ms(), Some(1_700_000_000_123));
        assert_eq!(id, ActionId::injected("ACTIONS_Sessioning", 7, 1_700_000_000_123_456_789));
        assert_ne!(id, ActionId::injected("ACTIONS_Sessioning", 8, 1_700_000_000_123_456_789));
    }

    #[test]
    fn a_repeatable_flow_is_one_flow_for_a_day() {
        let morning = 20_000 * MS_PER_DAY + 1;
        let flow = FlowId::of_day(morning, &[7; 32]);
        assert_eq!(flow.uuid().get_version_num(), 8);
        assert_eq!(flow, FlowId::of_day(morning + 3_600_000, &[7; 32]));
        assert_ne!(flow, FlowId::of_day(morning + MS_PER_DAY, &[7; 32]));
        assert_ne!(flow, FlowId::of_day(morning, &[8; 32]));
        assert_eq!(flow.born_before_ms(), Some(20_001 * MS_PER_DAY));
    }
}
