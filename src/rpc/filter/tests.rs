use proptest::prelude::*;
use tercet_core::{
    outcome::Decision,
    transaction::{Attention, AttentionReason, State},
};

use super::{super::samples, *};

fn holds(filter: &str, record: &Record) -> bool {
    Filter::parse(filter)
        .unwrap_or_else(|faults| panic!("{filter}: {faults:?}"))
        .matches(record)
}

fn listing(filter: &str) -> Listing {
    Filter::parse(filter).expect("a good filter").listing()
}

/// What is said of a bad filter.
fn why(filter: &str) -> String {
    let faults = Filter::parse(filter).expect_err(filter);
    assert_eq!(faults.named()[0].reason, ErrorReason::FilterInvalid);
    assert_eq!(faults.named()[0].field, "filter");
    faults.named()[0].description.clone()
}

#[test]
fn each_field_is_compared() {
    let mut record = samples::record();
    record.transaction.attentions.push(Attention {
        reason: AttentionReason::Refused,
        branch: 0,
        detail: "".into(),
    });
    for (good, bad) in [
        ("", "state != TRYING"),
        ("state = TRYING", "state = CONFIRMED"),
        ("state != CANCELED", "state = MIXED"),
        ("outcome = PROCESSING", "outcome = SUCCESS"),
        ("attention = REFUSED", "attention = OVERDUE"),
        ("attention != STATE_MISMATCH", "attention != REFUSED"),
        ("attention = ANY", "attention != ANY"),
        ("type = place-order", "type = other"),
        ("business_key = 7", "business_key = 8"),
        ("participant = payment", "participant = shipping"),
        ("participant != shipping", "participant != payment"),
        ("labels.city = \"New York\"", "labels.city = York"),
        ("labels.country != US", "labels.country = US"),
        (
            "create_time = 2023-11-14T22:13:20Z",
            "create_time != 2023-11-14T22:13:20Z",
        ),
        (
            "create_time > 2023-11-14T22:13:19.999Z",
            "create_time > 2023-11-14T22:13:20Z",
        ),
        (
            "create_time < 2023-11-14T22:13:20.001Z",
            "create_time < 2023-11-14T22:13:20Z",
        ),
        (
            "create_time = 2023-11-14T23:13:20+01:00",
            "create_time = 2023-11-14T23:13:20Z",
        ),
        (
            "update_time = 2023-11-14T22:13:20.250Z",
            "update_time = 2023-11-14T22:13:20Z",
        ),
    ] {
        assert!(holds(good, &record), "{good}");
        assert!(!holds(bad, &record), "{bad}");
    }
    assert!(!holds("attention = ANY", &samples::record()));
}

#[test]
fn every_term_has_to_hold() {
    let record = samples::record();
    assert!(holds(
        "state = TRYING AND type=\"place-order\"AND business_key=7",
        &record
    ));
    assert!(!holds("state = TRYING AND type = other", &record));
    assert!(!holds("type = other AND state = TRYING", &record));
}

#[test]
fn mixed_is_one_state_whatever_was_decided() {
    let mut record = samples::record();
    record.transaction.state = State::Mixed(Decision::Commit);
    assert!(holds("state = MIXED AND outcome = SUCCESS", &record));
}

