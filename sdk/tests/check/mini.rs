//! A participant in memory, as small as the contract allows, with faults to plant in it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use tercet_sdk::proto::participant::v1::{
    BranchContext, CancelRequest, CancelResponse, ConfirmRequest, ConfirmResponse, Failure,
    Operation, Outcome, Payload, QueryRequest, QueryResponse, RecordState, TryRequest, TryResponse,
    participant_service_server::ParticipantService,
};
use tokio::time::sleep;
use tonic::{Request, Response, Status};

pub(crate) const STOCK: i64 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    RecordHidden,
    TryRunsAgain,
    TryFailsAgain,
    TryAfterConfirmReserves,
    ConfirmOnce,
    ConfirmNotRecorded,
    CancelOnce,
    CancelErasesRow,
    TryResultForgotten,
    ConfirmResultForgotten,
    /// The caller going away in the middle leaves it stuck.
    StuckWhenDropped(Operation),
    /// Looks, thinks, writes: without a lock around it.
    Unlocked(Operation),
    EmptyCancelIsError,
    EmptyCancelLeavesNothing,
    LateTryWins,
    LateTryHasOtherReason,
    ConfirmWithoutTry,
    ConfirmAfterCancel,
    CancelAfterConfirm,
    EpochIgnored,
    EpochIsFailed,
    EpochNotRaised,
    QueryRecords,
    QueryRaisesEpoch,
    ExpiryIgnored,
    CancelExpires,
    RealmIgnored,
    IdsJoined,
}

#[derive(Debug, Default)]
pub(crate) struct Stock {
    pub(crate) free: i64,
    pub(crate) held: i64,
    pub(crate) used: i64,
}

#[derive(Clone, Debug, PartialEq)]
struct Row {
    state: RecordState,
    epoch: i64,
    count: i64,
    try_result: Option<Payload>,
    confirm_result: Option<Payload>,
}

type Rows = Arc<Mutex<HashMap<(String, String, String), Row>>>;

#[derive(Debug)]
pub(crate) struct Mini {
    fault: Option<Fault>,
    is_slow: bool,
    stock: Arc<Mutex<Stock>>,
    rows: Rows,
}

/// What Try, Confirm and Cancel come to.
type Answer = Result<(Outcome, Option<Payload>, Option<Failure>), Status>;

impl Mini {
    pub(crate) fn correct() -> Self {
        let stock = Stock {
            free: STOCK,
            ..Stock::default()
        };
        Self {
            fault: None,
            is_slow: false,
            stock: Arc::new(Mutex::new(stock)),
            rows: Rows::default(),
        }
    }

    /// Its work takes a while; until then it answers PROCESSING.
    pub(crate) fn slow() -> Self {
        Self {
            is_slow: true,
            ..Self::correct()
        }
    }

    pub(crate) fn with(fault: Fault) -> Self {
        Self {
            fault: Some(fault),
            ..Self::correct()
        }
    }

