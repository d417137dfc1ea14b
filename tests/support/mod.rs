//! What several test files share.

pub(crate) mod records;
pub(crate) mod subject;
