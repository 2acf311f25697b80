//! Ids. All are UUIDs. The ids of a flow are derived from its root and its log, so every process
//! computes the same ones.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use smallvec::SmallVec;
use uuid::{Builder, Uuid, Variant};

const MS_PER_DAY: u64 = 86_400_000;

/// A UUIDv8 reserved for this purpose.
const RULES_FLOW: u128 = 0x636f_6e63_6572_8000_8000_0000_7275_6c65;

/// The string is not a hyphenated UUID.
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
            /// Wraps a UUID as this kind of id.
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

            /// Accepts only the hyphenated form: other spellings of a UUID would be different
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
    /// Id of a flow: all actions that descend from one root.
    FlowId
}
id! {
    /// Id of an invocation and its completion.
    ActionId
}
id! {
    /// Id of a firing: one rule and one matched set of completions.
    FiringId
}

impl FlowId {
    /// The flow of the messages that activate rule versions. It has no root.
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

    /// Latest possible creation time of the flow, in milliseconds since 1970; `None` if the id does
    /// not contain it.
    pub fn created_before_ms(self) -> Option<u64> {
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

    /// Id of the single response of a flow that reached a limit. It is derived from the flow only.
    pub fn limit_response(self) -> ActionId {
        ActionId(uuid_v5(&self.0, b"limit"))
    }
}

impl ActionId {
    /// The flow whose root is this action.
    pub const fn as_root(self) -> FlowId {
        FlowId(self.0)
    }

    /// Id of an action that was injected without one. It is derived from the position of the
    /// message in its stream, so a redelivery has the same id.
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

    /// Id of the call at `position` of the frame `frame` of a firing.
    pub fn of_call(firing: FiringId, frame: u32, position: u32) -> Self {
        let mut name = [0_u8; 8];
        for (to, from) in
            name.iter_mut().zip(frame.to_be_bytes().into_iter().chain(position.to_be_bytes()))
        {
            *to = from;
        }
        Self(uuid_v5(&firing.0, &name))
    }

    /// Id of the message that activates a rule version after the one at `previous` in the log.
    /// Routers that activate the same version after the same message publish it once.
    pub fn activation(previous: u64, version: &str) -> Self {
        let name = format!("{previous} {version}");
        Self(uuid_v5(&FlowId::of_rules().0, name.as_bytes()))
    }

    /// Id of the firing record of this completion: the results of rules with queries.
    pub fn firing_record(self) -> Self {
        Self(uuid_v5(&self.0, b"fired"))
    }

    /// Id of the router's own response to this action's failure, if no rule responds.
    pub fn fault_response(self) -> Self {
        Self(uuid_v5(&self.0, b"fault"))
    }
}

impl FiringId {
    /// Id of a firing: derived from the rule's name and its causes *in the order of the rule's
    /// patterns*.
    pub fn of(flow: FlowId, sync: &str, causes: impl IntoIterator<Item = ActionId>) -> Self {
        // On the stack for typical rules.
        let mut name: SmallVec<[u8; 256]> = SmallVec::from_slice(sync.as_bytes());
        name.push(0);
        for cause in causes {
            name.extend_from_slice(cause.0.as_bytes());
        }
        Self(uuid_v5(&flow.0, &name))
    }
}

/// The UUIDv5 of a name in a namespace (RFC 9562, section 5.5). Several are computed for each
/// completion, so SHA-1 comes from a crate that uses the CPU's instructions for it.
pub fn uuid_v5(namespace: &Uuid, name: &[u8]) -> Uuid {
    let digest: [u8; 20] =
        Sha1::new().chain_update(namespace.as_bytes()).chain_update(name).finalize().into();
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(digest) {
        *to = from;
    }
    Builder::from_sha1_bytes(bytes).into_uuid()
}

/// 48 bits of time, then the digest: the common layout of UUIDv7 and this crate's UUIDv8.
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
    fn only_the_hyphenated_lower_case_form_is_accepted() {
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
    fn uuid_v5_equals_the_example_of_the_rfc() {
        // RFC 9562, appendix A.4.
        let dns = Uuid::NAMESPACE_DNS;
        let expected = "2ed6657d-e927-568b-95e1-2665a8aea6a2";
        assert_eq!(uuid_v5(&dns, b"www.example.com").to_string(), expected);
    }

    #[test]
    fn firing_id_depends_on_rule_name_and_order_of_causes() {
        let flow: FlowId = FLOW.parse().unwrap();
        let (a, b) = (ActionId::injected("S", 1, 1), ActionId::injected("S", 2, 1));
        let id = FiringId::of(flow, "Rule", [a, b]);
        assert_eq!(id, FiringId::of(flow, "Rule", [a, b]));
        assert_ne!(id, FiringId::of(flow, "Rule", [b, a]));
        assert_ne!(id, FiringId::of(flow, "Rule2", [a, b]));
        assert_ne!(ActionId::of_call(id, 0, 1), ActionId::of_call(id, 1, 0));
    }

    #[test]
    fn injected_id_is_a_uuid_v7_of_the_message_time() {
        let id = ActionId::injected("ACTIONS_Sessioning", 7, 1_700_000_000_123_456_789);
        assert_eq!(id.uuid().get_version_num(), 7);
        assert_eq!(id.as_root().created_before_ms(), Some(1_700_000_000_123));
        assert_eq!(id, ActionId::injected("ACTIONS_Sessioning", 7, 1_700_000_000_123_456_789));
        assert_ne!(id, ActionId::injected("ACTIONS_Sessioning", 8, 1_700_000_000_123_456_789));
    }

    #[test]
    fn idempotent_flow_is_the_same_for_one_day() {
        let morning = 20_000 * MS_PER_DAY + 1;
        let flow = FlowId::of_day(morning, &[7; 32]);
        assert_eq!(flow.uuid().get_version_num(), 8);
        assert_eq!(flow, FlowId::of_day(morning + 3_600_000, &[7; 32]));
        assert_ne!(flow, FlowId::of_day(morning + MS_PER_DAY, &[7; 32]));
        assert_ne!(flow, FlowId::of_day(morning, &[8; 32]));
        assert_eq!(flow.created_before_ms(), Some(20_001 * MS_PER_DAY));
    }
}
