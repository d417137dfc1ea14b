//! The coordinator of the model: the real `Transaction`, or a broken one. What follows from a record
//! and an event is always the same, so each is worked out once.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use tercet_core::{
    check,
    receipt::Receipt,
    request::{Refusal, Request},
    step::{Call, Context, Durability, Effect, Input, Step},
    transaction::Transaction,
};

use crate::{
    fault::{self, Fault},
    record::Record,
    rules::{self, Rule},
};

/// Something that a transaction takes in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    Input(Input),
    Request(Request),
}

/// A step, opened: the world itself keeps the calls back until the record is durable.
#[derive(Debug)]
pub(crate) struct Move {
    pub(crate) next: Transaction,
    pub(crate) required: bool,
    pub(crate) calls: Vec<Call>,
}

/// What follows from a record and an event.
#[derive(Debug)]
pub(crate) struct Follows {
    pub(crate) next: Record,
    pub(crate) required: bool,
    pub(crate) calls: Vec<Call>,
    /// What decided, if this did.
    pub(crate) decides: Option<Rule>,
    /// The invariant that the change breaks, by `check`.
    pub(crate) broken: Option<&'static str>,
}

type Known = HashMap<(Option<Fault>, usize, Event), Rc<Result<Follows, Refusal>>>;

/// The step that this event leads to from here.
pub(crate) fn follows(
    fault: Option<Fault>,
    record: &Record,
    event: Event,
) -> Rc<Result<Follows, Refusal>> {
    thread_local! {
        static KNOWN: RefCell<Known> = RefCell::default();
    }
    KNOWN.with_borrow_mut(|known| {
        let entry = known.entry((fault, record.address(), event));
        let event = entry.key().2.clone();
        let worked_out = || Rc::new(work_out(fault, record, event));
        Rc::clone(entry.or_insert_with(worked_out))
    })
}

fn work_out(fault: Option<Fault>, record: &Record, event: Event) -> Result<Follows, Refusal> {
    let before = record.transaction();
    let it = match event {
        Event::Input(input) => match fault::input(fault, before, input) {
            None => Move::nothing(before),
            Some(input) => {
                let it = Move::of(before.step(input.clone(), Context::default()));
                fault::step(fault, before, &input, it)
            }
        },
        Event::Request(request) => {
            let request = fault::request(fault, before, request);
            match fault::merged(fault, before, &request) {
                Some(merged) => merged,
                None => Move::of(before.request(request, Context::default())?),
            }
        }
    };
    Ok(Follows::from(Some(before), it))
}

impl Move {
    pub(crate) fn of(step: Step) -> Self {
        let effects = step.effects.open(Receipt::acknowledge());
        let calls = effects.into_iter().filter_map(|effect| match effect {
            Effect::Call(call) => Some(Call { attempt: 0, ..call }),
            Effect::Arm { .. } => None,
        });
        Self {
            next: step.next,
            required: step.durability == Durability::Required,
            calls: calls.collect(),
        }
    }

    fn nothing(before: &Transaction) -> Self {
        Self {
            next: before.clone(),
            required: false,
            calls: Vec::new(),
        }
    }
}

impl Follows {
    /// The first step of a transaction.
    pub(crate) fn first(step: Step) -> Self {
        Self::from(None, Move::of(step))
    }

    fn from(before: Option<&Transaction>, it: Move) -> Self {
        let undecided = before.is_none_or(|it| it.decision().is_none());
        let decides = (undecided && it.next.decision().is_some()).then(|| {
            let reason = it.next.failure.as_ref().map(|it| &*it.reason);
            rules::cause(reason)
        });
        let next = Record::of(it.next);
        let verdict = match before {
            None => check::well_formed(next.transaction()),
            Some(before) => check::legal(before, next.transaction()),
        };
        Self {
            next,
            required: it.required,
            calls: it.calls,
            decides,
            broken: verdict.err().map(|it| it.invariant),
        }
    }
}
