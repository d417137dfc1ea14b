//! Protobuf that somebody has laid hands on: a valid message taken apart field by field, changed, and
//! put together again. So the bytes get past the first byte of a decoder, as chance alone rarely does.
#![allow(
    dead_code,
    reason = "each test file that includes this uses its own part of it"
)]

use proptest::{collection::vec, prelude::*, sample::Index, sample::select};
use prost::{
    bytes::{Buf, BufMut},
    encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint},
};

/// What a field of a message is, as far as its bytes tell.
#[derive(Clone, Debug)]
enum Value {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(Vec<u8>),
    /// Bytes that can be read as a message; a text that happens to can be one, too.
    Message(Vec<Field>),
    /// A length that says more than follows.
    Claim(u64),
}

#[derive(Clone, Debug)]
struct Field {
    number: u32,
    value: Value,
}

/// One change; which field it is about is drawn.
#[derive(Clone, Debug)]
pub(crate) struct Mangling {
    at: Index,
    other: Index,
    how: How,
    number: u64,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Drop,
    Repeat,
    RepeatOften,
    Swap,
    Splice,
    Renumber,
    Unknown,
    Number,
    Fixed,
    Empty,
    NoText,
    Cut,
    Claim,
    Nest,
    Flip,
}

const HOW: [How; 15] = [
    How::Drop,
    How::Repeat,
    How::RepeatOften,
    How::Swap,
    How::Splice,
    How::Renumber,
    How::Unknown,
    How::Number,
    How::Fixed,
    How::Empty,
    How::NoText,
    How::Cut,
    How::Claim,
    How::Nest,
    How::Flip,
];

/// Numbers at the ends of every kind of number there is.
pub(crate) const NUMBERS: [u64; 16] = [
    0,
    1,
    2,
    127,
    999,
    1 << 31,
    (1 << 31) - 1,
    i32::MIN as i64 as u64,
    u32::MAX as u64,
    i64::MAX as u64,
    i64::MAX as u64 - 1,
    i64::MIN as u64,
    i64::MIN as u64 + 1,
    u64::MAX,
    u64::MAX - 1,
    253_402_300_800,
];

/// Deeper than any decoder should follow.
const NESTED: usize = 200;
const REPEATED: usize = 300;

/// So many cases; with PROPTEST_CASES as many times more as that is more than proptest's own 256.
pub(crate) fn cases(quick: u32) -> ProptestConfig {
    let own = ProptestConfig::default();
    let cases = u64::from(quick) * u64::from(own.cases) / 256;
    ProptestConfig {
        cases: u32::try_from(cases).unwrap_or(u32::MAX).max(1),
        ..own
    }
}

/// One to five changes.
pub(crate) fn manglings() -> impl Strategy<Value = Vec<Mangling>> {
    let number = prop_oneof![4 => select(&NUMBERS[..]), 1 => any::<u64>()];
    let parts = (any::<Index>(), any::<Index>(), select(&HOW[..]), number);
    let mangling = parts.prop_map(|(at, other, how, number)| Mangling {
        at,
        other,
        how,
        number,
    });
    vec(mangling, 1..6)
}

/// The message after these changes.
pub(crate) fn mangled(message: &[u8], manglings: &[Mangling]) -> Vec<u8> {
    let mut fields = parsed(message).expect("the message is valid before");
    for it in manglings {
        it.apply(&mut fields);
    }
    written(&fields)
}

