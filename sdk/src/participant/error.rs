//! How a resource says no, and how it says "I don't know".
//!
//! Only [`refuse`] and [`Later::refused`] say no. Every error that `?` turns into a [`TryError`] or
//! a [`Later`] means that nobody knows what happened: the coordinator asks, and calls again.

use std::{collections::BTreeMap, error::Error, fmt};

use tercet_core::payload::Failure;

use super::problem::Problem;

/// The longest reason, in bytes; a longer one is cut.
pub const REASON_BYTES_MAX: usize = 63;
/// The longest message, in bytes; a longer one is cut.
pub const MESSAGE_BYTES_MAX: usize = 1024;

/// Why a Try did not reserve.
///
/// `?` turns any error into an indeterminate one; a refusal is always written out, with
/// [`refuse`].
pub struct TryError(Cause);

/// Why a Confirm or a Cancel is not done. It will be called again, for as long as it takes.
///
/// `?` turns any error into an indeterminate one.
pub struct Later(Cause);

/// Refuses a Try, for this reason, in `UPPER_SNAKE_CASE`: the transaction is canceled, the client
/// reads FAILED, and what the Try changed in the database is rolled back.
///
/// ```
/// use tercet_sdk::participant::{TryError, refuse};
///
/// fn reserve(free: u32, count: u32) -> Result<(), TryError> {
///     if count > free {
///         return Err(refuse("OUT_OF_STOCK").with("free", free));
///     }
///     Ok(())
/// }
/// assert!(reserve(1, 2).is_err());
/// ```
#[must_use]
pub fn refuse(reason: &str) -> TryError {
    TryError(Cause::refused(reason))
}

impl TryError {
    /// Neither reserved nor refused, as far as is known: the coordinator asks and tries again.
    #[must_use]
    pub fn indeterminate(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Cause::indeterminate(error.into()))
    }

    /// Adds a value that helps to understand it.
    #[must_use]
    pub fn with(self, name: &str, value: impl fmt::Display) -> Self {
        Self(self.0.with(name, value))
    }

    /// Says it to people, in English.
    #[must_use]
    pub fn because(self, message: impl fmt::Display) -> Self {
        Self(self.0.because(message))
    }

    pub(crate) fn into_verdict(self) -> Verdict {
        self.0.into_verdict()
    }
}

impl Later {
    /// Refuses a Confirm or a Cancel, for this reason, in `UPPER_SNAKE_CASE`. The decision stands:
    /// a person is called at once, and the call is repeated at the longest interval.
    #[must_use]
    pub fn refused(reason: &str) -> Self {
        Self(Cause::refused(reason))
    }

    /// Not done, as far as is known: the coordinator asks and calls again.
    #[must_use]
    pub fn indeterminate(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Cause::indeterminate(error.into()))
    }

    /// Adds a value that helps to understand it.
    #[must_use]
    pub fn with(self, name: &str, value: impl fmt::Display) -> Self {
        Self(self.0.with(name, value))
    }

    /// Says it to people, in English.
    #[must_use]
    pub fn because(self, message: impl fmt::Display) -> Self {
        Self(self.0.because(message))
    }

    pub(crate) fn into_verdict(self) -> Verdict {
        self.0.into_verdict()
    }
}

// Neither type is an `Error` itself: that is what lets `?` take every other one.
impl<E: Error + Send + Sync + 'static> From<E> for TryError {
    fn from(error: E) -> Self {
        Self::indeterminate(error)
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Later {
    fn from(error: E) -> Self {
        Self::indeterminate(error)
    }
}

impl fmt::Debug for TryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TryError({})", self.0)
    }
}

impl fmt::Debug for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Later({})", self.0)
    }
}

/// What an error comes to.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Answered as FAILED.
    Refused(Failure),
    /// Answered as an error.
    Problem(Problem),
}

struct Cause {
    what: What,
    message: Option<String>,
    metadata: BTreeMap<String, String>,
}

enum What {
    Refused(String),
    Indeterminate(Box<dyn Error + Send + Sync>),
}

