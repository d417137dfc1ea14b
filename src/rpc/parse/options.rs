//! What a client says of a transaction beside its branches.

use std::{collections::BTreeMap, sync::Arc};

use tercet_core::{outcome::ReplyMode, retry::RetryPolicy};

use super::{
    super::{faults::Faults, limits::Limits},
    field,
};
use crate::proto::tercet::v1 as pb;

const JITTER_PERMILLE_MAX: u16 = 500;

/// The options of a transaction, defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Options {
    pub(super) transaction_type: Arc<str>,
    pub(super) business_key: Arc<str>,
    pub(super) labels: BTreeMap<Arc<str>, Arc<str>>,
    pub(super) switches: BTreeMap<Arc<str>, Arc<str>>,
    pub(super) mode: ReplyMode,
    pub(super) policy: RetryPolicy,
    pub(super) timeout_ms: u64,
    pub(super) try_timeout_ms: u64,
}

pub(super) fn options(
    faults: &mut Faults,
    given: &pb::TransactionOptions,
    limits: &Limits,
) -> Option<Options> {
    let mut name = |at, text| field::text(faults, at, text, limits.name_bytes_max);
    let transaction_type = name("options.transaction_type", &given.transaction_type);
    let business_key = name("options.business_key", &given.business_key);
    let labels = field::labels(faults, "options.labels", &given.labels, limits);
    let switches = field::labels(faults, "options.switches", &given.switches, limits);
    let mode = mode(faults, given.reply_mode);
    let policy = match &given.retry_policy {
        None => Some(RetryPolicy::default()),
        Some(given) => policy(faults, given, limits),
    };
    let times = times(faults, given, limits);
    let (timeout_ms, try_timeout_ms) = times?;
    Some(Options {
        transaction_type: transaction_type?,
        business_key: business_key?,
        labels: labels?,
        switches: switches?,
        mode: mode?,
        policy: policy?,
        timeout_ms,
        try_timeout_ms,
    })
}

/// The timeout, and the Try timeout, which is never longer.
fn times(
    faults: &mut Faults,
    given: &pb::TransactionOptions,
    limits: &Limits,
) -> Option<(u64, u64)> {
    let asked = given.timeout.as_ref();
    let timeout_ms = field::duration_ms(faults, "options.timeout", asked, &limits.timeout_ms);
    let timeout_ms = timeout_ms.map(|asked| asked.unwrap_or(limits.timeout_default_ms));
    // With a bad timeout, the Try timeout is held against the longest there can be.
    let allowed_ms = 1..=timeout_ms.unwrap_or(*limits.timeout_ms.end());
    let asked = given.try_timeout.as_ref();
    let try_timeout_ms = field::duration_ms(faults, "options.try_timeout", asked, &allowed_ms)?;
    let timeout_ms = timeout_ms?;
    let default_ms = limits.try_timeout_default_ms.min(timeout_ms);
    Some((timeout_ms, try_timeout_ms.unwrap_or(default_ms)))
}

fn mode(faults: &mut Faults, given: i32) -> Option<ReplyMode> {
    match pb::ReplyMode::try_from(given) {
        Ok(pb::ReplyMode::Unspecified | pb::ReplyMode::ThreeState) => Some(ReplyMode::ThreeState),
        Ok(pb::ReplyMode::TwoState) => Some(ReplyMode::TwoState),
        Ok(pb::ReplyMode::Accepted) => Some(ReplyMode::Accepted),
        Err(_) => {
            let why = format_args!("{given} is no ReplyMode; give 0 to 3");
            faults.invalid("options.reply_mode", why);
            None
        }
    }
}

fn policy(faults: &mut Faults, given: &pb::RetryPolicy, limits: &Limits) -> Option<RetryPolicy> {
    let default = RetryPolicy::default();
    let intervals_ms = match given.intervals.as_slice() {
        [] => Some(default.intervals_ms),
        intervals => intervals_ms(faults, intervals, limits),
    };
    let jitter_permille = match given.jitter_permille {
        None => Some(default.jitter_permille),
        Some(given) => {
            let parsed = u16::try_from(given).ok();
            let parsed = parsed.filter(|it| *it <= JITTER_PERMILLE_MAX);
            if parsed.is_none() {
                let why = format_args!("{given} is not 0 to {JITTER_PERMILLE_MAX}");
                faults.invalid("options.retry_policy.jitter_permille", why);
            }
            parsed
        }
    };
    let attention_after_attempts = match u32::try_from(given.attention_after_attempts) {
        Ok(0) => Some(default.attention_after_attempts),
        Ok(attempts) => Some(attempts),
        Err(_) => {
            let found = given.attention_after_attempts;
            let why = format_args!("{found} is negative; give 1 or more, or 0 for the default");
            faults.invalid("options.retry_policy.attention_after_attempts", why);
            None
        }
    };
    Some(RetryPolicy {
        intervals_ms: intervals_ms?,
        jitter_permille: jitter_permille?,
        attention_after_attempts: attention_after_attempts?,
    })
}

fn intervals_ms(
    faults: &mut Faults,
    given: &[prost_types::Duration],
    limits: &Limits,
) -> Option<Arc<[u64]>> {
    const AT: &str = "options.retry_policy.intervals";
    let (found, max) = (given.len(), limits.retry_intervals_max);
    if found > max {
        faults.exceeded(
            AT,
            format_args!("it lists {found}; at most {max} are allowed"),
        );
        return None;
    }
    let parsed: Vec<_> = given
        .iter()
        .enumerate()
        .map(|(at, given)| {
            let at = format_args!("{AT}[{at}]");
            field::duration_ms(faults, at, Some(given), &limits.retry_interval_ms)
        })
        .collect();
    parsed.into_iter().map(Option::flatten).collect()
}
