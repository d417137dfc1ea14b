//! Requests that only read.

use std::time::Duration;

use tercet_core::ids::TransactionId;

use super::{
    super::{
        faults::Faults,
        filter::Filter,
        limits::Limits,
        page::{self, Place, Question},
        render::View,
    },
    field,
};
use crate::proto::tercet::v1 as pb;

/// A ListTransactionsRequest.
#[derive(Debug)]
pub(in super::super) struct List {
    pub(in super::super) filter: Filter,
    pub(in super::super) size: usize,
    pub(in super::super) place: Option<Place>,
    pub(in super::super) view: View,
}

pub(in super::super) fn list(
    request: &pb::ListTransactionsRequest,
    question: Question<'_>,
    limits: &Limits,
) -> Result<List, Faults> {
    let mut faults = Faults::default();
    let filter = faults.take(Filter::parse(&request.filter));
    let size = faults.take(page::size(request.page_size, limits));
    let place = faults.take(page::place(question, &request.page_token));
    let view = view(&mut faults, request.view);
    let parsed = filter.zip(size).zip(place).zip(view);
    let parsed = parsed.map(|(((filter, size), place), view)| List {
        filter,
        size,
        place,
        view,
    });
    faults.finish(parsed)
}

/// The id of a ListTransactionEventsRequest, how many events, and where they begin.
pub(in super::super) fn list_events(
    request: &pb::ListTransactionEventsRequest,
    question: Question<'_>,
    limits: &Limits,
) -> Result<(TransactionId, usize, Option<Place>), Faults> {
    let mut faults = Faults::default();
    let id = field::transaction_id(&mut faults, &request.transaction_id);
    let size = faults.take(page::size(request.page_size, limits));
    let place = faults.take(page::place(question, &request.page_token));
    let parsed = id.zip(size).zip(place);
    faults.finish(parsed.map(|((id, size), place)| (id, size, place)))
}

/// The id and the view of a GetTransactionRequest.
pub(in super::super) fn get(
    request: &pb::GetTransactionRequest,
) -> Result<(TransactionId, View), Faults> {
    let mut faults = Faults::default();
    let id = field::transaction_id(&mut faults, &request.transaction_id);
    let view = view(&mut faults, request.view);
    faults.finish(id.zip(view))
}

/// The id and the wait of a WaitTransactionRequest.
pub(in super::super) fn wait(
    request: &pb::WaitTransactionRequest,
) -> Result<(TransactionId, Option<Duration>), Faults> {
    let mut faults = Faults::default();
    let id = field::transaction_id(&mut faults, &request.transaction_id);
    let wait = field::wait(&mut faults, "timeout", request.timeout.as_ref());
    faults.finish(id.zip(wait))
}

/// The id of a request that has little else.
pub(in super::super) fn transaction_id(text: &str) -> Result<TransactionId, Faults> {
    let mut faults = Faults::default();
    let id = field::transaction_id(&mut faults, text);
    faults.finish(id)
}

fn view(faults: &mut Faults, given: i32) -> Option<View> {
    match pb::TransactionView::try_from(given) {
        Ok(pb::TransactionView::Unspecified | pb::TransactionView::Basic) => Some(View::Basic),
        Ok(pb::TransactionView::Full) => Some(View::Full),
        Err(_) => {
            let why = format_args!("{given} is no TransactionView; give 0 to 2");
            faults.invalid("view", why);
            None
        }
    }
}