    pub(crate) fn stock(&self) -> Arc<Mutex<Stock>> {
        self.stock.clone()
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn key(&self, context: &BranchContext) -> (String, String, String) {
        let context = context.clone();
        if self.is(Fault::RealmIgnored) {
            return (String::new(), context.transaction_id, context.branch_id);
        }
        if self.is(Fault::IdsJoined) {
            let joined = format!("{}:{}", context.transaction_id, context.branch_id);
            return (context.realm, joined, String::new());
        }
        (context.realm, context.transaction_id, context.branch_id)
    }

    fn row(&self, context: &BranchContext) -> Option<Row> {
        self.rows.lock().unwrap().get(&self.key(context)).cloned()
    }

    fn write(&self, context: &BranchContext, row: Row) {
        self.rows.lock().unwrap().insert(self.key(context), row);
    }

    /// The whole of one call: what is read and written in it belongs together.
    async fn call(
        &self,
        operation: Operation,
        context: Option<BranchContext>,
        count: i64,
    ) -> Answer {
        let context = context.ok_or_else(|| Status::invalid_argument("no context"))?;
        let row = self.row(&context);
        if let Some(row) = row.as_ref().filter(|row| context.epoch < row.epoch) {
            if self.is(Fault::EpochIsFailed) {
                return fail("OLD_EPOCH");
            }
            if !self.is(Fault::EpochIgnored) {
                return Err(Status::aborted(format!("the epoch is {}", row.epoch)));
            }
        }
        if self.is(Fault::Unlocked(operation)) {
            sleep(Duration::from_millis(1)).await;
        }
        if self.is(Fault::StuckWhenDropped(operation)) {
            if row.as_ref().is_some_and(|row| row.count == STUCK) {
                return Err(Status::internal("locked by nobody knows whom"));
            }
            let before = row.clone();
            self.write(
                &context,
                Row {
                    count: STUCK,
                    ..self.new_row(&context, RecordState::Trying)
                },
            );
            sleep(Duration::from_millis(2)).await;
            match before {
                Some(row) => self.write(&context, row),
                None => drop(self.rows.lock().unwrap().remove(&self.key(&context))),
            }
        }
        match operation {
            Operation::Try => self.on_try(&context, row, count),
            Operation::Confirm => self.on_confirm(&context, row),
            Operation::Cancel | Operation::Query | Operation::Unspecified => {
                self.on_cancel(&context, row)
            }
        }
    }

    fn new_row(&self, context: &BranchContext, state: RecordState) -> Row {
        Row {
            state,
            epoch: context.epoch,
            count: 0,
            try_result: None,
            confirm_result: None,
        }
    }

    fn raised(&self, context: &BranchContext, mut row: Row) -> Row {
        if !self.is(Fault::EpochNotRaised) {
            row.epoch = row.epoch.max(context.epoch);
        }
        row
    }

    fn on_try(&self, context: &BranchContext, row: Option<Row>, count: i64) -> Answer {
        let Some(row) = row else {
            return self.reserve(context, count);
        };
        let row = self.raised(context, row);
        self.write(context, row.clone());
        match row.state {
            RecordState::Canceled | RecordState::Canceling => {
                if self.is(Fault::LateTryWins) {
                    return self.reserve(context, count);
                }
                let other = self.is(Fault::LateTryHasOtherReason);
                fail(if other { "TOO_LATE" } else { "BRANCH_FENCED" })
            }
            RecordState::Trying => Ok((Outcome::Processing, None, None)),
            RecordState::Tried if self.is(Fault::TryRunsAgain) => self.reserve(context, count),
            RecordState::Tried if self.is(Fault::TryFailsAgain) => fail("DUPLICATE"),
            RecordState::Confirmed if self.is(Fault::TryAfterConfirmReserves) => {
                self.reserve(context, count)
            }
            _ => Ok((Outcome::Success, row.try_result, None)),
        }
    }

    fn reserve(&self, context: &BranchContext, count: i64) -> Answer {
        let expire_time = context
            .expire_time
            .and_then(|time| SystemTime::try_from(time).ok());
        let is_late = expire_time.is_some_and(|time| SystemTime::now() > time);
        if is_late && !self.is(Fault::ExpiryIgnored) {
            return fail("EXPIRED");
        }
        let mut stock = self.stock.lock().unwrap();
        if stock.free < count {
            return fail("OUT_OF_STOCK");
        }
        stock.free -= count;
        stock.held += count;
        // Another one each time, so that a second effect shows.
        let result = Payload::raw("", format!("place {}", stock.free));
        drop(stock);
        let row = Row {
            count,
            try_result: Some(result.clone()),
            ..self.new_row(context, RecordState::Tried)
        };
        self.finish(context, RecordState::Trying, row, Some(result))
    }

    fn on_confirm(&self, context: &BranchContext, row: Option<Row>) -> Answer {
        let Some(row) = row else {
            if self.is(Fault::ConfirmWithoutTry) {
                return Ok((Outcome::Success, None, None));
            }
            return Err(Status::failed_precondition("there was no Try"));
        };
        let row = self.raised(context, row);
        match row.state {
            RecordState::Tried => {}
            RecordState::Confirmed if !self.is(Fault::ConfirmOnce) => {
                self.write(context, row.clone());
                return Ok((Outcome::Success, row.confirm_result, None));
            }
            RecordState::Confirming => return Ok((Outcome::Processing, None, None)),
            RecordState::Canceled if self.is(Fault::ConfirmAfterCancel) => {}
            other => return Err(Status::failed_precondition(other.as_str_name())),
        }
        let mut stock = self.stock.lock().unwrap();
        stock.held -= row.count;
        stock.used += row.count;
        let result = Payload::raw("", format!("used {}", stock.used));
        drop(stock);
        if self.is(Fault::ConfirmNotRecorded) {
            return Ok((Outcome::Success, None, None));
        }
        let row = Row {
            state: RecordState::Confirmed,
            confirm_result: Some(result.clone()),
            ..row
        };
        self.finish(context, RecordState::Confirming, row, Some(result))
    }

    fn on_cancel(&self, context: &BranchContext, row: Option<Row>) -> Answer {
        let expire_time = context
            .expire_time
            .and_then(|time| SystemTime::try_from(time).ok());
        if self.is(Fault::CancelExpires) && expire_time.is_some_and(|time| SystemTime::now() > time)
        {
            return fail("EXPIRED");
        }
        let Some(row) = row else {
            if self.is(Fault::EmptyCancelIsError) {
                return Err(Status::not_found("there was no Try"));
            }
            if !self.is(Fault::EmptyCancelLeavesNothing) {
                self.write(context, self.new_row(context, RecordState::Canceled));
            }
            return Ok((Outcome::Success, None, None));
        };
        let row = self.raised(context, row);
        match row.state {
            RecordState::Trying | RecordState::Tried => {}
            RecordState::Canceled if !self.is(Fault::CancelOnce) => {
                self.write(context, row);
                return Ok((Outcome::Success, None, None));
            }
            RecordState::Canceling => return Ok((Outcome::Processing, None, None)),
            RecordState::Confirmed if self.is(Fault::CancelAfterConfirm) => {}
            other => return Err(Status::failed_precondition(other.as_str_name())),
        }
        let mut stock = self.stock.lock().unwrap();
        stock.held -= row.count;
        stock.free += row.count;
        drop(stock);
        if self.is(Fault::CancelErasesRow) {
            self.rows.lock().unwrap().remove(&self.key(context));
            return Ok((Outcome::Success, None, None));
        }
        let row = Row {
            state: RecordState::Canceled,
            ..row
        };
        self.finish(context, RecordState::Canceling, row, None)
    }

    /// Writes the row, or, when slow, first its beginning and in a while its end.
    fn finish(
        &self,
        context: &BranchContext,
        begun: RecordState,
        row: Row,
        result: Option<Payload>,
    ) -> Answer {
        if !self.is_slow {
            self.write(context, row);
            return Ok((Outcome::Success, result, None));
        }
        let beginning = Row {
            state: begun,
            try_result: row
                .try_result
                .clone()
                .filter(|_| begun != RecordState::Trying),
            confirm_result: None,
            ..row.clone()
        };
        self.write(context, beginning);
        let (rows, key) = (self.rows.clone(), self.key(context));
        tokio::spawn(async move {
            sleep(Duration::from_millis(50)).await;
            let mut rows = rows.lock().unwrap();
            // Only what it has begun: a Cancel may have come in between.
            if let Some(found) = rows.get_mut(&key).filter(|found| found.state == begun) {
                *found = Row {
                    epoch: found.epoch,
                    ..row
                };
            }
        });
        Ok((Outcome::Processing, None, None))
    }

    fn look(&self, context: &BranchContext) -> QueryResponse {
        if self.is(Fault::QueryRaisesEpoch)
            && let Some(row) = self.row(context)
        {
            self.write(context, self.raised(context, row));
        }
        let Some(row) = self.row(context).filter(|_| !self.is(Fault::RecordHidden)) else {
            if self.is(Fault::QueryRecords) {
                self.write(context, self.new_row(context, RecordState::Canceled));
            }
            return QueryResponse {
                state: RecordState::Unknown.into(),
                ..QueryResponse::default()
            };
        };
        QueryResponse {
            state: row.state.into(),
            try_result: row
                .try_result
                .filter(|_| !self.is(Fault::TryResultForgotten)),
            confirm_result: row
                .confirm_result
                .filter(|_| !self.is(Fault::ConfirmResultForgotten)),
            ..QueryResponse::default()
        }
    }
}

/// Marks a row whose caller went away.
const STUCK: i64 = -1;

fn fail(reason: &str) -> Answer {
    let failure = Failure {
        reason: reason.into(),
        ..Failure::default()
    };
    Ok((Outcome::Failed, None, Some(failure)))
}

#[tonic::async_trait]
impl ParticipantService for Mini {
    async fn r#try(&self, request: Request<TryRequest>) -> Result<Response<TryResponse>, Status> {
        let request = request.into_inner();
        let count = request
            .payload
            .map(|payload| payload.value)
            .unwrap_or_default();
        let count = std::str::from_utf8(&count)
            .ok()
            .and_then(|text| text.parse().ok());
        let count = count.ok_or_else(|| Status::invalid_argument("the payload is a number"))?;
        let (outcome, result, failure) = self.call(Operation::Try, request.context, count).await?;
        Ok(Response::new(TryResponse {
            outcome: outcome.into(),
            result,
            failure,
            retry_after: None,
        }))
    }

    async fn confirm(
        &self,
        request: Request<ConfirmRequest>,
    ) -> Result<Response<ConfirmResponse>, Status> {
        let context = request.into_inner().context;
        let (outcome, result, failure) = self.call(Operation::Confirm, context, 0).await?;
        Ok(Response::new(ConfirmResponse {
            outcome: outcome.into(),
            result,
            failure,
            retry_after: None,
        }))
    }

    async fn cancel(
        &self,
        request: Request<CancelRequest>,
    ) -> Result<Response<CancelResponse>, Status> {
        let context = request.into_inner().context;
        let (outcome, _, failure) = self.call(Operation::Cancel, context, 0).await?;
        Ok(Response::new(CancelResponse {
            outcome: outcome.into(),
            failure,
            retry_after: None,
        }))
    }

    async fn query(
        &self,
        request: Request<QueryRequest>,
    ) -> Result<Response<QueryResponse>, Status> {
        let context = request.into_inner().context;
        let context = context.ok_or_else(|| Status::invalid_argument("no context"))?;
        Ok(Response::new(self.look(&context)))
    }
}
