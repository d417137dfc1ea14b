//! The filter language of lists and counts.
//!
//! ```text
//! filter   = [ term { "AND" term } ]
//! term     = field operator value
//! field    = state | outcome | attention | type | business_key | participant | labels.KEY
//!          | create_time | update_time
//! operator = "=" | "!=" | "<" | ">"          times take all four, the others the first two
//! value    = word | '"' text '"'             \" and \\ stand for themselves in text
//! ```
//!
//! A term about something a transaction has several of (participant, attention) holds with `=` if one
//! of them is it, and with `!=` if none is.

use std::{cmp::Ordering, sync::Arc};

use tercet_core::transaction::Target;

use super::{
    faults::Faults,
    filter_text::{Reader, SyntaxError, Word},
    parse::is_label_key_char,
    render,
};
use crate::{
    proto::tercet::{
        participant::v1 as participant,
        v1::{self as pb, ErrorReason},
    },
    store::{Listing, Record, UnixMs},
};

/// Bytes of a filter.
const FILTER_BYTES_MAX: usize = 4096;
const FIELDS: &str = "state, outcome, attention, type, business_key, participant, labels.KEY, create_time or update_time";

/// Which transactions are wanted: those for which every term holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    State(Equal, pb::TransactionState),
    Outcome(Equal, participant::Outcome),
    Attention(Equal, Option<pb::AttentionReason>),
    Type(Equal, Arc<str>),
    BusinessKey(Equal, Arc<str>),
    Participant(Equal, Arc<str>),
    Label(Arc<str>, Equal, Arc<str>),
    CreateTime(Operator, UnixMs),
    UpdateTime(Operator, UnixMs),
}

/// Whether it is to be equal, or not to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Equal(bool);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal(Equal),
    Less,
    Greater,
}

impl Filter {
    /// Reads a filter; an empty one lets everything through.
    pub(super) fn parse(text: &str) -> Result<Self, Faults> {
        let found = text.len();
        if found > FILTER_BYTES_MAX {
            let why = format_args!("it has {found} bytes; at most {FILTER_BYTES_MAX} are allowed");
            return Err(Faults::one(ErrorReason::LimitExceeded, "filter", why));
        }
        let terms = terms(&mut Reader::new(text))?;
        Ok(Self { terms })
    }

    /// The smallest index of the store that holds all records for which it can hold.
    pub(super) fn listing(&self) -> Listing {
        let business_key = self.terms.iter().find_map(|term| match term {
            // Records without a business key are in no index of their own.
            Term::BusinessKey(Equal(true), key) if !key.is_empty() => Some(Arc::clone(key)),
            _ => None,
        });
        if let Some(key) = business_key {
            return Listing::BusinessKey(key);
        }
        if self.terms.iter().any(Term::implies_unfinished) {
            return Listing::Unfinished;
        }
        Listing::All
    }

    /// Whether every term holds.
    pub(super) fn matches(&self, record: &Record) -> bool {
        self.terms.iter().all(|term| term.holds(record))
    }
}

impl Term {
    fn implies_unfinished(&self) -> bool {
        use pb::TransactionState::{Canceling, Confirming, Trying};
        matches!(
            self,
            Term::State(Equal(true), Trying | Confirming | Canceling)
                | Term::Outcome(Equal(true), participant::Outcome::Processing)
        )
    }

    fn holds(&self, record: &Record) -> bool {
        let transaction = &record.transaction;
        let origin = &record.origin;
        match self {
            Term::State(equal, state) => equal.is(render::state(transaction.state) == *state),
            Term::Outcome(equal, outcome) => {
                equal.is(render::outcome(transaction.outcome()) == *outcome)
            }
            Term::Attention(equal, wanted) => {
                let is_wanted = |it| wanted.is_none_or(|wanted| render::attention(it) == wanted);
                let mut attentions = transaction.attentions.iter();
                equal.is(attentions.any(|it| is_wanted(it.reason)))
            }
            Term::Type(equal, text) => equal.is(origin.transaction_type == *text),
            Term::BusinessKey(equal, text) => equal.is(origin.business_key == *text),
            Term::Participant(equal, text) => {
                let mut branches = transaction.branches.iter();
                equal.is(branches.any(|it| name(&it.spec.target) == &**text))
            }
            Term::Label(key, equal, text) => equal.is(origin.labels.get(key) == Some(text)),
            Term::CreateTime(operator, ms) => operator.holds(origin.create_ms.cmp(ms)),
            Term::UpdateTime(operator, ms) => operator.holds(record.update_ms.cmp(ms)),
        }
    }
}

impl Equal {
    fn is(self, equal: bool) -> bool {
        self.0 == equal
    }
}

impl Operator {
    fn holds(self, found: Ordering) -> bool {
        match self {
            Operator::Equal(equal) => equal.is(found == Ordering::Equal),
            Operator::Less => found == Ordering::Less,
            Operator::Greater => found == Ordering::Greater,
        }
    }
}

