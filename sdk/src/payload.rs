//! Makes payloads: opaque to the coordinator, a message or text to whoever made them.

use prost::{Message, Name, bytes::Bytes};

use crate::proto::participant::v1::Payload;

impl Payload {
    /// A message, without its type's name: the resource says what it is.
    #[must_use]
    pub fn message<M: Message>(message: &M) -> Self {
        Self::raw("", message.encode_to_vec())
    }

    /// A message that knows its name (generated with `enable_type_names`), which then travels
    /// along as `type.googleapis.com/…`.
    #[must_use]
    pub fn named<M: Message + Name>(message: &M) -> Self {
        let type_url = format!("type.googleapis.com/{}", M::full_name());
        Self::raw(type_url, message.encode_to_vec())
    }

    /// JSON text.
    #[must_use]
    pub fn json(text: impl Into<String>) -> Self {
        Self::raw("json", text.into())
    }

    /// Any bytes, with a type of any name; empty for none.
    #[must_use]
    pub fn raw(type_url: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Self {
            type_url: type_url.into(),
            value: value.into(),
        }
    }
}
