//! What is wrong with a request, all of it, so that its author mends it in one go.

use std::fmt::Display;

use crate::proto::tercet::v1::ErrorReason;

/// Bytes of the faults that an answer names one by one; the rest is counted. An answer's details travel,
/// a third longer, in one HTTP header list, of which clients take 16 KiB.
const NAMED_BYTES_MAX: usize = 6 << 10;
/// Characters of a field's path, and of a description.
const TEXT_CHARS_MAX: usize = 240;

/// One bad field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Its path in the request, for example `branches[2].payload`.
    pub(super) field: String,
    /// Why, for programs.
    pub(super) reason: ErrorReason,
    /// Why, for people.
    pub(super) description: String,
}

/// Every bad field of one request, in the order in which they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Faults {
    named: Vec<Fault>,
    unnamed: usize,
}

impl Faults {
    /// One bad field, and no other.
    pub(super) fn one(reason: ErrorReason, field: &str, description: impl Display) -> Self {
        let mut faults = Self::default();
        faults.add(reason, field, description);
        faults
    }

    /// A field whose value can't be used.
    pub(super) fn invalid(&mut self, field: impl Display, description: impl Display) {
        self.add(ErrorReason::FieldInvalid, field, description);
    }

    /// A field that passes a limit.
    pub(super) fn exceeded(&mut self, field: impl Display, description: impl Display) {
        self.add(ErrorReason::LimitExceeded, field, description);
    }

    /// Adds a bad field.
    pub(super) fn add(
        &mut self,
        reason: ErrorReason,
        field: impl Display,
        description: impl Display,
    ) {
        let fault = Fault {
            field: cut(&field.to_string(), TEXT_CHARS_MAX),
            reason,
            description: cut(&description.to_string(), TEXT_CHARS_MAX),
        };
        let len = |it: &Fault| it.field.len() + it.description.len();
        let named: usize = self.named.iter().map(len).sum();
        if named + len(&fault) > NAMED_BYTES_MAX || self.unnamed > 0 {
            self.unnamed += 1;
        } else {
            self.named.push(fault);
        }
    }

    /// The value, if nothing was wrong with it; what was is added.
    pub(super) fn take<T>(&mut self, parsed: Result<T, Self>) -> Option<T> {
        let faults = match parsed {
            Ok(parsed) => return Some(parsed),
            Err(faults) => faults,
        };
        for it in faults.named {
            self.add(it.reason, it.field, it.description);
        }
        self.unnamed += faults.unnamed;
        None
    }

    /// The parsed value, if nothing was wrong.
    pub(super) fn finish<T>(self, parsed: Option<T>) -> Result<T, Self> {
        match parsed {
            Some(parsed) if self.named.is_empty() => Ok(parsed),
            _ => Err(self),
        }
    }

    /// The faults that are named.
    pub(super) fn named(&self) -> &[Fault] {
        &self.named
    }

    /// How many more there are.
    pub(super) fn unnamed(&self) -> usize {
        self.unnamed
    }
}

/// The text, or its beginning when it is longer than it may be.
pub(super) fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_faults_than_an_answer_can_carry_are_counted() {
        let mut faults = Faults::default();
        for at in 0..40 {
            faults.invalid(format_args!("branches[{at}].branch_id"), "x".repeat(1000));
        }
        let faults = faults.finish(Some(())).expect_err("there are faults");
        assert_eq!((faults.named().len(), faults.unnamed()), (23, 17));
        assert_eq!(faults.named()[0].description.chars().count(), 241);
    }

    #[test]
    fn cutting_keeps_characters_whole() {
        assert_eq!(cut("äöü", 2), "äö…");
        assert_eq!(cut("äöü", 3), "äöü");
    }
}
