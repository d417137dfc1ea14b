//! One branch of a transaction: whom to call, with what.

use std::time::Duration;

use super::options::duration;
use crate::proto::{
    participant::v1::Payload,
    v1::{BranchSpec, ContractTarget, MethodTarget, branch_spec::Target},
};

/// One branch, where [`Submit::branch`](super::Submit::branch) doesn't say enough.
#[derive(Clone, Debug, PartialEq)]
pub struct Branch(BranchSpec);

impl Branch {
    /// A branch of a participant that implements the contract, by its name in the coordinator's
    /// configuration.
    #[must_use]
    pub fn new(
        participant: impl Into<String>,
        resource: impl Into<String>,
        payload: Payload,
    ) -> Self {
        let target = Target::Contract(ContractTarget {
            participant: participant.into(),
            resource: resource.into(),
        });
        Self::with_target(target, payload)
    }

    /// A branch made of existing unary methods.
    ///
    /// They must be idempotent and refuse a Try that arrives after its Cancel by themselves: there
    /// is no fence to do it for them.
    #[must_use]
    pub fn methods(methods: Methods, payload: Payload) -> Self {
        Self::with_target(Target::Methods(methods.0), payload)
    }

    fn with_target(target: Target, payload: Payload) -> Self {
        Self(BranchSpec {
            payload: Some(payload),
            target: Some(target),
            ..BranchSpec::default()
        })
    }

    /// Names it; by default a submission's branches are `b1`, `b2`, … in order.
    #[must_use]
    pub fn id(mut self, branch_id: impl Into<String>) -> Self {
        self.0.branch_id = branch_id.into();
        self
    }

    /// How long its Try may take before its answer counts as unknown; by default the
    /// transaction's.
    #[must_use]
    pub fn try_timeout(mut self, timeout: Duration) -> Self {
        self.0.try_timeout = Some(duration(timeout));
        self
    }

    pub(crate) fn into_message(self) -> BranchSpec {
        self.0
    }
}

/// Existing unary methods that stand for Try, Confirm and Cancel, each as `/package.Service/Method`.
/// They get the payload's bytes as their request.
#[derive(Clone, Debug, PartialEq)]
pub struct Methods(MethodTarget);

impl Methods {
    /// The three methods of `endpoint`: a name from the coordinator's configuration, or an address
    /// that its allow-list permits.
    #[must_use]
    pub fn new(
        endpoint: impl Into<String>,
        try_method: impl Into<String>,
        confirm_method: impl Into<String>,
        cancel_method: impl Into<String>,
    ) -> Self {
        Self(MethodTarget {
            endpoint: endpoint.into(),
            try_method: try_method.into(),
            confirm_method: confirm_method.into(),
            cancel_method: cancel_method.into(),
            ..MethodTarget::default()
        })
    }

    /// A method to ask after a call without an answer, before it is repeated.
    #[must_use]
    pub fn query(mut self, method: impl Into<String>) -> Self {
        self.0.query_method = method.into();
        self
    }

    /// Another request for Confirm than for Try.
    #[must_use]
    pub fn confirm_payload(mut self, payload: Payload) -> Self {
        self.0.confirm_payload = Some(payload);
        self
    }

    /// Another request for Cancel than for Try.
    #[must_use]
    pub fn cancel_payload(mut self, payload: Payload) -> Self {
        self.0.cancel_payload = Some(payload);
        self
    }
}
