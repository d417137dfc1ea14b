//! One transaction under test: every step is held against the invariants, and what it wants done is
//! kept to be looked at.
#![allow(dead_code)] // each test file uses its own part

pub(crate) mod record_states;

use std::sync::Arc;

use tercet_core::{
    check,
    ids::{BranchId, ParticipantName},
    operation::{Operation, RecordState},
    outcome::ReplyMode,
    payload::{Failure, Payload},
    receipt::Receipt,
    request::{Refusal, Report, Request},
    retry::RetryPolicy,
    step::{
        Answer, Call, Context, Durability, Effect, Event, Input, QueryAnswer, Recorded, Step, Timer,
    },
    transaction::{AttentionReason, BranchSpec, Methods, Resolution, Target, Transaction},
};

pub(crate) const MODES: [ReplyMode; 3] = [
    ReplyMode::TwoState,
    ReplyMode::ThreeState,
    ReplyMode::Accepted,
];

/// A transaction and what its last step wanted.
pub(crate) struct Run {
    pub(crate) tx: Transaction,
    pub(crate) context: Context,
    pub(crate) durability: Durability,
    pub(crate) calls: Vec<Call>,
    pub(crate) timers: Vec<(Timer, u64)>,
    pub(crate) events: Vec<Event>,
}

impl Run {
    /// Submitted with this many branches of contract participants.
    pub(crate) fn submitted(mode: ReplyMode, branches: usize) -> Self {
        Self::submitted_with(mode, (0..branches).map(contract).collect())
    }

    pub(crate) fn submitted_with(mode: ReplyMode, specs: Vec<Arc<BranchSpec>>) -> Self {
        Self::open(Transaction::submit(mode, Arc::default(), specs))
    }

    /// Begun, without branches yet.
    pub(crate) fn begun(mode: ReplyMode) -> Self {
        Self::open(Transaction::begin(mode, Arc::default()))
    }

    /// Submitted, and every Try has succeeded.
    pub(crate) fn confirming(mode: ReplyMode, branches: usize) -> Self {
        let mut run = Self::submitted(mode, branches);
        for branch in 0..branches {
            run.answer(branch, Operation::Try, Answer::Success(None));
        }
        run
    }

    /// Submitted, and rolled back by its client before any Try has answered.
    pub(crate) fn canceling(mode: ReplyMode, branches: usize) -> Self {
        let mut run = Self::submitted(mode, branches);
        run.rollback().unwrap();
        run
    }

    /// Whatever the first step of a transaction gives.
    pub(crate) fn open(step: Step) -> Self {
        check::well_formed(&step.next).unwrap();
        let mut run = Self {
            tx: step.next.clone(),
            context: Context::default(),
            durability: step.durability,
            calls: Vec::new(),
            timers: Vec::new(),
            events: Vec::new(),
        };
        run.apply(step);
        run
    }

    pub(crate) fn input(&mut self, input: Input) {
        let step = self.tx.step(input, self.context);
        self.apply(step);
    }

    pub(crate) fn ask(&mut self, request: Request) -> Result<(), Refusal> {
        let step = self.tx.request(request, self.context)?;
        self.apply(step);
        Ok(())
    }

    fn apply(&mut self, step: Step) {
        check::legal(&self.tx, &step.next).unwrap();
        self.tx = step.next;
        self.durability = step.durability;
        self.events = step.events;
        self.calls.clear();
        self.timers.clear();
        for effect in step.effects.open(Receipt::acknowledge()) {
            match effect {
                Effect::Call(call) => self.calls.push(call),
                Effect::Arm { timer, delay_ms } => self.timers.push((timer, delay_ms)),
            }
        }
    }

    pub(crate) fn answer(&mut self, branch: usize, operation: Operation, answer: Answer) {
        self.input(Input::Answered {
            branch,
            operation,
            answer,
        });
    }

    pub(crate) fn success(&mut self, branch: usize, operation: Operation) {
        self.answer(branch, operation, Answer::Success(None));
    }

    pub(crate) fn refused(&mut self, branch: usize, operation: Operation) {
        self.answer(branch, operation, Answer::Failed(failure("NO")));
    }

