//! CoordinatorService: parse, ask the engine, reply.
//!
//! A handler's future is dropped when its caller goes away, so none changes state by itself: the
//! engine's drivers do.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::BoxStream};
use prost::Message as _;
use tercet_core::ids::TransactionId;
use tonic::{Request, Response, Status, metadata::MetadataMap};

use super::{
    arrival::Arrival,
    deadline, events,
    filter::Filter,
    limits::Limits,
    list::{self, Taken},
    page::{self, Question},
    parse,
    render::{self, View},
    watch,
};
use crate::{
    engine::{Engine, EngineError, NewTransaction, Room},
    proto::tercet::v1::{self as pb, coordinator_service_server::CoordinatorService},
    store::Record,
};

type Answer<T> = Result<Response<T>, Status>;

/// The service.
#[derive(Clone)]
pub struct Coordinator {
    engine: Engine,
    limits: Arc<Limits>,
}

impl Coordinator {
    pub(super) fn new(engine: Engine, limits: Limits) -> Self {
        Self {
            engine,
            limits: Arc::new(limits),
        }
    }

    /// Room for a new transaction, if there is any, and when it is its turn.
    pub(super) async fn room(&self) -> Option<Room> {
        self.engine.room().await
    }

    pub(super) async fn submit(
        &self,
        room: Option<Room>,
        metadata: &MetadataMap,
        request: pb::SubmitTransactionRequest,
    ) -> Result<pb::SubmitTransactionResponse, Status> {
        let submit = parse::submit(request, &self.arrival(metadata), &self.limits)?;
        let transaction = if submit.validate_only {
            self.validate(&submit.new)?
        } else {
            let wait = self.wait(submit.wait, metadata);
            shown(&*self.engine.submit_in(room, submit.new, wait).await?)
        };
        Ok(pb::SubmitTransactionResponse {
            transaction: Some(transaction),
        })
    }

    fn wait(&self, asked: Option<Duration>, metadata: &MetadataMap) -> Duration {
        deadline::wait(asked, metadata, &self.limits)
    }

    fn arrival(&self, metadata: &MetadataMap) -> Arrival {
        Arrival::new(self.engine.now_ms(), metadata)
    }

    /// What a caller is told for whose transaction there is no room, unless it is known. An id that can't be
    /// read is let through, to be told with everything else.
    pub(super) fn refuse_unknown(&self, id: &str) -> Result<(), EngineError> {
        let id = TransactionId::parse(id);
        id.map_or(Ok(()), |id| self.engine.refuse_unknown(&id))
    }

