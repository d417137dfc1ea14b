//! The token a participant gives back in ReportBranch, as it travels: 32 lowercase hexadecimal
//! digits. `participants` writes it, `rpc` reads it.

/// As sent to participants, in ASCII. By hand, because it goes with every call, and `format!` is slow with
/// 128 bits.
#[must_use]
pub fn digits(token: u128) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(token.to_be_bytes()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 0xf)];
    }
    text
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

    use super::{digits, parse};

    fn format(token: u128) -> String {
        String::from_utf8(digits(token).into()).expect("digits are ASCII")
    }

    #[test]
    fn what_is_written_is_read_again() {
        for token in [0, 1, 0xdead_beef, u128::MAX] {
            assert_eq!(format(token), format!("{token:032x}"));
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
