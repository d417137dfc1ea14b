//! Whether a coordinator that was killed has kept its word.

use std::time::{Duration, Instant};

use anyhow::bail;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tercet_sdk::proto::v1::{
    GetTransactionRequest, TransactionState, coordinator_service_client::CoordinatorServiceClient,
};
use tonic::{Code, transport::Channel};

use crate::{calls::connect, load::Done, processes::Coordinator};

const LOOKUPS_AT_ONCE: usize = 128;
/// How long what was in flight may take to end after the restart.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
const SETTLE_INTERVAL: Duration = Duration::from_millis(50);

/// Looks up every transaction of these with a coordinator that was started where another was killed:
/// what was acknowledged must be CONFIRMED, what was not must come to an end. Says how many are CONFIRMED.
pub async fn kept(coordinator: &Coordinator, all: &[&Done]) -> anyhow::Result<u64> {
    let client = CoordinatorServiceClient::new(connect(&coordinator.url).await?);
    let acknowledged = all.iter().flat_map(|done| done.acknowledged_ids());
    let lost: Vec<String> = stream::iter(acknowledged)
        .map(|id| confirmed_or_lost(client.clone(), id))
        .buffer_unordered(LOOKUPS_AT_ONCE)
        .try_filter_map(|lost| async { Ok(lost) })
        .try_collect()
        .await?;
    let total: u64 = all.iter().map(|done| done.acknowledged()).sum();
    if let Some(first) = lost.first() {
        let lost = lost.len();
        bail!("LOST: {lost} of {total} acknowledged transactions, for example {first}");
    }
    let unanswered = all.iter().flat_map(|done| done.unanswered_ids());
    let settled: Vec<bool> = stream::iter(unanswered)
        .map(|id| settled_as_confirmed(client.clone(), id))
        .buffer_unordered(LOOKUPS_AT_ONCE)
        .try_collect()
        .await?;
    let confirmed = settled.into_iter().filter(|confirmed| *confirmed).count();
    Ok(total + u64::try_from(confirmed)?)
}

/// None when it is CONFIRMED, else what it is instead.
async fn confirmed_or_lost(
    client: CoordinatorServiceClient<Channel>,
    id: String,
) -> anyhow::Result<Option<String>> {
    Ok(match state(client, &id).await? {
        Some(TransactionState::Confirmed) => None,
        Some(other) => Some(format!("{id}, which is {}", other.as_str_name())),
        None => Some(format!("{id}, which is not known")),
    })
}

/// Whether it ended CONFIRMED, once it has ended; the request may as well never have arrived.
async fn settled_as_confirmed(
    client: CoordinatorServiceClient<Channel>,
    id: String,
) -> anyhow::Result<bool> {
    let begun = Instant::now();
    loop {
        match state(client.clone(), &id).await? {
            None | Some(TransactionState::Canceled) => return Ok(false),
            Some(TransactionState::Confirmed) => return Ok(true),
            Some(other) if begun.elapsed() > SETTLE_TIMEOUT => {
                let other = other.as_str_name();
                bail!("{id} is still {other}, {SETTLE_TIMEOUT:?} after the restart");
            }
            Some(_) => tokio::time::sleep(SETTLE_INTERVAL).await,
        }
    }
}

async fn state(
    mut client: CoordinatorServiceClient<Channel>,
    id: &str,
) -> anyhow::Result<Option<TransactionState>> {
    let request = GetTransactionRequest {
        transaction_id: id.to_owned(),
        ..GetTransactionRequest::default()
    };
    match client.get_transaction(request).await {
        Ok(reply) => {
            let transaction = reply.into_inner().transaction.unwrap_or_default();
            Ok(Some(transaction.state()))
        }
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status.into()),
    }
}