    pub(crate) fn lost(&mut self, branch: usize, operation: Operation) {
        let cause = failure("DEADLINE_EXCEEDED");
        self.answer(branch, operation, Answer::Indeterminate(cause));
    }

    pub(crate) fn query(&mut self, branch: usize, operation: Operation, answer: QueryAnswer) {
        self.input(Input::Queried {
            branch,
            operation,
            answer,
        });
    }

    /// The Query of a branch ends with this record.
    pub(crate) fn says(&mut self, branch: usize, operation: Operation, state: RecordState) {
        self.query(branch, operation, recorded(state));
    }

    pub(crate) fn due(&mut self, timer: Timer) {
        self.input(Input::Due(timer));
    }

    pub(crate) fn add(&mut self, spec: Arc<BranchSpec>) -> Result<(), Refusal> {
        self.ask(Request::AddBranch(spec))
    }

    pub(crate) fn commit(&mut self, branches: &[usize]) -> Result<(), Refusal> {
        let branches = branches.iter().copied().map(branch_id).collect();
        self.ask(Request::Commit { branches })
    }

    pub(crate) fn rollback(&mut self) -> Result<(), Refusal> {
        let cause = failure("CLIENT_ROLLBACK");
        self.ask(Request::Rollback { cause })
    }

    pub(crate) fn report(
        &mut self,
        branch: usize,
        operation: Operation,
        report: Report,
    ) -> Result<(), Refusal> {
        self.ask(Request::Report {
            branch: branch_id(branch),
            operation,
            report,
        })
    }

    /// Resolved long after the deadline.
    pub(crate) fn resolve(
        &mut self,
        branch: usize,
        resolution: Resolution,
        recorded: Option<RecordState>,
    ) -> Result<(), Refusal> {
        self.ask(Request::Resolve {
            branch: branch_id(branch),
            resolution,
            overdue: true,
            recorded,
        })
    }

    /// The calls as (branch, operation, is a Query).
    pub(crate) fn called(&self) -> Vec<(usize, Operation, bool)> {
        self.calls
            .iter()
            .map(|call| (call.branch, call.operation, call.query))
            .collect()
    }

    pub(crate) fn attends(&self, reason: AttentionReason) -> bool {
        self.tx.attentions.iter().any(|it| it.reason == reason)
    }
}

pub(crate) fn branch_id(branch: usize) -> BranchId {
    BranchId::parse(&format!("b{branch}")).unwrap()
}

pub(crate) fn failure(reason: &str) -> Failure {
    Failure::new(reason, "as the test wants it")
}

pub(crate) fn payload(text: &str) -> Payload {
    Payload {
        type_url: "text".into(),
        value: text.as_bytes().into(),
    }
}

pub(crate) fn recorded(state: RecordState) -> QueryAnswer {
    QueryAnswer::Recorded(Box::new(Recorded {
        state,
        try_result: None,
        confirm_result: None,
        failure: None,
        retry_after_ms: None,
    }))
}

pub(crate) fn contract(branch: usize) -> Arc<BranchSpec> {
    spec(
        branch,
        Target::Contract {
            participant: ParticipantName::parse("stock").unwrap(),
            resource: "reserve".into(),
        },
    )
}

/// A method target, without a method to query.
pub(crate) fn methods(branch: usize) -> Arc<BranchSpec> {
    spec(
        branch,
        Target::Methods(Methods {
            endpoint: "stock".into(),
            try_method: "/shop.Stock/Reserve".into(),
            confirm_method: "/shop.Stock/Take".into(),
            cancel_method: "/shop.Stock/Release".into(),
            query_method: None,
            confirm_payload: None,
            cancel_payload: None,
        }),
    )
}

fn spec(branch: usize, target: Target) -> Arc<BranchSpec> {
    Arc::new(BranchSpec {
        id: branch_id(branch),
        target,
        payload: Payload::default(),
        try_timeout_ms: 3_000,
    })
}

pub(crate) fn policy(intervals_ms: &[u64], attention_after_attempts: u32) -> Arc<RetryPolicy> {
    Arc::new(RetryPolicy {
        intervals_ms: intervals_ms.into(),
        attention_after_attempts,
        ..RetryPolicy::default()
    })
}
