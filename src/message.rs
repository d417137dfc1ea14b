//! One protobuf message, as it is written.
//!
//! A field with the value that a missing one reads as is left out, but not one that may be missing: there
//! it says that it is given. This is what prost writes, byte for byte; the tests of who uses it hold
//! them against each other.

use std::{collections::BTreeMap, sync::Arc};

/// The bytes of a message, to which its fields are added. prost adds them in the order of their tags.
pub(crate) struct Message<'a>(&'a mut Vec<u8>);

/// How the content of a field is written.
#[derive(Clone, Copy)]
enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Delimited = 2,
}

impl<'a> Message<'a> {
    /// A message that begins at the end of these bytes.
    pub(crate) fn at_end(bytes: &'a mut Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(crate) fn number(&mut self, tag: u32, value: impl Into<u64>) {
        self.given(tag, Some(value.into()).filter(|it| *it != 0));
    }

    pub(crate) fn signed(&mut self, tag: u32, value: impl Into<i64>) {
        self.number(tag, value.into().cast_unsigned());
    }

    pub(crate) fn fixed(&mut self, tag: u32, value: u64) {
        if value != 0 {
            self.key(tag, Wire::Fixed64);
            self.0.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// A number that may be missing.
    pub(crate) fn given(&mut self, tag: u32, value: Option<u64>) {
        if let Some(value) = value {
            self.key(tag, Wire::Varint);
            self.varint(value);
        }
    }

    /// A signed number that may be missing.
    pub(crate) fn given_signed(&mut self, tag: u32, value: Option<i64>) {
        self.given(tag, value.map(i64::cast_unsigned));
    }

    pub(crate) fn numbers(&mut self, tag: u32, values: &[u64]) {
        if !values.is_empty() {
            self.message(tag, |packed| {
                values.iter().for_each(|value| packed.varint(*value));
            });
        }
    }

    pub(crate) fn text(&mut self, tag: u32, text: &str) {
        self.bytes(tag, text.as_bytes());
    }

    pub(crate) fn bytes(&mut self, tag: u32, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.given_bytes(tag, bytes);
        }
    }

    /// Bytes, or a text, that could be missing, but are not.
    pub(crate) fn given_bytes(&mut self, tag: u32, bytes: &[u8]) {
        self.key(tag, Wire::Delimited);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn texts(&mut self, tag: u32, texts: &BTreeMap<Arc<str>, Arc<str>>) {
        for (key, value) in texts {
            self.message(tag, |entry| {
                entry.text(1, key);
                entry.text(2, value);
            });
        }
    }

    /// A message within this one. Its length stands before it, but is known only behind it: there is one
    /// byte for it, enough for most; for the rest of a longer one the message makes room.
    pub(crate) fn message(&mut self, tag: u32, write: impl FnOnce(&mut Message<'_>)) {
        self.key(tag, Wire::Delimited);
        let at = self.0.len();
        self.0.push(0);
        write(self);
        let end = self.0.len();
        let len = end - at - 1;
        self.0[at] = low_bits(len as u64);
        if len >= 0x80 {
            self.varint(len as u64 >> 7);
            let mut rest = [0; 10];
            let rest = &mut rest[..self.0.len() - end];
            rest.copy_from_slice(&self.0[end..]);
            self.0.copy_within(at + 1..end, at + 1 + rest.len());
            self.0[at + 1..][..rest.len()].copy_from_slice(rest);
        }
    }

    fn key(&mut self, tag: u32, wire: Wire) {
        self.varint((tag << 3 | wire as u32).into());
    }

    /// Seven bits in each byte, the lowest first.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(low_bits(value));
            value >>= 7;
        }
        self.0.push(low_bits(value));
    }
}

/// The lowest seven bits; the eighth says whether more follow.
fn low_bits(value: u64) -> u8 {
    let more = if value >= 0x80 { 0x80 } else { 0 };
    value as u8 & 0x7f | more
}
