//! The frames of HTTP/2, as far as a client needs them that sends the same small request again and again.

use anyhow::{anyhow, bail, ensure};
use loona_hpack::Decoder;
use prost::bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
pub const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// Before any update.
pub const WINDOW_BYTES: u32 = 65_535;
const FRAME_BYTES_MAX: usize = 16 * 1024;
const HEAD_BYTES: usize = 9;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;
const WINDOW_UPDATE: u8 = 0x8;

const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED_OR_PRIORITY: u8 = 0x28;

const ENABLE_PUSH: u16 = 0x2;
const MAX_CONCURRENT_STREAMS: u16 = 0x3;
const INITIAL_WINDOW_SIZE: u16 = 0x4;

const CANCEL: u32 = 0x8;

/// What a client has to know of.
pub enum Frame {
    Data {
        stream: u32,
        data: Bytes,
        last: bool,
    },
    Headers {
        stream: u32,
        status: Option<Status>,
        last: bool,
    },
    Reset {
        stream: u32,
    },
    Settings {
        streams_max: Option<u32>,
    },
    Ping(Bytes),
    /// More may be sent on the connection.
    Window(u32),
    Other,
}

/// What `grpc-status` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok,
    ResourceExhausted,
    Other,
}

/// How a connection begins.
pub fn preface(out: &mut BytesMut) {
    out.put_slice(PREFACE);
    let settings = [(ENABLE_PUSH, 0), (INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES)];
    head(out, 6 * settings.len(), SETTINGS, 0, 0);
    for (name, value) in settings {
        out.put_u16(name);
        out.put_u32(value);
    }
    window(out, CONNECTION_WINDOW_BYTES - WINDOW_BYTES);
}

/// A call: its headers, and all of its request.
pub fn call(out: &mut BytesMut, stream: u32, headers: &[u8], data: &[u8]) -> anyhow::Result<()> {
    ensure!(
        data.len() <= FRAME_BYTES_MAX,
        "a request of {} bytes does not fit a frame",
        data.len()
    );
    head(out, headers.len(), HEADERS, END_HEADERS, stream);
    out.put_slice(headers);
    head(out, data.len(), DATA, END_STREAM, stream);
    out.put_slice(data);
    Ok(())
}

/// Nobody waits for this answer any more.
pub fn cancel(out: &mut BytesMut, stream: u32) {
    head(out, 4, RST_STREAM, 0, stream);
    out.put_u32(CANCEL);
}

pub fn settings_taken(out: &mut BytesMut) {
    head(out, 0, SETTINGS, ACK, 0);
}

pub fn pong(out: &mut BytesMut, ping: &[u8]) {
    head(out, ping.len(), PING, ACK, 0);
    out.put_slice(ping);
}

/// So much more may be received on the connection.
pub fn window(out: &mut BytesMut, bytes: u32) {
    head(out, 4, WINDOW_UPDATE, 0, 0);
    out.put_u32(bytes);
}

fn head(out: &mut BytesMut, len: usize, kind: u8, flags: u8, stream: u32) {
    out.put_uint(len as u64, 3);
    out.put_u8(kind);
    out.put_u8(flags);
    out.put_u32(stream);
}

/// Takes the next frame, once all of it is there. The table is the connection's, of all headers that came before.
pub fn take(inbox: &mut BytesMut, table: &mut Decoder<'_>) -> anyhow::Result<Option<Frame>> {
    let Some(mut head) = inbox.get(..HEAD_BYTES) else {
        return Ok(None);
    };
    let len = usize::try_from(head.get_uint(3))?;
    let (kind, flags, stream) = (head.get_u8(), head.get_u8(), head.get_u32());
    if inbox.len() < HEAD_BYTES + len {
        return Ok(None);
    }
    inbox.advance(HEAD_BYTES);
    let mut body = inbox.split_to(len).freeze();
    if matches!(kind, DATA | HEADERS) && flags & PADDED_OR_PRIORITY != 0 {
        bail!("a padded frame, which the coordinator never sends");
    }
    let last = flags & END_STREAM != 0;
    Ok(Some(match kind {
        DATA => Frame::Data {
            stream,
            data: body,
            last,
        },
        HEADERS => {
            ensure!(flags & END_HEADERS != 0, "headers of more than one frame");
            let status = status(&body, table)?;
            Frame::Headers {
                stream,
                status,
                last,
            }
        }
        RST_STREAM => Frame::Reset { stream },
        SETTINGS if flags & ACK == 0 => {
            let mut streams_max = None;
            while body.len() >= 6 {
                let (name, value) = (body.get_u16(), body.get_u32());
                if name == MAX_CONCURRENT_STREAMS {
                    streams_max = Some(value);
                }
            }
            Frame::Settings { streams_max }
        }
        PING if flags & ACK == 0 => Frame::Ping(body),
        GOAWAY => bail!("the coordinator has closed the connection: {body:?}"),
        WINDOW_UPDATE if stream == 0 => Frame::Window(body.try_get_u32()?),
        _ => Frame::Other,
    }))
}

/// The headers of a call, the first time and any other time: each is then one byte, by its place in the
/// coordinator's table.
pub fn headers(authority: &str, path: &str, timeout: &str) -> (Bytes, Bytes) {
    const POST: u8 = 0x83;
    const HTTP: u8 = 0x86;
    const ADDED: u8 = 0x40;
    const INDEXED: u8 = 0x80;
    const FIRST_ADDED: u8 = 62;
    let named = [(4, path), (1, authority), (31, "application/grpc")];
    let unnamed = [("te", "trailers"), ("grpc-timeout", timeout)];
    let mut first = BytesMut::from(&[POST, HTTP][..]);
    for (name, value) in named {
        first.put_u8(ADDED | name);
        text(&mut first, value);
    }
    for (name, value) in unnamed {
        first.put_u8(ADDED);
        text(&mut first, name);
        text(&mut first, value);
    }
    let added = (named.len() + unnamed.len()) as u8;
    let places = (FIRST_ADDED..FIRST_ADDED + added).rev();
    let again = [POST, HTTP].into_iter();
    let again = again.chain(places.map(|place| INDEXED | place)).collect();
    (first.freeze(), again)
}

fn text(out: &mut BytesMut, text: &str) {
    // All of them are shorter than what takes more than one byte.
    out.put_u8(text.len() as u8 & 0x7f);
    out.put_slice(text.as_bytes());
}

/// What a block of headers says of `grpc-status`, if it does.
fn status(block: &[u8], table: &mut Decoder<'_>) -> anyhow::Result<Option<Status>> {
    let mut status = None;
    let read = table.decode_with_cb(block, |name, value| {
        if &*name == b"grpc-status" {
            status = Some(match &*value {
                b"0" => Status::Ok,
                b"8" => Status::ResourceExhausted,
                _ => Status::Other,
            });
        }
    });
    read.map_err(|error| anyhow!("headers that can't be read: {error:?}"))?;
    Ok(status)
}