impl Mangling {
    fn apply(&self, message: &mut Vec<Field>) {
        let count = count(message);
        if count == 0 {
            return message.push(self.unknown());
        }
        let other = self.other.index(count);
        let other = field(message, other).map(|(fields, at)| fields[at].clone());
        let Some((fields, at)) = field(message, self.at.index(count)) else {
            return;
        };
        match self.how {
            How::Drop => drop(fields.remove(at)),
            How::Repeat => fields.push(fields[at].clone()),
            How::RepeatOften => fields.extend(vec![fields[at].clone(); REPEATED]),
            How::Swap => {
                let last = fields.len() - 1;
                fields.swap(at, last);
            }
            How::Splice => fields[at].value = other.map_or(Value::Varint(1), |it| it.value),
            How::Renumber => fields[at].number = 1 + (self.number % 20) as u32,
            How::Unknown => fields.insert(at, self.unknown()),
            How::Number => fields[at].value = Value::Varint(self.number),
            How::Fixed if self.number.is_multiple_of(2) => {
                fields[at].value = Value::Fixed32(self.number as u32);
            }
            How::Fixed => fields[at].value = Value::Fixed64(self.number),
            How::Empty => fields[at].value = Value::Bytes(Vec::new()),
            How::NoText => fields[at].value = Value::Bytes(vec![b'a', 0xff, 0xc0]),
            How::Cut => {
                let mut bytes = content(&fields[at].value);
                bytes.truncate(self.other.index(bytes.len() + 1));
                fields[at].value = Value::Bytes(bytes);
            }
            How::Claim => fields[at].value = Value::Claim(self.number),
            How::Nest => nest(&mut fields[at]),
            How::Flip => {
                let mut bytes = content(&fields[at].value);
                if !bytes.is_empty() {
                    let bit = self.other.index(bytes.len() * 8);
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
                fields[at].value = Value::Bytes(bytes);
            }
        }
    }

    fn unknown(&self) -> Field {
        Field {
            number: 5_000,
            value: Value::Fixed64(self.number),
        }
    }
}

/// Puts the field into itself, many times.
fn nest(field: &mut Field) {
    for _ in 0..NESTED {
        let inner = field.clone();
        field.value = Value::Bytes(written(&[inner]));
    }
}

/// How many fields there are, on all levels.
fn count(message: &[Field]) -> usize {
    let below = |field: &Field| match &field.value {
        Value::Message(fields) => count(fields),
        _ => 0,
    };
    message.iter().map(|field| 1 + below(field)).sum()
}

/// The field of this number in the order of the bytes, as a place in its message.
fn field(message: &mut Vec<Field>, mut number: usize) -> Option<(&mut Vec<Field>, usize)> {
    for at in 0..message.len() {
        if number == 0 {
            return Some((message, at));
        }
        number -= 1;
        let below = match &message[at].value {
            Value::Message(fields) => count(fields),
            _ => 0,
        };
        if number < below {
            return match &mut message[at].value {
                Value::Message(fields) => field(fields, number),
                _ => None,
            };
        }
        number -= below;
    }
    None
}

fn parsed(mut bytes: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while bytes.has_remaining() {
        let (number, wire_type) = decode_key(&mut bytes).ok()?;
        let value = match wire_type {
            WireType::Varint => Value::Varint(decode_varint(&mut bytes).ok()?),
            WireType::SixtyFourBit => Value::Fixed64(bytes.try_get_u64_le().ok()?),
            WireType::ThirtyTwoBit => Value::Fixed32(bytes.try_get_u32_le().ok()?),
            WireType::LengthDelimited => {
                let len = usize::try_from(decode_varint(&mut bytes).ok()?).ok()?;
                let (content, rest) = bytes.split_at_checked(len)?;
                bytes = rest;
                let message = parsed(content).filter(|fields| !fields.is_empty());
                message.map_or_else(|| Value::Bytes(content.to_vec()), Value::Message)
            }
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        fields.push(Field { number, value });
    }
    Some(fields)
}

fn written(fields: &[Field]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Field { number, value } in fields {
        let wire_type = match value {
            Value::Varint(_) => WireType::Varint,
            Value::Fixed64(_) => WireType::SixtyFourBit,
            Value::Fixed32(_) => WireType::ThirtyTwoBit,
            Value::Bytes(_) | Value::Message(_) | Value::Claim(_) => WireType::LengthDelimited,
        };
        encode_key(*number, wire_type, &mut bytes);
        let content = content(value);
        if let Value::Bytes(_) | Value::Message(_) = value {
            encode_varint(content.len() as u64, &mut bytes);
        }
        bytes.put_slice(&content);
    }
    bytes
}

/// What stands behind the key, and the length if it has one.
fn content(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    match value {
        Value::Varint(number) | Value::Claim(number) => encode_varint(*number, &mut bytes),
        Value::Fixed64(number) => bytes.put_u64_le(*number),
        Value::Fixed32(number) => bytes.put_u32_le(*number),
        Value::Bytes(content) => bytes.put_slice(content),
        Value::Message(fields) => return written(fields),
    }
    bytes
}