impl Cause {
    fn refused(reason: &str) -> Self {
        Self::new(What::Refused(reason_of(reason)))
    }

    fn indeterminate(error: Box<dyn Error + Send + Sync>) -> Self {
        Self::new(What::Indeterminate(error))
    }

    fn new(what: What) -> Self {
        Self {
            what,
            message: None,
            metadata: BTreeMap::new(),
        }
    }

    fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.metadata.insert(name.to_owned(), value.to_string());
        self
    }

    fn because(mut self, message: impl fmt::Display) -> Self {
        self.message = Some(message.to_string());
        self
    }

    fn into_verdict(self) -> Verdict {
        let message = clip(&self.to_string(), MESSAGE_BYTES_MAX).to_owned();
        match self.what {
            What::Refused(reason) => {
                let metadata = self.metadata.into_iter();
                Verdict::Refused(Failure {
                    metadata: metadata.map(|(k, v)| (k.into(), v.into())).collect(),
                    ..Failure::new(&reason, message)
                })
            }
            What::Indeterminate(_) => Verdict::Problem(Problem::Resource(message)),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.message, &self.what) {
            (Some(message), What::Refused(_)) => f.write_str(message)?,
            (None, What::Refused(reason)) => f.write_str(reason)?,
            (Some(message), What::Indeterminate(error)) => write!(f, "{message}: {error}")?,
            (None, What::Indeterminate(error)) => write!(f, "{error}")?,
        }
        for (at, (name, value)) in self.metadata.iter().enumerate() {
            let open = if at == 0 { " (" } else { ", " };
            write!(f, "{open}{name}={value}")?;
        }
        if self.metadata.is_empty() {
            Ok(())
        } else {
            f.write_str(")")
        }
    }
}

/// Reasons go into metrics and `match`es of other programs: whatever an author wrote is brought
/// into `UPPER_SNAKE_CASE`.
fn reason_of(text: &str) -> String {
    let upper = |c: char| match c.to_ascii_uppercase() {
        c @ ('A'..='Z' | '0'..='9') => c,
        _ => '_',
    };
    let reason: String = text.chars().take(REASON_BYTES_MAX).map(upper).collect();
    if reason.is_empty() {
        "REFUSED".to_owned()
    } else {
        reason
    }
}

/// The longest start of `text` that has at most `bytes_max` bytes.
pub(crate) fn clip(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let end = (0..=bytes_max).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_its_reason_and_every_value_of_its_message() {
        let error = refuse("OUT_OF_STOCK").with("sku", "apple").with("free", 3);
        let Verdict::Refused(failure) = error.into_verdict() else {
            panic!("a refusal is FAILED");
        };
        assert_eq!(&*failure.reason, "OUT_OF_STOCK");
        assert_eq!(&*failure.message, "OUT_OF_STOCK (free=3, sku=apple)");
        assert_eq!(failure.metadata.get("sku").map(|v| &**v), Some("apple"));
    }

    #[test]
    fn the_question_mark_never_refuses() {
        fn parse() -> Result<u32, TryError> {
            Ok("three".parse::<u32>()?)
        }
        let error = parse().unwrap_err().with("field", "count");
        let Verdict::Problem(Problem::Resource(message)) = error.into_verdict() else {
            panic!("an error is indeterminate");
        };
        assert_eq!(message, "invalid digit found in string (field=count)");
    }

    #[test]
    fn reasons_and_messages_are_brought_within_their_limits() {
        let refused = |reason: &str| match refuse(reason).because("é".repeat(600)).into_verdict() {
            Verdict::Refused(failure) => failure,
            Verdict::Problem(problem) => panic!("{problem}"),
        };
        assert_eq!(&*refused("out of stock!").reason, "OUT_OF_STOCK_");
        assert_eq!(&*refused("").reason, "REFUSED");
        assert_eq!(refused(&"A".repeat(99)).reason.len(), REASON_BYTES_MAX);
        assert_eq!(refused("A").message.len(), MESSAGE_BYTES_MAX);
    }
}