fn name(target: &Target) -> &str {
    match target {
        Target::Contract { participant, .. } => participant.as_str(),
        Target::Methods(methods) => &methods.endpoint,
    }
}

fn terms(reader: &mut Reader<'_>) -> Result<Vec<Term>, SyntaxError> {
    let mut terms = Vec::new();
    if reader.is_at_end() {
        return Ok(terms);
    }
    loop {
        terms.push(term(reader)?);
        if reader.is_at_end() {
            return Ok(terms);
        }
        let and = reader.word("AND or the end")?;
        if and.text != "AND" {
            return Err(and.unexpected("AND or the end"));
        }
    }
}

fn term(reader: &mut Reader<'_>) -> Result<Term, SyntaxError> {
    let field = reader.word(FIELDS)?;
    let label = field.text.strip_prefix("labels.");
    match &*field.text {
        "state" => {
            let (equal, value) = equality(reader)?;
            Ok(Term::State(
                equal,
                enum_value(
                    &value,
                    "TRANSACTION_STATE_",
                    pb::TransactionState::from_str_name,
                )?,
            ))
        }
        "outcome" => {
            let (equal, value) = equality(reader)?;
            Ok(Term::Outcome(
                equal,
                enum_value(&value, "OUTCOME_", participant::Outcome::from_str_name)?,
            ))
        }
        "attention" => attention(reader),
        "type" => equality(reader).map(|(equal, value)| Term::Type(equal, value.text.into())),
        "business_key" => {
            equality(reader).map(|(equal, value)| Term::BusinessKey(equal, value.text.into()))
        }
        "participant" => {
            equality(reader).map(|(equal, value)| Term::Participant(equal, value.text.into()))
        }
        "create_time" => time(reader).map(|(operator, ms)| Term::CreateTime(operator, ms)),
        "update_time" => time(reader).map(|(operator, ms)| Term::UpdateTime(operator, ms)),
        _ => match label {
            Some(key) if !key.is_empty() && key.chars().all(is_label_key_char) => {
                let (equal, value) = equality(reader)?;
                Ok(Term::Label(key.into(), equal, value.text.into()))
            }
            _ => Err(field.unexpected(FIELDS)),
        },
    }
}

fn attention(reader: &mut Reader<'_>) -> Result<Term, SyntaxError> {
    let (equal, value) = equality(reader)?;
    if value.text == "ANY" {
        return Ok(Term::Attention(equal, None));
    }
    let reason = enum_value(
        &value,
        "ATTENTION_REASON_",
        pb::AttentionReason::from_str_name,
    )?;
    Ok(Term::Attention(equal, Some(reason)))
}

fn time(reader: &mut Reader<'_>) -> Result<(Operator, UnixMs), SyntaxError> {
    let operator = match &*reader.operator("=, !=, < or >")?.text {
        "<" => Operator::Less,
        ">" => Operator::Greater,
        other => Operator::Equal(Equal(other == "=")),
    };
    let value = reader.value()?;
    let ms = unix_ms(&value.text);
    let ms = ms.ok_or_else(|| value.unexpected("a time like 2026-01-31T12:00:00Z"))?;
    Ok((operator, ms))
}

fn equality(reader: &mut Reader<'_>) -> Result<(Equal, Word), SyntaxError> {
    let operator = reader.operator("= or !=")?;
    let equal = match &*operator.text {
        "=" => Equal(true),
        "!=" => Equal(false),
        _ => return Err(operator.unexpected("= or !=")),
    };
    Ok((equal, reader.value()?))
}

/// A value by its name without the prefix; UNSPECIFIED is none.
fn enum_value<T>(
    value: &Word,
    prefix: &str,
    from_name: impl Fn(&str) -> Option<T>,
) -> Result<T, SyntaxError> {
    let known = Some(&*value.text).filter(|text| *text != "UNSPECIFIED");
    let parsed = known.and_then(|text| from_name(&format!("{prefix}{text}")));
    let kind = prefix.trim_end_matches('_');
    parsed.ok_or_else(|| {
        value.unexpected(&format!(
            "a name of {kind}, without this prefix, in capital letters"
        ))
    })
}

/// A time of day in RFC 3339.
fn unix_ms(text: &str) -> Option<UnixMs> {
    // Dates without a time and other liberties of the parser are not promised to anybody.
    let has_time = text
        .as_bytes()
        .get(10)
        .is_some_and(|it| matches!(it, b'T' | b't'));
    let time: prost_types::Timestamp = text.parse().ok().filter(|_| has_time)?;
    let ms = time.seconds.checked_mul(1000)?;
    ms.checked_add(i64::from(time.nanos / 1_000_000))
}

impl From<SyntaxError> for Faults {
    fn from(error: SyntaxError) -> Self {
        Faults::one(ErrorReason::FilterInvalid, "filter", error)
    }
}

#[cfg(test)]
mod tests;
