//! What several test files share.

pub(crate) mod queries;
pub(crate) mod records;
pub(crate) mod sidecar;
pub(crate) mod subject;
