//! What can be broken on purpose, and the coordinator's seam: what a broken one makes of an input
//! and of the step that follows. The participant's and the store's faults are where they act.

use tercet_core::{
    operation::{Operation, RecordState},
    outcome::{Decision, Outcome},
    request::Request,
    step::{Answer, Input, QueryAnswer, Timer},
    transaction::{BranchState, State, Transaction},
};

use crate::coordinator::Move;

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    // A participant
    FinishesBlindly,
    ForgetsTheTombstone,
    ConfirmsWithoutATry,
    CollectsWithoutAHorizon,
    IgnoresEpochs,
    CancelsByTime,
    // The coordinator
    SkipsTheRefusedBranch,
    SkipsTheUnansweredBranch,
    TakesUnknownForCanceled,
    TakesTryFailedForCanceled,
    TakesATimeoutForFailed,
    TakesAnyAnswerForItsOwn,
    CommitsWhateverIsRecorded,
    MergesOtherContent,
    DecidesTwice,
    StaysOpenAfterARestart,
    NeverExpiresOnceCommitIsRequested,
    ResolvesWhileTheParticipantWorks,
    ReadsMixedAsFailed,
    // The store, and what is told of it
    ForbidsWithoutARecord,
    ShowsWhatIsNotSynced,
    AcknowledgesBeforeItIsDurable,
    LosesWhatIsDue,
}

/// What this coordinator takes the input for; none: it doesn't notice.
pub(crate) fn input(fault: Option<Fault>, tx: &Transaction, input: Input) -> Option<Input> {
    let restarted = matches!(input, Input::Recovered) && tx.state == State::Trying;
    let expired = input == Input::Due(Timer::Expire);
    match (fault, input) {
        (Some(Fault::StaysOpenAfterARestart), _) if restarted => None,
        (Some(Fault::NeverExpiresOnceCommitIsRequested), _) if expired && tx.commit_requested => {
            None
        }
        (
            Some(Fault::TakesATimeoutForFailed),
            Input::Answered {
                branch,
                operation,
                answer: Answer::Indeterminate(failure),
            },
        ) => Some(Input::Answered {
            branch,
            operation,
            answer: Answer::Failed(failure),
        }),
        (
            Some(Fault::TakesAnyAnswerForItsOwn),
            Input::Answered {
                branch,
                operation,
                answer,
            },
        ) => {
            let owed = tx.owed_by(branch).map(|it| it.operation);
            Some(Input::Answered {
                branch,
                operation: owed.unwrap_or(operation),
                answer,
            })
        }
        (
            fault,
            Input::Queried {
                branch,
                operation: Operation::Cancel,
                answer: QueryAnswer::Recorded(mut recorded),
            },
        ) => {
            let mistaken = match fault {
                Some(Fault::TakesUnknownForCanceled) => Some(RecordState::Unknown),
                Some(Fault::TakesTryFailedForCanceled) => Some(RecordState::TryFailed),
                _ => None,
            };
            if mistaken == Some(recorded.state) {
                recorded.state = RecordState::Canceled;
            }
            Some(Input::Queried {
                branch,
                operation: Operation::Cancel,
                answer: QueryAnswer::Recorded(recorded),
            })
        }
        (_, input) => Some(input),
    }
}

/// What this coordinator makes of the step that should follow.
pub(crate) fn step(fault: Option<Fault>, before: &Transaction, input: &Input, it: Move) -> Move {
    let decided = before.decision().is_none() && it.next.decision() == Some(Decision::Cancel);
    match (fault, input) {
        (
            Some(Fault::SkipsTheRefusedBranch),
            &Input::Answered {
                branch,
                operation: Operation::Try,
                answer: Answer::Failed(_),
            },
        ) if decided => skip(it, |at| at == branch),
        (Some(Fault::SkipsTheUnansweredBranch), _) if decided => {
            skip(it, |at| before.branches[at].state == BranchState::Trying)
        }
        (Some(Fault::DecidesTwice), Input::Due(Timer::Expire))
            if before.state == State::Confirming =>
        {
            decide_again(it)
        }
        _ => it,
    }
}

/// These branches are taken for canceled; nothing is sent to them.
fn skip(mut it: Move, skipped: impl Fn(usize) -> bool) -> Move {
    it.calls.retain(|call| !skipped(call.branch));
    for (at, branch) in it.next.branches.iter_mut().enumerate() {
        if skipped(at) {
            branch.state = BranchState::Canceled;
        }
    }
    if it.next.owed().count() == 0 {
        it.next.state = State::Canceled;
    }
    it
}

fn decide_again(mut it: Move) -> Move {
    it.next.state = State::Canceling;
    for branch in &mut it.next.branches {
        branch.state = BranchState::Canceling;
    }
    it.required = true;
    it
}

/// What this coordinator takes a request for.
pub(crate) fn request(fault: Option<Fault>, tx: &Transaction, request: Request) -> Request {
    match (fault, request) {
        (Some(Fault::CommitsWhateverIsRecorded), Request::Commit { .. }) => Request::Commit {
            branches: tx.branches.iter().map(|it| it.spec.id.clone()).collect(),
        },
        (
            Some(Fault::ResolvesWhileTheParticipantWorks),
            Request::Resolve {
                branch,
                resolution,
                overdue,
                recorded: _,
            },
        ) => Request::Resolve {
            branch,
            resolution,
            overdue,
            recorded: None,
        },
        (_, request) => request,
    }
}

/// What is told of a transaction.
pub(crate) fn outcome(fault: Option<Fault>, tx: &Transaction) -> Outcome {
    match (fault, tx.state) {
        (Some(Fault::ReadsMixedAsFailed), State::Mixed(_)) => Outcome::Failed,
        _ => tx.outcome(),
    }
}

/// The same branch id with other content: the content that came last is taken.
pub(crate) fn merged(fault: Option<Fault>, tx: &Transaction, request: &Request) -> Option<Move> {
    let (Some(Fault::MergesOtherContent), Request::AddBranch(spec)) = (fault, request) else {
        return None;
    };
    let at = tx.position(&spec.id)?;
    let mut next = tx.clone();
    next.branches[at].spec = spec.clone();
    Some(Move {
        next,
        required: true,
        calls: Vec::new(),
    })
}
