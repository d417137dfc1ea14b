//! Names of things, parsed once and valid for ever after.
//!
//! Ids are 1 to 128 of `[A-Za-z0-9._:-]`. Participant names are `[a-z][a-z0-9-]{0,62}`, so that
//! they can stand in metrics, file names and configuration without quoting. No id is a prefix of
//! another key by accident, because nobody ever builds a key by joining two of them without a
//! separator that ids can't contain.

use std::{fmt, sync::Arc};

/// The longest id, in bytes.
pub const ID_BYTES_MAX: usize = 128;
/// The longest participant name, in bytes.
pub const PARTICIPANT_NAME_BYTES_MAX: usize = 63;

/// Why a text is no id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing stands there.
    #[error("it is empty; an id has 1 to 128 characters")]
    Empty,
    /// More characters than allowed.
    #[error("it has {len} characters; at most {max} are allowed")]
    TooLong {
        /// How many there are.
        len: usize,
        /// How many there may be.
        max: usize,
    },
    /// A character outside the alphabet.
    #[error("{found:?} at position {at} is not allowed; use {allowed}")]
    Character {
        /// The first offending character.
        found: char,
        /// Its position, counted in bytes from 0.
        at: usize,
        /// The alphabet, for the reader.
        allowed: &'static str,
    },
}

fn parse_id(text: &str) -> Result<Arc<str>, IdError> {
    const ALLOWED: &str = "letters, digits and . _ : -";
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-');
    parse(text, ID_BYTES_MAX, ALLOWED, |_, c| allowed(c))
}

fn parse_name(text: &str) -> Result<Arc<str>, IdError> {
    const ALLOWED: &str = "a lowercase letter, then lowercase letters, digits and -";
    parse(text, PARTICIPANT_NAME_BYTES_MAX, ALLOWED, |at, c| {
        c.is_ascii_lowercase() || (at > 0 && (c.is_ascii_digit() || c == '-'))
    })
}

fn parse(
    text: &str,
    max: usize,
    allowed: &'static str,
    valid: impl Fn(usize, char) -> bool,
) -> Result<Arc<str>, IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if let Some((at, found)) = text.char_indices().find(|(at, c)| !valid(*at, *c)) {
        return Err(IdError::Character { found, at, allowed });
    }
    if text.len() > max {
        return Err(IdError::TooLong {
            len: text.len(),
            max,
        });
    }
    Ok(text.into())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $parse:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Reads it from text.
            ///
            /// # Errors
            /// [`IdError`] says which rule the text breaks.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                $parse(text).map(Self)
            }

            /// The text it was read from.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

id!(
    /// Names one transaction within its realm; also the client's idempotency key.
    TransactionId,
    parse_id
);
id!(
    /// Names one branch within its transaction.
    BranchId,
    parse_id
);
id!(
    /// Names the store a transaction lives in, so that two coordinators whose clients choose the
    /// same ids never meet at a participant.
    Realm,
    parse_id
);
id!(
    /// The logical name of a participant; its endpoints come from configuration.
    ParticipantName,
    parse_name
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_take_their_whole_alphabet_and_nothing_else() {
        assert!(TransactionId::parse("order-7:a.B_9").is_ok());
        assert_eq!(TransactionId::parse(""), Err(IdError::Empty));
        assert_eq!(
            TransactionId::parse(&"a".repeat(128)).map(|id| id.as_str().len()),
            Ok(128)
        );
        assert_eq!(
            TransactionId::parse(&"a".repeat(129)),
            Err(IdError::TooLong { len: 129, max: 128 })
        );
        for bad in ["a b", "a/b", "ä", "a\0", "a\n"] {
            assert!(
                matches!(BranchId::parse(bad), Err(IdError::Character { .. })),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn participant_names_are_safe_in_metrics_and_files() {
        assert!(ParticipantName::parse("inventory-2").is_ok());
        for bad in ["2inventory", "-a", "Inventory", "a_b", "a.b"] {
            assert!(
                matches!(ParticipantName::parse(bad), Err(IdError::Character { .. })),
                "{bad:?}"
            );
        }
        assert!(matches!(
            ParticipantName::parse(&"a".repeat(64)),
            Err(IdError::TooLong { len: 64, max: 63 })
        ));
    }
}