#[test]
fn quotes_hold_anything() {
    let mut record = samples::record();
    let mut origin = (*record.origin).clone();
    origin.business_key = "a \"b\" \\ = AND".into();
    record.origin = Arc::new(origin);
    assert!(holds(r#"business_key = "a \"b\" \\ = AND""#, &record));
}

#[test]
fn the_smallest_index_is_chosen() {
    assert_eq!(listing(""), Listing::All);
    assert_eq!(listing("type = x"), Listing::All);
    assert_eq!(listing("state != CONFIRMED"), Listing::All);
    assert_eq!(
        listing("outcome = FAILED"),
        Listing::All,
        "a canceling one is unfinished too"
    );
    for unfinished in [
        "state = TRYING",
        "state = CONFIRMING",
        "state = CANCELING",
        "outcome = PROCESSING",
    ] {
        assert_eq!(listing(unfinished), Listing::Unfinished, "{unfinished}");
    }
    let by_key = Listing::BusinessKey("7".into());
    assert_eq!(listing("state = TRYING AND business_key = 7"), by_key);
    assert_eq!(listing("business_key != 7"), Listing::All);
    assert_eq!(
        listing("business_key = \"\""),
        Listing::All,
        "empty keys are in no index"
    );
}

#[test]
fn errors_say_where_and_what_is_expected() {
    let begins = |filter: &str, expected: &str| {
        let why = why(filter);
        assert!(why.starts_with(expected), "{filter}: {why}");
    };
    begins(
        "stat = TRYING",
        "at position 1: found \"stat\", expected state, outcome,",
    );
    begins("state", "at position 6: found the end, expected = or !=");
    begins(
        "state < TRYING",
        "at position 7: found \"<\", expected = or !=",
    );
    begins(
        "state ! TRYING",
        "at position 7: found \"!\", expected = or !=",
    );
    begins("state =", "at position 8: found the end, expected a value");
    begins("state = =", "at position 9: found \"=\", expected a value");
    begins(
        "state = TRIED",
        "at position 9: found \"TRIED\", expected a name of TRANSACTION_STATE",
    );
    begins(
        "state = UNSPECIFIED",
        "at position 9: found \"UNSPECIFIED\", expected a name",
    );
    begins(
        "state = TRYING OR",
        "at position 16: found \"OR\", expected AND or the end",
    );
    begins(
        "state = TRYING AND",
        "at position 19: found the end, expected state",
    );
    begins(
        "type = \"ü",
        "at position 10: found the end, expected the closing \"",
    );
    begins(
        "type = \"\\n\"",
        "at position 10: found \"n\", expected \" or \\ after a \\",
    );
    begins(
        "labels. = x",
        "at position 1: found \"labels.\", expected state",
    );
    begins(
        "create_time > yesterday",
        "at position 15: found \"yesterday\", expected a time like",
    );
    begins(
        "create_time > 2023-11-14",
        "at position 15: found \"2023-11-14\", expected a time like",
    );
}

#[test]
fn a_filter_has_a_limit() {
    let long = format!("type = {}", "x".repeat(FILTER_BYTES_MAX));
    let faults = Filter::parse(&long).expect_err("too long");
    assert_eq!(faults.named()[0].reason, ErrorReason::LimitExceeded);
}

proptest! {
    #[test]
    fn no_filter_panics(text in ".*") {
        let _ = Filter::parse(&text).map(|it| it.matches(&samples::record()));
    }

    #[test]
    fn nothing_like_a_filter_panics(text in "((state|labels\\.a|create_time|type) ?(=|!=|<|>|!) ?(\"|TRYING|\\\\|é|[0-9T:Z+.-]{0,30})( AND )?){0,4}") {
        let _ = Filter::parse(&text).map(|it| it.matches(&samples::record()));
    }

    #[test]
    fn what_is_written_as_a_filter_is_read_as_it(terms in prop::collection::vec(terms(), 0..9)) {
        let (texts, terms): (Vec<_>, Vec<_>) = terms.into_iter().unzip();
        let text = texts.join(" AND ");
        if text.len() <= FILTER_BYTES_MAX {
            prop_assert_eq!(Filter::parse(&text), Ok(Filter { terms }));
        }
    }

    #[test]
    fn a_filter_with_a_hole_is_an_error_or_a_filter(
        terms in prop::collection::vec(terms(), 1..4), at in any::<prop::sample::Index>(), with in "\\PC{0,3}",
        record in crate::arbitrary::records(),
    ) {
        let texts: Vec<_> = terms.into_iter().map(|(text, _)| text).collect();
        let mut text: Vec<_> = texts.join(" AND ").chars().collect();
        let at = at.index(text.len());
        text.splice(at..at + 1, with.chars());
        let text: String = text.into_iter().collect();
        let _ = Filter::parse(&text).map(|it| (it.matches(&record), it.listing()));
    }

    #[test]
    fn quoted_text_is_read_as_it_was_written(text in "\\PC*") {
        let quoted = quoted(&text);
        let parsed = Filter::parse(&format!("type != {quoted}"));
        if quoted.len() < 4000 {
            let term = Term::Type(Equal(false), text.into());
            prop_assert_eq!(parsed, Ok(Filter { terms: vec![term] }));
        }
    }
}

/// A term, and how it is written.
fn terms() -> impl Strategy<Value = (String, Term)> {
    let text = "[\\PC]{0,9}";
    let about = (any::<bool>(), 0..7_usize, text, "[a-zA-Z0-9._/-]{1,9}");
    let about = about.prop_map(|(is, field, text, key)| {
        let equal = Equal(is);
        let operator = if is { "=" } else { "!=" };
        let quoted = quoted(&text);
        let value: Arc<str> = text.into();
        match field {
            0 => (
                format!("state{operator}MIXED"),
                Term::State(equal, pb::TransactionState::Mixed),
            ),
            1 => {
                let outcome = participant::Outcome::Failed;
                (
                    format!("outcome {operator} FAILED"),
                    Term::Outcome(equal, outcome),
                )
            }
            2 => (
                format!("attention {operator} ANY"),
                Term::Attention(equal, None),
            ),
            3 => (
                format!("type {operator} {quoted}"),
                Term::Type(equal, value),
            ),
            4 => (
                format!("business_key{operator}{quoted}"),
                Term::BusinessKey(equal, value),
            ),
            5 => (
                format!("participant {operator} {quoted}"),
                Term::Participant(equal, value),
            ),
            _ => (
                format!("labels.{key} {operator} {quoted}"),
                Term::Label(key.into(), equal, value),
            ),
        }
    });
    // The years that RFC 3339 can write.
    let ms = -62_135_596_800_000..=253_402_300_799_999_i64;
    let time = (
        prop::sample::select(&["=", "!=", "<", ">"][..]),
        any::<bool>(),
        ms,
    );
    let time = time.prop_map(|(operator, create, ms)| {
        let time = prost_types::Timestamp {
            seconds: ms.div_euclid(1000),
            nanos: i32::try_from(ms.rem_euclid(1000)).expect("small") * 1_000_000,
        };
        let parsed = match operator {
            "<" => Operator::Less,
            ">" => Operator::Greater,
            _ => Operator::Equal(Equal(operator == "=")),
        };
        match create {
            true => (
                format!("create_time {operator} {time}"),
                Term::CreateTime(parsed, ms),
            ),
            false => (
                format!("update_time{operator}{time}"),
                Term::UpdateTime(parsed, ms),
            ),
        }
    });
    prop_oneof![4 => about, 1 => time]
}

fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{text}\"")
}
