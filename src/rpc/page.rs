//! Page tokens: where the next page begins, bound to the question it belongs to.
//!
//! A token is opaque to clients: in hexadecimal, a version, a hash of the question, two numbers and a
//! checksum. It holds no secret and gives no right; the checksum finds damage, not malice.

use sha2::{Digest as _, Sha256};

use super::{faults::Faults, limits::Limits};
use crate::proto::tercet::v1::ErrorReason;

const VERSION: u8 = 1;
/// Version, question, two numbers, checksum.
const BYTES: usize = 1 + 8 + 8 + 8 + 4;

/// What a page is a page of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Question<'a> {
    /// Transactions that a filter, as it was given, lets through.
    Transactions(&'a str),
    /// Events of a transaction.
    Events(&'a str),
}

/// Where a page begins. What the numbers mean is the question's own.
pub(super) type Place = (u64, u64);

/// The token of the page that begins here.
pub(super) fn token(question: Question<'_>, place: Place) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend(question.hash());
    bytes.extend(place.0.to_be_bytes());
    bytes.extend(place.1.to_be_bytes());
    bytes.extend(crc32c::crc32c(&bytes).to_be_bytes());
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where the page of this token begins; none for the first page.
pub(super) fn place(question: Question<'_>, token: &str) -> Result<Option<Place>, Faults> {
    if token.is_empty() {
        return Ok(None);
    }
    let bad = |why: &str| Faults::one(ErrorReason::PageTokenInvalid, "page_token", why);
    let damaged = "it is damaged; give next_page_token as it came, or nothing for the first page";
    let bytes = decode(token).ok_or_else(|| bad(damaged))?;
    let (content, checksum) = bytes.split_at(BYTES - 4);
    if crc32c::crc32c(content).to_be_bytes() != checksum {
        return Err(bad(damaged));
    }
    if content[0] != VERSION {
        return Err(bad(
            "it comes from another version; begin with the first page",
        ));
    }
    if content[1..9] != question.hash() {
        return Err(bad(question.mismatch()));
    }
    let number = |at: usize| {
        let bytes = content[at..at + 8].try_into();
        u64::from_be_bytes(bytes.expect("the slice has 8 bytes"))
    };
    Ok(Some((number(9), number(17))))
}

/// How many results a page may have.
pub(super) fn size(asked: i32, limits: &Limits) -> Result<usize, Faults> {
    match usize::try_from(asked) {
        Ok(0) => Ok(limits.page_size_default),
        Ok(asked) => Ok(asked.min(limits.page_size_max)),
        Err(_) => {
            let why = format_args!("{asked} is negative; give 0 for the default");
            Err(Faults::one(ErrorReason::FieldInvalid, "page_size", why))
        }
    }
}

impl Question<'_> {
    fn hash(self) -> [u8; 8] {
        let (kind, text) = match self {
            Question::Transactions(filter) => ("transactions", filter),
            Question::Events(id) => ("events", id),
        };
        let hash = Sha256::digest(format!("{kind}\0{text}"));
        hash[..8].try_into().expect("a SHA-256 has 32 bytes")
    }

    fn mismatch(self) -> &'static str {
        match self {
            Question::Transactions(_) => {
                "it belongs to another filter; repeat the filter of the first page"
            }
            Question::Events(_) => "it belongs to another transaction",
        }
    }
}

fn decode(token: &str) -> Option<[u8; BYTES]> {
    let digits = token.as_bytes();
    if digits.len() != 2 * BYTES || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: Question<'_> = Question::Transactions("");

    #[test]
    fn a_token_leads_back_to_its_place() {
        assert_eq!(
            place(ALL, &token(ALL, (7, u64::MAX))),
            Ok(Some((7, u64::MAX)))
        );
        assert_eq!(place(ALL, ""), Ok(None));
    }

    #[test]
    fn a_token_of_another_question_is_refused() {
        let token = token(Question::Transactions("state = TRYING"), (7, 0));
        for other in [ALL, Question::Events("state = TRYING")] {
            let faults = place(other, &token).expect_err("another question");
            assert_eq!(faults.named()[0].reason, ErrorReason::PageTokenInvalid);
        }
    }

    #[test]
    fn every_damaged_digit_is_found() {
        let whole = token(ALL, (7, 9));
        for at in 0..whole.len() {
            let mut damaged = whole.clone().into_bytes();
            damaged[at] = if damaged[at] == b'0' { b'1' } else { b'0' };
            let damaged = String::from_utf8(damaged).expect("ASCII");
            assert!(place(ALL, &damaged).is_err(), "digit {at}");
        }
        assert!(place(ALL, &whole[2..]).is_err());
    }

    #[test]
    fn page_sizes_are_defaulted_reduced_and_never_negative() {
        let limits = Limits::default();
        assert_eq!(size(0, &limits), Ok(50));
        assert_eq!(size(7, &limits), Ok(7));
        assert_eq!(size(i32::MAX, &limits), Ok(500));
        assert!(size(-1, &limits).is_err());
    }

    proptest! {
        #[test]
        fn no_token_panics(text in ".*", hex in "[0-9a-f]{58}") {
            let _ = place(ALL, &text);
            let _ = place(ALL, &hex);
        }

        #[test]
        fn a_changed_token_is_an_error_or_the_same_place(
            at in any::<(u64, u64)>(), cut in 0..59_usize, with in "[0-9A-Fa-fg +]{0,4}", filter in ".*",
        ) {
            let question = Question::Transactions(&filter);
            let whole = token(question, at);
            prop_assert_eq!(place(question, &whole), Ok(Some(at)));
            let end = (cut + with.len()).min(whole.len());
            let cut = cut.min(whole.len());
            let changed = [&whole[..cut], &with, &whole[end..]].concat();
            if let Ok(place) = place(question, &changed) {
                prop_assert_eq!(place, Some(at));
            }
        }
    }
}
