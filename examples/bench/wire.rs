//! Submits of clients that don't wait for each other, at little cost: in the frames of HTTP/2.
//!
//! Many times what a coordinator can do has to come from the same two cores. A client of a library needs more for
//! a refusal than the coordinator does, and would measure itself. Here one task has a connection and all of its
//! calls.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use loona_hpack::Decoder;
use prost::{
    Message as _,
    bytes::{Buf as _, BufMut as _, Bytes, BytesMut},
};
use tercet_sdk::proto::v1::{SubmitTransactionRequest, SubmitTransactionResponse};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};
use tonic::codegen::http::Uri;

use crate::{
    arrivals::{Arrival, End, PATIENCE},
    calls::Order,
    frames::{self, Frame, Status},
    processes::{Coordinator, NAMES},
};

const METHOD: &str = "/tercet.v1.CoordinatorService/SubmitTransaction";
/// Before every message of gRPC: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// Between two looks at who has lost patience.
const LOOK: Duration = Duration::from_millis(50);
const READ_BYTES: usize = 64 * 1024;
/// What may be received without a word: half of what was allowed.
const RECEIVED_BYTES_MAX: u32 = frames::CONNECTION_WINDOW_BYTES / 2;
/// Until the coordinator says how many it allows.
const STREAMS: usize = 1;

/// One connection to a coordinator.
#[derive(Clone)]
pub struct Wire {
    calls: UnboundedSender<Vec<Call>>,
}

/// A client: it has arrived, and waits.
pub struct Call {
    pub id: String,
    /// Of its flow.
    pub begun: Instant,
    /// Since then: when it was due to arrive.
    pub at: Duration,
    pub ended: UnboundedSender<Arrival>,
}

impl Call {
    fn end(self, end: End) {
        let (at, answered) = (self.at, self.begun.elapsed());
        // Whoever listens does so to the end.
        let _ = self.ended.send(Arrival { at, answered, end });
    }

    fn gives_up(&self, now: Instant) -> bool {
        now >= self.begun + self.at + PATIENCE
    }
}

impl Wire {
    /// So many connections to a coordinator, for transactions with both participants.
    pub async fn to(coordinator: &Coordinator, connections: usize) -> anyhow::Result<Vec<Self>> {
        Self::ordering(Order::with(NAMES), coordinator, connections).await
    }

    /// The same for transactions like this one.
    pub async fn ordering(
        order: Order,
        coordinator: &Coordinator,
        connections: usize,
    ) -> anyhow::Result<Vec<Self>> {
        let order = Arc::new(order);
        let mut wires = Vec::new();
        for _ in 0..connections {
            let (calls, taken) = unbounded_channel();
            let line = Line::connect(&coordinator.url, Arc::clone(&order), taken).await?;
            tokio::spawn(line.serve());
            wires.push(Self { calls });
        }
        Ok(wires)
    }

    /// Each is answered to whoever listens for its end.
    pub fn call(&self, calls: Vec<Call>) {
        if let Err(unsent) = self.calls.send(calls) {
            unsent.0.into_iter().for_each(|call| call.end(End::Failed));
        }
    }
}

/// The connection itself.
struct Line {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    inbox: BytesMut,
    table: Decoder<'static>,
    outbox: BytesMut,
    calls: UnboundedReceiver<Vec<Call>>,
    talk: Talk,
}

/// What is said on it.
struct Talk {
    order: Arc<Order>,
    /// What follows the id in every request.
    rest: Vec<u8>,
    /// Those of the first call, and of any other.
    headers: (Bytes, Bytes),
    /// Arrived, and not sent.
    waiting: VecDeque<Call>,
    /// Sent, and not answered, with what has come of their answers.
    sent: BTreeMap<u32, (Call, BytesMut)>,
    last_stream: Option<u32>,
    streams_max: usize,
    /// What may be sent.
    window_bytes: i64,
    received_bytes: u32,
}

impl Line {
    async fn connect(
        url: &str,
        order: Arc<Order>,
        calls: UnboundedReceiver<Vec<Call>>,
    ) -> anyhow::Result<Self> {
        let uri: Uri = url.parse()?;
        let authority = uri.authority().context("the coordinator's address")?;
        let stream = TcpStream::connect(authority.as_str()).await?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        let timeout = format!("{}m", PATIENCE.as_millis());
        let mut outbox = BytesMut::new();
        frames::preface(&mut outbox);
        let talk = Talk {
            rest: order.request("").encode_to_vec(),
            order,
            headers: frames::headers(authority.as_str(), METHOD, &timeout),
            waiting: VecDeque::new(),
            sent: BTreeMap::new(),
            last_stream: None,
            streams_max: STREAMS,
            window_bytes: frames::WINDOW_BYTES.into(),
            received_bytes: 0,
        };
        Ok(Self {
            reader,
            writer,
            inbox: BytesMut::new(),
            table: Decoder::new(),
            outbox,
            calls,
            talk,
        })
    }

    /// Until nobody calls any more, or the connection ends; all calls on it have failed then.
    async fn serve(mut self) {
        let worked = self.work().await;
        self.calls.close();
        while let Some(calls) = self.calls.recv().await {
            self.talk.waiting.extend(calls);
        }
        let sent = self.talk.sent.into_values().map(|(call, _)| call);
        let unanswered: Vec<_> = sent.chain(self.talk.waiting).collect();
        if let (Err(error), false) = (worked, unanswered.is_empty()) {
            let count = unanswered.len();
            eprintln!("a connection has ended, and {count} calls with it: {error:#}");
        }
        for call in unanswered {
            call.end(End::Failed);
        }
    }