    /// What a Submit would be told, without starting anything.
    fn validate(&self, new: &NewTransaction) -> Result<pb::Transaction, Status> {
        match self.engine.record(&new.id) {
            Ok(record) => {
                // An id that was forbidden before its Submit came has no digest, and takes any.
                let same = record.origin.digest.is_none_or(|it| it == new.digest);
                if !same {
                    return Err(EngineError::IdReused(new.id.clone()).into());
                }
                Ok(shown(&record))
            }
            Err(EngineError::NotFound(id)) => {
                let late_ms = new
                    .submit_expire_ms
                    .map_or(0, |it| self.engine.now_ms() - it);
                if let Ok(late_ms @ 1..) = u64::try_from(late_ms) {
                    return Err(EngineError::SubmitExpired { id, late_ms }.into());
                }
                self.engine.check(&new.branches)?;
                Ok(render::validated(new))
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[tonic::async_trait]
impl CoordinatorService for Coordinator {
    type WatchTransactionStream = BoxStream<'static, watch::Reply>;

    async fn submit_transaction(
        &self,
        request: Request<pb::SubmitTransactionRequest>,
    ) -> Answer<pb::SubmitTransactionResponse> {
        let (metadata, _, request) = request.into_parts();
        let room = self.room().await;
        let answer = self.submit(room, &metadata, request).await;
        answer.map(Response::new)
    }

    async fn begin_transaction(
        &self,
        request: Request<pb::BeginTransactionRequest>,
    ) -> Answer<pb::BeginTransactionResponse> {
        let (metadata, _, request) = request.into_parts();
        let room = self.room().await;
        if room.is_none() {
            self.refuse_unknown(&request.transaction_id)?;
        }
        let new = parse::begin(request, &self.arrival(&metadata), &self.limits)?;
        let record = self.engine.begin_in(room, new).await?;
        Ok(Response::new(pb::BeginTransactionResponse {
            transaction: Some(shown(&record)),
        }))
    }

    async fn try_branch(
        &self,
        request: Request<pb::TryBranchRequest>,
    ) -> Answer<pb::TryBranchResponse> {
        let (metadata, _, request) = request.into_parts();
        let request = parse::try_branch(request, &self.limits)?;
        let wait = self.wait(request.wait, &metadata);
        let id = request.id.clone();
        let spec = parse::into_spec(request, &*self.engine.record(&id)?, &self.limits)?;
        let branch = spec.id.clone();
        let record = self.engine.try_branch(&id, spec, wait).await?;
        Ok(Response::new(render::tried(&record, &branch)))
    }

    async fn commit_transaction(
        &self,
        request: Request<pb::CommitTransactionRequest>,
    ) -> Answer<pb::CommitTransactionResponse> {
        let (metadata, _, request) = request.into_parts();
        let commit = parse::commit(&request, &self.limits)?;
        let wait = self.wait(commit.wait, &metadata);
        let record = self
            .engine
            .commit(&commit.id, commit.branches, wait)
            .await?;
        Ok(Response::new(pb::CommitTransactionResponse {
            transaction: Some(shown(&record)),
        }))
    }

    async fn rollback_transaction(
        &self,
        request: Request<pb::RollbackTransactionRequest>,
    ) -> Answer<pb::RollbackTransactionResponse> {
        let (metadata, _, request) = request.into_parts();
        let rollback = parse::rollback(&request, &self.limits)?;
        let wait = self.wait(rollback.wait, &metadata);
        let record = self
            .engine
            .rollback(&rollback.id, rollback.cause, wait)
            .await?;
        Ok(Response::new(pb::RollbackTransactionResponse {
            transaction: Some(shown(&record)),
        }))
    }

    async fn get_transaction(
        &self,
        request: Request<pb::GetTransactionRequest>,
    ) -> Answer<pb::GetTransactionResponse> {
        let request = request.into_inner();
        let (id, view) = parse::get(&request)?;
        let record = self.engine.record(&id)?;
        Ok(Response::new(pb::GetTransactionResponse {
            transaction: Some(render::transaction(&record, view)),
        }))
    }

    async fn wait_transaction(
        &self,
        request: Request<pb::WaitTransactionRequest>,
    ) -> Answer<pb::WaitTransactionResponse> {
        let (metadata, _, request) = request.into_parts();
        let (id, asked) = parse::wait(&request)?;
        let record = self.engine.wait(&id, self.wait(asked, &metadata)).await?;
        Ok(Response::new(pb::WaitTransactionResponse {
            transaction: Some(shown(&record)),
        }))
    }

    async fn watch_transaction(
        &self,
        request: Request<pb::WatchTransactionRequest>,
    ) -> Answer<Self::WatchTransactionStream> {
        let request = request.into_inner();
        let id = parse::transaction_id(&request.transaction_id)?;
        let follow = self.engine.follow(&id)?;
        let stream = watch::watch(self.engine.clone(), follow, request.after_revision)?;
        Ok(Response::new(stream.boxed()))
    }

    async fn list_transactions(
        &self,
        request: Request<pb::ListTransactionsRequest>,
    ) -> Answer<pb::ListTransactionsResponse> {
        let request = request.into_inner();
        let question = Question::Transactions(&request.filter);
        let list = parse::list(&request, question, &self.limits)?;
        let before = list.place.map(|(cursor, _)| cursor);
        let mut transactions = Vec::new();
        let mut page_bytes = 0;
        let take = |record: &Record| {
            let transaction = render::transaction(record, list.view);
            page_bytes += transaction.encoded_len();
            if page_bytes > self.limits.page_bytes_max && !transactions.is_empty() {
                return Taken::Not;
            }
            transactions.push(transaction);
            if transactions.len() == list.size {
                return Taken::Last;
            }
            Taken::More
        };
        let next = list::search(&self.engine, &list.filter, before, &self.limits, take).await?;
        let token = next.map(|cursor| page::token(question, (cursor, 0)));
        Ok(Response::new(pb::ListTransactionsResponse {
            transactions,
            next_page_token: token.unwrap_or_default(),
        }))
    }

    async fn count_transactions(
        &self,
        request: Request<pb::CountTransactionsRequest>,
    ) -> Answer<pb::CountTransactionsResponse> {
        let filter = Filter::parse(&request.into_inner().filter)?;
        let mut count = 0;
        let take = |_: &Record| {
            count += 1;
            Taken::More
        };
        let next = list::search(&self.engine, &filter, None, &self.limits, take).await?;
        Ok(Response::new(pb::CountTransactionsResponse {
            count,
            exact: next.is_none(),
        }))
    }

    async fn list_transaction_events(
        &self,
        request: Request<pb::ListTransactionEventsRequest>,
    ) -> Answer<pb::ListTransactionEventsResponse> {
        let request = request.into_inner();
        let question = Question::Events(&request.transaction_id);
        let (id, size, place) = parse::list_events(&request, question, &self.limits)?;
        let record = self.engine.record(&id)?;
        let (lines, next) = events::page(&record.history, place, size);
        let token = next.map(|place| page::token(question, place));
        Ok(Response::new(pb::ListTransactionEventsResponse {
            events: lines
                .iter()
                .map(|line| render::event(&record, line))
                .collect(),
            next_page_token: token.unwrap_or_default(),
        }))
    }

    async fn report_branch(
        &self,
        request: Request<pb::ReportBranchRequest>,
    ) -> Answer<pb::ReportBranchResponse> {
        let it = parse::report(request.into_inner(), &self.limits)?;
        let reported = self
            .engine
            .report(&it.id, it.token, it.branch, it.operation, it.report);
        reported.await?;
        Ok(Response::new(pb::ReportBranchResponse {}))
    }
}

fn shown(record: &Record) -> pb::Transaction {
    render::transaction(record, View::Basic)
}
