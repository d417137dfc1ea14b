//! What travels between client, coordinator and participant without being understood: opaque
//! data, and the reason why something failed.

use std::{collections::BTreeMap, sync::Arc};

/// Opaque application data. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Payload {
    /// `type.googleapis.com/shop.v1.Reserve`, `json`, or empty for raw bytes.
    pub type_url: Arc<str>,
    /// The bytes, as given.
    pub value: Arc<[u8]>,
}

impl Payload {
    /// Length of both parts, in bytes: what limits are measured by.
    #[must_use]
    pub fn len(&self) -> usize {
        self.type_url.len() + self.value.len()
    }

    /// True when there is neither a type nor a value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why something failed, for programs and for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Failure {
    /// UPPER_SNAKE_CASE, at most 63 characters; for example `OUT_OF_STOCK`.
    pub reason: Arc<str>,
    /// Developer-facing English.
    pub message: Arc<str>,
    /// Every value that appears in the message.
    pub metadata: BTreeMap<Arc<str>, Arc<str>>,
    /// `google.rpc.Code` when it came from a gRPC status, else 0.
    pub code: i32,
}

impl Failure {
    /// A failure with a reason for programs and a message for people.
    #[must_use]
    pub fn new(reason: &str, message: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            message: message.into().into(),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_as_long_as_both_its_parts() {
        let payload = |type_url: &str, value: &[u8]| Payload {
            type_url: type_url.into(),
            value: value.into(),
        };
        assert_eq!(payload("json", b"{}").len(), 6);
        assert!(payload("", b"").is_empty());
        assert!(!payload("json", b"").is_empty());
        assert!(!payload("", b"{}").is_empty());
    }
}
