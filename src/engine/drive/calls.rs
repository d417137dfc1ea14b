//! The calls of one transaction that are out: at most one for each branch.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{
    FutureExt as _, StreamExt as _,
    future::{AbortHandle, Abortable, BoxFuture},
    stream::FuturesUnordered,
};
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
    out: FuturesUnordered<Abortable<Out>>,
    /// Of each that nothing has taken the place of, by its branch.
    aborts: Vec<(usize, AbortHandle)>,
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
        self.aborts.is_empty()
    }

    /// Begins a call; it takes the place of what it overtakes.
    pub(super) fn begin(&mut self, call: Call, engine: &Inner, record: &Record) {
        self.aborts.retain(|(branch, abort)| {
            let other = *branch != call.branch;
            if !other {
                abort.abort();
            }
            other
        });
        let outgoing = outgoing(engine, record, call);
        let (abort, registration) = AbortHandle::new_pair();
        let out = Out {
            call,
            begun: Instant::now(),
            unsent: Some((Arc::clone(&engine.participants), outgoing)),
            ending: None,
        };
        self.out.push(Abortable::new(out, registration));
        self.aborts.push((call.branch, abort));
    }

    /// The next one that ends; none when none is out.
    pub(super) async fn next(&mut self) -> Option<Ended> {
        while let Some(ended) = self.out.next().await {
            if let Ok(ended) = ended {
                self.aborts
                    .retain(|(branch, _)| *branch != ended.call.branch);
                return Some(ended);
            }
        }
        None
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

impl Future for Out {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ended> {
        let Self {
            call,
            begun,
            unsent,
            ending,
        } = &mut *self;
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
