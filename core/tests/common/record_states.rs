//! All that a Query can say.

use tercet_core::operation::RecordState;

pub(crate) const RECORD_STATES: [RecordState; 10] = [
    RecordState::Unknown,
    RecordState::Trying,
    RecordState::Tried,
    RecordState::TryFailed,
    RecordState::Confirming,
    RecordState::Confirmed,
    RecordState::ConfirmFailed,
    RecordState::Canceling,
    RecordState::Canceled,
    RecordState::CancelFailed,
];
