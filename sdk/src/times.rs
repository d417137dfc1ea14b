//! Times as protobuf has them.

use std::time::Duration;

/// None when it is negative or no duration at all. The conversion of `prost_types` overflows on the
/// most negative one.
pub(crate) fn span(given: prost_types::Duration) -> Option<Duration> {
    let nanos = u32::try_from(given.nanos).ok()?;
    let is_fraction = nanos < 1_000_000_000;
    let seconds = u64::try_from(given.seconds).ok().filter(|_| is_fraction)?;
    Some(Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_duration_is_none_and_no_overflow() {
        let span = |seconds, nanos| span(prost_types::Duration { seconds, nanos });
        assert_eq!(span(1, 500_000_000), Some(Duration::from_millis(1_500)));
        assert_eq!(
            span(i64::MAX, 999_999_999).map(|it| it.as_secs()),
            Some(u64::MAX >> 1)
        );
        for (seconds, nanos) in [
            (i64::MIN, 0),
            (i64::MIN, i32::MIN),
            (-1, 0),
            (0, -1),
            (0, 1_000_000_000),
            (i64::MAX, i32::MAX),
        ] {
            assert_eq!(span(seconds, nanos), None, "{seconds} s {nanos} ns");
        }
    }
}
