//! What is known of a call beside its request.

use std::sync::Arc;

use tonic::metadata::MetadataMap;

use crate::store::UnixMs;

/// How a call came.
#[derive(Clone, Debug, Default)]
pub(super) struct Arrival {
    /// When it came.
    pub(super) now_ms: UnixMs,
    /// Its W3C trace context, or empty.
    pub(super) traceparent: Arc<str>,
}

impl Arrival {
    /// A call that comes now, with this metadata.
    pub(super) fn new(now_ms: UnixMs, metadata: &MetadataMap) -> Self {
        let traceparent = metadata.get("traceparent").and_then(|it| it.to_str().ok());
        let well_formed = traceparent.filter(|it| is_traceparent(it));
        Self {
            now_ms,
            traceparent: well_formed.unwrap_or_default().into(),
        }
    }
}

/// Version 00 of the W3C recommendation. What can't be read is left out, as it demands.
fn is_traceparent(text: &str) -> bool {
    let is_hex = |part: &str, len: usize| {
        let digit = |it: u8| it.is_ascii_digit() || matches!(it, b'a'..=b'f');
        part.len() == len && part.bytes().all(digit)
    };
    let is_id = |part: &str, len: usize| is_hex(part, len) && part.bytes().any(|it| it != b'0');
    let parts: Vec<_> = text.split('-').collect();
    match parts[..] {
        ["00", trace, parent, flags] => is_id(trace, 32) && is_id(parent, 16) && is_hex(flags, 2),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_trace_context_is_kept() {
        assert!(is_traceparent(
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        ));
        for bad in [
            "",
            "00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert!(!is_traceparent(bad), "{bad:?}");
        }
    }
}
