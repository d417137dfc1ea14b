//! The token a participant gives back in ReportBranch, as it travels: 32 lowercase hexadecimal
//! digits. `participants` writes it, `rpc` reads it.

/// As sent to participants.
#[must_use]
pub fn format(token: u128) -> String {
    format!("{token:032x}")
}

/// As given back by participants; none when it is no token.
#[must_use]
pub fn parse(text: &str) -> Option<u128> {
    let digits = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() == 32 && text.bytes().all(digits) {
        u128::from_str_radix(text, 16).ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{format, parse};

    #[test]
    fn what_is_written_is_read_again() {
        for token in [0, 1, 0xdead_beef, u128::MAX] {
            assert_eq!(format(token).len(), 32);
            assert_eq!(parse(&format(token)), Some(token));
        }
    }

    proptest! {
        #[test]
        fn a_token_has_one_form_only(token in any::<u128>(), text in "[0-9a-fA-Fx+_]{30,34}|.*") {
            prop_assert_eq!(parse(&format(token)), Some(token));
            if let Some(token) = parse(&text) {
                prop_assert_eq!(format(token), text);
            }
        }
    }

    #[test]
    fn anything_else_is_no_token() {
        let signed = "+0000000000000000000000000000001";
        let upper = "DEADBEEFDEADBEEFDEADBEEFDEADBEEF";
        for text in ["", "1", signed, upper, &"0".repeat(31), &"0".repeat(33)] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
