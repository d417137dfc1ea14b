//! How long a call waits: what it asks for, but not past its own deadline, and not for ever.

use std::time::Duration;

use tonic::metadata::MetadataMap;

use super::limits::Limits;

/// What is left for the answer's way back to the caller.
const WAY_BACK: Duration = Duration::from_millis(100);

/// The wait of a call that asks for this one. A call that asks for none waits until just before its
/// deadline; one without a deadline, as long as is allowed.
pub(super) fn wait(asked: Option<Duration>, metadata: &MetadataMap, limits: &Limits) -> Duration {
    let bounds = [asked, deadline(metadata), Some(limits.wait_max)];
    bounds
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(limits.wait_max)
}

/// The caller's deadline, less the way back; none if it gave none that can be read.
fn deadline(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (at, unit) = text.char_indices().next_back()?;
    let digits = &text[..at];
    let valid = (1..=8).contains(&digits.len()) && digits.bytes().all(|it| it.is_ascii_digit());
    let value: u64 = digits.parse().ok().filter(|_| valid)?;
    let deadline = match unit {
        'H' => Duration::from_secs(value * 60 * 60),
        'M' => Duration::from_secs(value * 60),
        'S' => Duration::from_secs(value),
        'm' => Duration::from_millis(value),
        'u' => Duration::from_micros(value),
        'n' => Duration::from_nanos(value),
        _ => return None,
    };
    Some(deadline.saturating_sub(WAY_BACK))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(asked: Option<u64>, grpc_timeout: Option<&str>) -> Duration {
        let mut metadata = MetadataMap::new();
        if let Some(text) = grpc_timeout {
            metadata.insert("grpc-timeout", text.parse().expect("ASCII"));
        }
        wait(
            asked.map(Duration::from_secs),
            &metadata,
            &Limits::default(),
        )
    }

    #[test]
    fn without_a_deadline_a_call_waits_as_asked_or_as_long_as_is_allowed() {
        assert_eq!(waits(None, None), Duration::from_secs(60));
        assert_eq!(waits(Some(5), None), Duration::from_secs(5));
        assert_eq!(waits(Some(0), None), Duration::ZERO);
        assert_eq!(waits(Some(90), None), Duration::from_secs(60));
    }

    #[test]
    fn no_call_waits_past_its_deadline() {
        assert_eq!(waits(None, Some("5S")), Duration::from_millis(4_900));
        assert_eq!(waits(Some(9), Some("5000m")), Duration::from_millis(4_900));
        assert_eq!(waits(Some(2), Some("5S")), Duration::from_secs(2));
        assert_eq!(waits(None, Some("50m")), Duration::ZERO);
        assert_eq!(waits(None, Some("2H")), Duration::from_secs(60));
        assert_eq!(waits(None, Some("99999999H")), Duration::from_secs(60));
        assert_eq!(waits(None, Some("1000000u")), Duration::from_millis(900));
        assert_eq!(waits(None, Some("10000000n")), Duration::ZERO);
    }

    #[test]
    fn a_deadline_that_cannot_be_read_is_none() {
        for text in ["", "S", "5", "5s", "-5S", "+5S", "123456789S", "5 S"] {
            assert_eq!(waits(None, Some(text)), Duration::from_secs(60), "{text:?}");
        }
    }
}
