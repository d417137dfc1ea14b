//! A transaction with all its branches, ready to be submitted, as often as need be.

use std::time::{Duration, SystemTime};

use prost::{Message, bytes::Bytes};

use super::{
    branch::Branch,
    options::{self, Options, PROTECTION_DEFAULT},
    resend::Until,
};
use crate::{
    proto::{
        participant::v1::Payload,
        v1::{BranchSpec, SubmitTransactionRequest},
    },
    times::span,
};

/// How long a call waits for its outcome, unless told otherwise.
pub const WAIT_DEFAULT: Duration = Duration::from_secs(30);

/// A transaction to submit. Submitting the same one again is safe: its id makes it run once.
#[derive(Clone, Debug, PartialEq)]
pub struct Submit {
    id: String,
    options: Options,
    branches: Vec<BranchSpec>,
    wait: Duration,
    expires_at: SystemTime,
}

impl Submit {
    /// A transaction by this name, 1 to 128 of `[A-Za-z0-9._:-]`.
    ///
    /// The id is what makes a repeated submission harmless, so derive it from the work (the order's
    /// number, say), not from chance: whoever comes back after a crash must find the same one.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            options: Options::new(),
            branches: Vec::new(),
            wait: WAIT_DEFAULT,
            expires_at: SystemTime::now() + PROTECTION_DEFAULT,
        }
    }

    /// A transaction from an encoded `tercet.v1.SubmitTransactionRequest`, for tools that read it
    /// from a file. Its `wait_timeout` and `submit_expire_time` count where it has them.
    ///
    /// # Errors
    /// When the bytes are no such message.
    pub fn decode(request: &[u8]) -> Result<Self, prost::DecodeError> {
        let request = SubmitTransactionRequest::decode(request)?;
        let default = Self::new(request.transaction_id);
        let wait = request.wait_timeout.and_then(span);
        let expires_at = request
            .submit_expire_time
            .and_then(|time| time.try_into().ok());
        Ok(Self {
            options: request.options.unwrap_or_default().into(),
            branches: request.branches,
            wait: wait.unwrap_or(default.wait),
            expires_at: expires_at.unwrap_or(default.expires_at),
            ..default
        })
    }

    /// The id it was given.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Replaces all options set so far.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    fn with(mut self, change: impl FnOnce(Options) -> Options) -> Self {
        self.options = change(self.options);
        self
    }

    /// See [`Options::transaction_type`].
    #[must_use]
    pub fn transaction_type(self, name: impl Into<String>) -> Self {
        self.with(|options| options.transaction_type(name))
    }

    /// See [`Options::business_key`].
    #[must_use]
    pub fn business_key(self, key: impl Into<String>) -> Self {
        self.with(|options| options.business_key(key))
    }

    /// See [`Options::label`].
    #[must_use]
    pub fn label(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.with(|options| options.label(key, value))
    }

    /// See [`Options::switch`].
    #[must_use]
    pub fn switch(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.with(|options| options.switch(key, value))
    }

    /// See [`Options::two_state`].
    #[must_use]
    pub fn two_state(self) -> Self {
        self.with(Options::two_state)
    }

    /// See [`Options::three_state`].
    #[must_use]
    pub fn three_state(self) -> Self {
        self.with(Options::three_state)
    }

    /// See [`Options::accepted`].
    #[must_use]
    pub fn accepted(self) -> Self {
        self.with(Options::accepted)
    }

    /// See [`Options::timeout`].
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|options| options.timeout(timeout))
    }

    /// See [`Options::try_timeout`].
    #[must_use]
    pub fn try_timeout(self, timeout: Duration) -> Self {
        self.with(|options| options.try_timeout(timeout))
    }

    /// How long `submit` may wait for the outcome; by default 30 s. The coordinator answers
    /// PROCESSING after 60 s at the latest; wait on with [`Processing::wait`](super::Processing::wait).
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// The time after which this submission may no longer be accepted, wherever a copy of it was
    /// held up: by default a day after [`Submit::new`], at most the coordinator's retention (7 days)
    /// ahead. The coordinator refuses what arrives later, and nothing is sent later.
    ///
    /// Who keeps submissions in a database of its own and may come back after days should keep this
    /// time beside the id.
    #[must_use]
    pub fn expires_at(mut self, time: SystemTime) -> Self {
        self.expires_at = time;
        self
    }

    /// Adds a branch: a participant by its name in the coordinator's configuration, one of its
    /// resources, and the request for it.
    #[must_use]
    pub fn branch<M: Message>(
        self,
        participant: impl Into<String>,
        resource: impl Into<String>,
        request: &M,
    ) -> Self {
        self.with_branch(Branch::new(
            participant,
            resource,
            Payload::message(request),
        ))
    }

    /// As [`Submit::branch`], with JSON text as the request.
    #[must_use]
    pub fn branch_json(
        self,
        participant: impl Into<String>,
        resource: impl Into<String>,
        json: impl Into<String>,
    ) -> Self {
        self.with_branch(Branch::new(participant, resource, Payload::json(json)))
    }

    /// As [`Submit::branch`], with any bytes as the request.
    #[must_use]
    pub fn branch_raw(
        self,
        participant: impl Into<String>,
        resource: impl Into<String>,
        bytes: impl Into<Bytes>,
    ) -> Self {
        self.with_branch(Branch::new(participant, resource, Payload::raw("", bytes)))
    }

    /// Adds a branch with an id, a limit or a target of its own.
    #[must_use]
    pub fn with_branch(mut self, branch: Branch) -> Self {
        self.branches.push(branch.into_message());
        self
    }

    pub(crate) fn until(&self, now: SystemTime) -> Until {
        options::until(self.wait, self.expires_at, now)
    }

    pub(crate) fn to_message(&self, wait: Duration) -> SubmitTransactionRequest {
        SubmitTransactionRequest {
            transaction_id: self.id.clone(),
            options: Some(self.options.to_message()),
            branches: self.branches.clone(),
            wait_timeout: Some(options::duration(wait)),
            validate_only: false,
            submit_expire_time: Some(self.expires_at.into()),
        }
    }
}
