//! Looking at transactions: one, many, their number, their history; and waiting for one to end.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tonic::{Streaming, transport::Channel};

use super::{
    Client, Error, Outcome, Transaction, Watch,
    options::duration,
    resend::{MARGIN, backoff, from_now},
    with_deadline,
};
use crate::proto::v1::{
    CountTransactionsRequest, GetTransactionRequest, ListTransactionEventsRequest,
    ListTransactionsRequest, TransactionEvent, TransactionView, WaitTransactionRequest,
    WatchTransactionRequest, WatchTransactionResponse,
    coordinator_service_client::CoordinatorServiceClient,
};

/// Reading takes milliseconds; whoever waits this long would rather know.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Short enough for a connection that died unnoticed to be left in good time.
const POLL_MAX: Duration = Duration::from_secs(20);

/// Some of the transactions that match a filter.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// Without their payloads.
    pub transactions: Vec<Transaction>,
    /// Gives the next page; none after the last one.
    pub next_page_token: Option<String>,
}

/// How many transactions match a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// As many as were counted.
    pub count: u64,
    /// False: there are at least so many.
    pub is_exact: bool,
}

impl Client {
    /// The transaction by this id, without its branches' payloads.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason `TRANSACTION_NOT_FOUND`: the coordinator doesn't know it
    /// now, which is not to say that it won't, while a submission may still be on its way.
    pub async fn get(&self, id: &str) -> Result<Transaction, Error> {
        self.view(id, TransactionView::Basic).await
    }

    /// The transaction by this id, with its branches' payloads.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn get_full(&self, id: &str) -> Result<Transaction, Error> {
        self.view(id, TransactionView::Full).await
    }

    async fn view(&self, id: &str, view: TransactionView) -> Result<Transaction, Error> {
        let request = GetTransactionRequest {
            transaction_id: id.to_owned(),
            view: view.into(),
        };
        let reply = self.rpc().get_transaction(read(request)).await?;
        let transaction = super::present(reply.into_inner().transaction)?;
        Ok(Transaction(transaction))
    }

    /// Waits for the outcome of a transaction, through outages of the coordinator, and answers
    /// [`Outcome::Processing`] if `timeout` passes first.
    ///
    /// # Errors
    /// [`Error::Refused`], as [`Client::get`].
    pub async fn wait(&self, id: &str, timeout: Duration) -> Result<Outcome, Error> {
        let until = from_now(timeout);
        let mut rounds = 0;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let poll = left.min(POLL_MAX);
            let started = Instant::now();
            let outcome = match self.poll(id, poll).await {
                Ok(outcome) => outcome,
                Err(error) if error.is_passing() => Outcome::unknown(self, id, error),
                Err(error) => return Err(error),
            };
            if !matches!(outcome, Outcome::Processing(_)) {
                return Ok(outcome);
            }
            // Who answers earlier than asked, with nothing, is not asked again at once.
            rounds = if started.elapsed() < poll {
                rounds + 1
            } else {
                0
            };
            let pause = if rounds > 0 {
                backoff(rounds)
            } else {
                Duration::ZERO
            };
            if Instant::now() + pause >= until {
                return Ok(outcome);
            }
            sleep(pause).await;
        }
    }

    async fn poll(&self, id: &str, wait: Duration) -> Result<Outcome, Error> {
        let request = WaitTransactionRequest {
            transaction_id: id.to_owned(),
            timeout: Some(duration(wait)),
        };
        let mut rpc = self.rpc();
        let reply = rpc.wait_transaction(with_deadline(request, wait));
        let late = |_| Error::indeterminate(tonic::Code::DeadlineExceeded, "no reply in time");
        let reply = tokio::time::timeout(wait + MARGIN, reply)
            .await
            .map_err(late)??;
        let transaction = super::present(reply.into_inner().transaction)?;
        Ok(Outcome::new(self, transaction))
    }

    /// Follows a transaction from a snapshot of it to its end.
    #[must_use]
    pub fn watch(&self, id: &str) -> Watch {
        Watch::new(self.clone(), id.to_owned())
    }

    pub(crate) async fn open_watch(
        &self,
        request: WatchTransactionRequest,
    ) -> Result<Streaming<WatchTransactionResponse>, Error> {
        // Without a deadline: it may last for days.
        let reply = self.rpc().watch_transaction(request).await?;
        Ok(reply.into_inner())
    }

    /// Some of the transactions that match `filter` (`field (=|!=|<|>) value`, joined by AND;
    /// empty: all), at most `page_size` (0: 50; at most 500), from where `page_token` left off.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason `FILTER_INVALID` or `PAGE_TOKEN_INVALID`.
    pub async fn list(
        &self,
        filter: &str,
        page_size: u16,
        page_token: Option<&str>,
    ) -> Result<Page, Error> {
        let request = ListTransactionsRequest {
            page_size: page_size.into(),
            page_token: page_token.unwrap_or_default().to_owned(),
            filter: filter.to_owned(),
            view: TransactionView::Basic.into(),
        };
        let reply = self
            .rpc()
            .list_transactions(read(request))
            .await?
            .into_inner();
        Ok(Page {
            transactions: reply.transactions.into_iter().map(Transaction).collect(),
            next_page_token: Some(reply.next_page_token).filter(|token| !token.is_empty()),
        })
    }

    /// How many transactions match `filter`, as in [`Client::list`].
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason `FILTER_INVALID`.
    pub async fn count(&self, filter: &str) -> Result<Count, Error> {
        let request = CountTransactionsRequest {
            filter: filter.to_owned(),
        };
        let reply = self
            .rpc()
            .count_transactions(read(request))
            .await?
            .into_inner();
        Ok(Count {
            count: u64::try_from(reply.count).unwrap_or_default(),
            is_exact: reply.exact,
        })
    }

    /// All that happened to a transaction, in order.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn events(&self, id: &str) -> Result<Vec<TransactionEvent>, Error> {
        let mut events = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListTransactionEventsRequest {
                transaction_id: id.to_owned(),
                page_size: 500,
                page_token,
            };
            let reply = self.rpc().list_transaction_events(read(request)).await?;
            let reply = reply.into_inner();
            events.extend(reply.events);
            if reply.next_page_token.is_empty() {
                return Ok(events);
            }
            page_token = reply.next_page_token;
        }
    }

    fn rpc(&self) -> CoordinatorServiceClient<Channel> {
        self.rpc.clone()
    }
}

fn read<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(READ_TIMEOUT);
    request
}