    async fn work(&mut self) -> anyhow::Result<()> {
        let mut look = tokio::time::interval(LOOK);
        loop {
            self.inbox.reserve(READ_BYTES);
            tokio::select! {
                calls = self.calls.recv() => match calls {
                    Some(calls) => self.talk.waiting.extend(calls),
                    None => return Ok(()),
                },
                read = self.reader.read_buf(&mut self.inbox) => {
                    if read? == 0 {
                        bail!(io::Error::from(io::ErrorKind::UnexpectedEof));
                    }
                    while let Some(frame) = frames::take(&mut self.inbox, &mut self.table)? {
                        self.talk.hear(frame, &mut self.outbox);
                    }
                }
                written = self.writer.write_buf(&mut self.outbox), if !self.outbox.is_empty() => {
                    written?;
                }
                _ = look.tick() => self.talk.give_up(Instant::now(), &mut self.outbox),
            }
            self.talk.send(&mut self.outbox)?;
        }
    }
}

impl Talk {
    /// Sends what waits, as far as the coordinator allows it.
    fn send(&mut self, outbox: &mut BytesMut) -> anyhow::Result<()> {
        while self.sent.len() < self.streams_max
            && let Some(call) = self.waiting.front()
        {
            let request = self.request(&call.id)?;
            let len = i64::try_from(request.len())?;
            if len > self.window_bytes {
                break;
            }
            let (headers, stream) = match self.last_stream {
                None => (&self.headers.0, 1),
                Some(last) => (&self.headers.1, last + 2),
            };
            frames::call(outbox, stream, headers, &request)?;
            self.window_bytes -= len;
            self.last_stream = Some(stream);
            if let Some(call) = self.waiting.pop_front() {
                self.sent.insert(stream, (call, BytesMut::new()));
            }
        }
        Ok(())
    }

    /// Two halves of a message, one after the other, are the message.
    fn request(&self, id: &str) -> anyhow::Result<BytesMut> {
        let named = SubmitTransactionRequest {
            transaction_id: id.to_owned(),
            ..SubmitTransactionRequest::default()
        };
        let len = named.encoded_len() + self.rest.len();
        let mut request = BytesMut::with_capacity(PREFIX_BYTES + len);
        request.put_u8(0);
        request.put_u32(u32::try_from(len)?);
        named.encode(&mut request)?;
        request.put_slice(&self.rest);
        Ok(request)
    }

    fn hear(&mut self, frame: Frame, outbox: &mut BytesMut) {
        match frame {
            Frame::Data { stream, data, last } => {
                self.received_bytes += data.len() as u32;
                if self.received_bytes > RECEIVED_BYTES_MAX {
                    frames::window(outbox, std::mem::take(&mut self.received_bytes));
                }
                if let Some((_, answer)) = self.sent.get_mut(&stream) {
                    answer.extend_from_slice(&data);
                }
                if last {
                    self.answered(stream, None);
                }
            }
            Frame::Headers {
                stream,
                status,
                last,
            } => {
                if last {
                    self.answered(stream, status);
                }
            }
            Frame::Reset { stream } => self.answered(stream, None),
            Frame::Settings { streams_max } => {
                let said = streams_max.and_then(|it| usize::try_from(it).ok());
                self.streams_max = said.unwrap_or(usize::MAX);
                frames::settings_taken(outbox);
            }
            Frame::Ping(ping) => frames::pong(outbox, &ping),
            Frame::Window(bytes) => self.window_bytes += i64::from(bytes),
            Frame::Other => {}
        }
    }

    fn answered(&mut self, stream: u32, status: Option<Status>) {
        let Some((call, answer)) = self.sent.remove(&stream) else {
            return;
        };
        call.end(match status {
            Some(Status::Ok) if self.is_as_ordered(answer) => End::Succeeded,
            Some(Status::ResourceExhausted) => End::Refused,
            _ => End::Failed,
        });
    }

    fn is_as_ordered(&self, mut answer: BytesMut) -> bool {
        if answer.len() < PREFIX_BYTES {
            return false;
        }
        answer.advance(PREFIX_BYTES);
        let answer = SubmitTransactionResponse::decode(answer);
        let transaction = answer.ok().and_then(|answer| answer.transaction);
        transaction.is_some_and(|it| self.order.answered(it.outcome()).is_ok())
    }

    /// Whoever has waited for too long goes away.
    fn give_up(&mut self, now: Instant, outbox: &mut BytesMut) {
        let over = self.waiting.partition_point(|call| call.gives_up(now));
        for call in self.waiting.drain(..over) {
            call.end(End::GaveUp);
        }
        let given_up = self.sent.iter().filter(|(_, (call, _))| call.gives_up(now));
        let given_up: Vec<_> = given_up.map(|(stream, _)| *stream).collect();
        for stream in given_up {
            frames::cancel(outbox, stream);
            if let Some((call, _)) = self.sent.remove(&stream) {
                call.end(End::GaveUp);
            }
        }
    }
}
