//! A transaction whose branches are added one by one, each request perhaps made of the results
//! before it, and that is committed at the end.

use std::{collections::BTreeSet, time::Duration};

use prost::Message;

use super::{
    Client, Error, Outcome,
    branch::Branch,
    options::{Options, PROTECTION_DEFAULT, duration, until},
    outcome::Transaction,
    resend::{Answer, Until, resend},
    submit::WAIT_DEFAULT,
};
use crate::proto::{
    participant::v1::{Failure, Outcome as OutcomeCode, Payload},
    v1::{
        BeginTransactionRequest, CommitTransactionRequest, ErrorReason, TryBranchRequest,
        TryBranchResponse,
    },
};

/// An interactive transaction.
///
/// Dropping it commits nothing: what isn't committed is rolled back when the transaction's timeout
/// (by default 30 s) passes; [`Interactive::rollback`] does so at once.
#[derive(Debug)]
pub struct Interactive {
    client: Client,
    id: String,
    wait: Duration,
    /// Every branch that is, or may be, recorded at the coordinator.
    branch_ids: BTreeSet<String>,
}

impl Interactive {
    pub(crate) async fn begin(client: &Client, id: &str, options: &Options) -> Result<Self, Error> {
        let now = client.clock.now();
        let expires_at = now + PROTECTION_DEFAULT;
        let request = BeginTransactionRequest {
            transaction_id: id.to_owned(),
            options: Some(options.to_message()),
            submit_expire_time: Some(expires_at.into()),
        };
        let answer = resend(until(WAIT_DEFAULT, expires_at, now), |wait| {
            client.begin_transaction(request.clone(), wait)
        });
        match answer.await {
            Answer::Reply(_) => Ok(Self {
                client: client.clone(),
                id: id.to_owned(),
                wait: WAIT_DEFAULT,
                branch_ids: BTreeSet::new(),
            }),
            Answer::Refused(refused) => Err(refused.into()),
            Answer::Unknown(cause) => Err(cause),
        }
    }

    /// The transaction's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How long each call from here on may wait for its result; by default 30 s.
    pub fn set_wait(&mut self, wait: Duration) {
        self.wait = wait;
    }

    /// Tries one more branch, and says what its participant answered.
    ///
    /// Repeating it with the same id and content is safe, and is what to do after an error or
    /// [`Tried::Processing`], if the branch is meant to be part of the commit.
    ///
    /// # Errors
    /// [`Error::Refused`]: the branch was not recorded. [`Error::Indeterminate`]: it may have been,
    /// and a commit will include it.
    pub async fn try_branch<M: Message>(
        &mut self,
        branch_id: &str,
        participant: &str,
        resource: &str,
        request: &M,
    ) -> Result<Tried, Error> {
        let branch = Branch::new(participant, resource, Payload::message(request));
        self.try_any(branch_id, branch).await
    }

    /// As [`Interactive::try_branch`], for a payload, target or limit that it has no words for.
    ///
    /// # Errors
    /// As [`Interactive::try_branch`].
    pub async fn try_any(&mut self, branch_id: &str, branch: Branch) -> Result<Tried, Error> {
        // Before it is sent: a future that is dropped half way leaves a branch that may be recorded.
        let is_new = self.branch_ids.insert(branch_id.to_owned());
        let branch = branch.id(branch_id).into_message();
        let answer = resend(Until::wait(self.wait), |wait| {
            let request = TryBranchRequest {
                transaction_id: self.id.clone(),
                branch: Some(branch.clone()),
                wait_timeout: Some(duration(wait)),
            };
            self.client.try_branch(request, wait)
        });
        match answer.await {
            Answer::Reply(reply) => Ok(Tried::from(reply)),
            Answer::Refused(refused) => {
                if is_new && !refused.is(ErrorReason::BranchIdReused) {
                    self.branch_ids.remove(branch_id);
                }
                Err(refused.into())
            }
            Answer::Unknown(cause) => Err(cause),
        }
    }

    /// Asks to commit exactly the branches that were tried through this value, and waits for the
    /// outcome. Repeating it is safe.
    ///
    /// # Errors
    /// [`Error::Refused`] only: the commit was refused for certain. With the reason
    /// `BRANCH_SET_MISMATCH` the coordinator has recorded other branches than these: repeat those
    /// whose Try had no answer, or roll back.
    pub async fn commit(&self) -> Result<Outcome, Error> {
        let answer = resend(Until::wait(self.wait), |wait| {
            let request = CommitTransactionRequest {
                transaction_id: self.id.clone(),
                branch_ids: self.branch_ids.iter().cloned().collect(),
                wait_timeout: Some(duration(wait)),
            };
            self.client.commit_transaction(request, wait)
        });
        match answer.await {
            Answer::Reply(transaction) => Ok(Outcome::new(&self.client, transaction)),
            Answer::Refused(refused) => Err(refused.into()),
            Answer::Unknown(cause) => Ok(Outcome::unknown(&self.client, &self.id, cause)),
        }
    }

    /// Rolls back, and waits for the outcome. Repeating it is safe.
    ///
    /// # Errors
    /// As [`Client::rollback`].
    pub async fn rollback(&self, reason: &str) -> Result<Outcome, Error> {
        self.client.rollback(&self.id, reason, self.wait).await
    }

    /// The transaction as it stands.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn get(&self) -> Result<Transaction, Error> {
        self.client.get(&self.id).await
    }
}

/// What a participant answered to a Try.
#[derive(Clone, Debug, PartialEq)]
pub enum Tried {
    /// Reserved; this is its result.
    Success(Payload),
    /// Refused; the whole transaction is rolled back.
    Failed(Failure),
    /// Not known yet; try the same again to wait on.
    Processing,
}

impl From<TryBranchResponse> for Tried {
    fn from(reply: TryBranchResponse) -> Self {
        match reply.outcome() {
            OutcomeCode::Success => Self::Success(reply.result.unwrap_or_default()),
            OutcomeCode::Failed => Self::Failed(reply.failure.unwrap_or_default()),
            OutcomeCode::Processing | OutcomeCode::Unspecified => Self::Processing,
        }
    }
}

impl Tried {
    /// The result as a message, if the Try succeeded.
    ///
    /// # Errors
    /// [`NotTried`] says why there is none.
    pub fn success<M: Message + Default>(self) -> Result<M, NotTried> {
        match self {
            Self::Success(payload) => M::decode(payload.value).map_err(NotTried::Unreadable),
            Self::Failed(failure) => Err(NotTried::Failed(Box::new(failure))),
            Self::Processing => Err(NotTried::Processing),
        }
    }
}

/// Why a Try has no result to go on with.
#[derive(Debug, thiserror::Error)]
pub enum NotTried {
    /// The participant refused, so the whole transaction is rolled back.
    #[error("the participant refused: {}: {}; the transaction is rolled back", .0.reason, .0.message)]
    Failed(Box<Failure>),
    /// Nothing definite yet.
    #[error("the participant hasn't finished; try the same branch again to wait on, or roll back")]
    Processing,
    /// It succeeded, with a result of another type.
    #[error("the branch is tried, but its result is no such message: {0}")]
    Unreadable(#[source] prost::DecodeError),
}
