//! What calls carry in metadata.

use tercet_core::operation::Operation;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};

use super::{Outgoing, convert};

/// W3C trace context of the call that created the transaction.
pub(super) fn trace(metadata: &mut MetadataMap, outgoing: &Outgoing) {
    set(metadata, "traceparent", &outgoing.origin.traceparent);
}

/// The context that contract targets get in the message.
pub(super) fn context(metadata: &mut MetadataMap, outgoing: &Outgoing) {
    let expire_time = convert::timestamp(outgoing.origin.expire_ms).to_string();
    let attempt = outgoing.call.attempt.to_string();
    for (key, value) in [
        ("tercet-transaction-id", outgoing.id.as_str()),
        ("tercet-branch-id", outgoing.spec.id.as_str()),
        ("tercet-operation", operation_name(outgoing.call.operation)),
        ("tercet-attempt", &attempt),
        ("tercet-realm", outgoing.realm.as_str()),
        ("tercet-expire-time", &expire_time),
    ] {
        set(metadata, key, value);
    }
}

/// As it stands in metadata and metrics.
pub(super) fn operation_name(operation: Operation) -> &'static str {
    match operation {
        Operation::Try => "try",
        Operation::Confirm => "confirm",
        Operation::Cancel => "cancel",
    }
}

/// What is empty, or no header value, is left out: ids and numbers always are one, and a client's
/// broken trace context must not stop its transaction.
fn set(metadata: &mut MetadataMap, key: &'static str, value: &str) {
    if value.is_empty() {
        return;
    }
    if let Ok(value) = AsciiMetadataValue::try_from(value) {
        metadata.insert(AsciiMetadataKey::from_static(key), value);
    }
}
