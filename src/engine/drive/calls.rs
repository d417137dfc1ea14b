//! The calls of one transaction that are out: at most one for each branch.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt as _, future::BoxFuture};
use tercet_core::{
    answer::{Answer, QueryAnswer},
    step::Call,
};
use tokio::time::Instant;

use crate::{
    engine::Inner,
    participants::{Outgoing, Participants},
    store::Record,
};

#[derive(Default)]
pub(super) struct Calls {
    out: Vec<Out>,
    /// Who is looked at first: behind the last that had ended, so that nobody is looked at in vain again while
    /// more have.
    turn: usize,
}

/// A call that has ended.
pub(super) struct Ended {
    pub(super) call: Call,
    pub(super) begun: Instant,
    pub(super) end: End,
}

pub(super) enum End {
    Performed(Answer),
    Queried(QueryAnswer),
}

impl Calls {
    pub(super) fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Begins a call; it takes the place of what it overtakes.
    pub(super) fn begin(&mut self, call: Call, engine: &Inner, record: &Record) {
        self.out.retain(|it| it.call.branch != call.branch);
        let outgoing = outgoing(engine, record, call);
        self.out.push(Out {
            call,
            begun: Instant::now(),
            unsent: Some((Arc::clone(&engine.participants), outgoing)),
            ending: None,
        });
    }

    /// The next one that ends; never when none is out.
    pub(super) async fn next(&mut self) -> Ended {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Ended> {
        let len = self.out.len();
        for step in 0..len {
            let at = (self.turn + step) % len;
            if let Poll::Ready(ended) = self.out[at].poll(context) {
                self.out.remove(at);
                self.turn = at;
                return Poll::Ready(ended);
            }
        }
        Poll::Pending
    }
}

/// A call that is out. It leaves when it is first polled: one that is overtaken at once never does.
struct Out {
    call: Call,
    begun: Instant,
    unsent: Option<(Arc<dyn Participants>, Outgoing)>,
    ending: Option<Ending>,
}

enum Ending {
    Performed(BoxFuture<'static, Answer>),
    Queried(BoxFuture<'static, QueryAnswer>),
}

impl Out {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Ended> {
        let Self {
            call,
            begun,
            unsent,
            ending,
        } = self;
        let ending = ending.get_or_insert_with(|| {
            let (participants, outgoing) = unsent.take().expect("it is sent once");
            if call.query {
                Ending::Queried(participants.query(outgoing))
            } else {
                Ending::Performed(participants.perform(outgoing))
            }
        });
        let end = match ending {
            Ending::Performed(answer) => answer.poll_unpin(context).map(End::Performed),
            Ending::Queried(answer) => answer.poll_unpin(context).map(End::Queried),
        };
        end.map(|end| Ended {
            call: *call,
            begun: *begun,
            end,
        })
    }
}

fn outgoing(engine: &Inner, record: &Record, call: Call) -> Outgoing {
    let branch = &record.transaction.branches[call.branch];
    let identity = engine.store.identity();
    Outgoing {
        realm: identity.realm.clone(),
        epoch: identity.epoch,
        id: record.id.clone(),
        origin: Arc::clone(&record.origin),
        spec: Arc::clone(&branch.spec),
        call,
        try_result: branch.try_result.clone(),
        cause: record.transaction.failure.clone(),
    }
}
