//! How many fields a protobuf message has, before it is decoded.
//!
//! An empty message in a repeated field is two bytes on the wire and some hundred in memory, so that a
//! limit on bytes alone bounds little. Whoever decodes what others have written counts first.

use prost::decode_length_delimiter;

/// The fields of the message, and those of the messages in its fields with these tags. Counting stops
/// where the bytes are no protobuf any more, and so does decoding.
pub(crate) fn fields(mut message: &[u8], inside: &[usize]) -> usize {
    let mut count = 0;
    while let Some((tag, content, rest)) = split_first(message) {
        count += 1;
        if inside.contains(&tag) {
            count += fields(content, &[]);
        }
        message = rest;
    }
    count
}

/// The tag and the content of the first field, and what follows. The brackets of a group, which no
/// message of ours has, are fields of their own.
fn split_first(mut bytes: &[u8]) -> Option<(usize, &[u8], &[u8])> {
    if bytes.is_empty() {
        // To have prost say so would take memory, for each message.
        return None;
    }
    let key = decode_length_delimiter(&mut bytes).ok()?;
    let len = match key & 7 {
        0 => decode_length_delimiter(&mut bytes).map(|_| 0).ok()?,
        1 => 8,
        2 => decode_length_delimiter(&mut bytes).ok()?,
        3 | 4 => 0,
        5 => 4,
        _ => return None,
    };
    let (content, rest) = bytes.split_at_checked(len)?;
    Some((key >> 3, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_field_is_counted() {
        let message = [
            &[0x08, 0xff, 0x01][..],         // 1: a varint
            &[0x11, 1, 2, 3, 4, 5, 6, 7, 8], // 2: 64 bits
            &[0x1a, 4, 0x08, 1, 0x08, 2],    // 3: a message of two fields
            &[0x25, 1, 2, 3, 4],             // 4: 32 bits
            &[0x2b, 0x08, 1, 0x2c],          // 5: a group with one field
        ];
        let message = message.concat();
        assert_eq!(fields(&message, &[]), 7);
        assert_eq!(fields(&message, &[3]), 9);
        assert_eq!(fields(&message, &[1, 2, 4]), 7);
    }

    #[test]
    fn what_is_no_protobuf_ends_the_count() {
        for end in [
            &[][..],
            &[0x80],
            &[0x1a, 0x64, 1],
            &[
                0x1a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
            ],
            &[0x11, 1],
            &[0x0f],
        ] {
            assert_eq!(fields(&[&[0x08, 1], end].concat(), &[]), 1, "{end:?}");
        }
    }
}
