//! What happens in the shop.

use std::time::Duration;

use anyhow::{Context as _, bail};
use tercet_sdk::client::{Branch, Outcome, Payload, Submit, TransactionState};
use tokio::sync::watch;

use super::{
    books::Expected,
    inventory::Reserve,
    order::Place,
    payment::Charge,
    process::{Role, Shop},
    timeline,
};

/// What one chair costs.
pub const CHAIR_CENTS: i64 = 4_900;
/// A bank that takes its time, so that there is a middle to fail in.
const SLOW_CAPTURE: Duration = Duration::from_millis(1_500);
/// How long a customer looks at the screen.
const WAIT: Duration = Duration::from_secs(2);
const END_WITHIN: Duration = Duration::from_secs(60);

pub async fn success(shop: &mut Shop, kept: &mut Expected) -> anyhow::Result<()> {
    println!("1. Ann orders two chairs.");
    let order = order("order-1", 2, Duration::ZERO).wait(WAIT);
    let (_, outcome) = submit(shop, &order).await?;
    expect_success(outcome)?;
    kept.sold(2);
    Ok(())
}

pub async fn out_of_stock(shop: &mut Shop, kept: &mut Expected) -> anyhow::Result<()> {
    println!("2. Ann orders a hundred chairs; there are not that many.");
    let order = order("order-2", 100, Duration::ZERO);
    let (states, outcome) = submit(shop, &order.wait(WAIT)).await?;
    expect_failed(outcome, "OUT_OF_STOCK")?;
    ended(states, TransactionState::Canceled).await?;
    kept.refused();
    Ok(())
}

pub async fn participant_dies(shop: &mut Shop, kept: &mut Expected) -> anyhow::Result<()> {
    println!("3. The payment service dies while it takes the money for a chair.");
    let order = order("order-3", 1, SLOW_CAPTURE).wait(WAIT);
    let running = start(shop, &order);
    let mut states = timeline::follow(shop.client().clone(), order.id().into());
    reached(&mut states, TransactionState::Confirming).await?;
    shop.kill(Role::Payment).await?;
    let Outcome::Processing(processing) = running.await?? else {
        bail!("nobody can know how this ends yet");
    };
    println!("   Ann is told PROCESSING, and goes away.");
    shop.restart(Role::Payment).await?;
    expect_success(processing.wait(END_WITHIN).await?)?;
    ended(states, TransactionState::Confirmed).await?;
    kept.sold(1);
    Ok(())
}

pub async fn black_hole(shop: &mut Shop, kept: &mut Expected) -> anyhow::Result<()> {
    println!("4. The inventory takes requests and never answers; Ann wants a yes or a no, now.");
    shop.freeze(Role::Inventory)?;
    let try_timeout = Duration::from_secs(1);
    let order = order("order-4", 1, Duration::ZERO)
        .two_state()
        .try_timeout(try_timeout)
        .wait(WAIT);
    let (states, outcome) = submit(shop, &order).await?;
    expect_failed(outcome, "TRY_TIMEOUT")?;
    shop.thaw(Role::Inventory)?;
    ended(states, TransactionState::Canceled).await?;
    println!("   Whatever the inventory had taken in was reversed.\n");
    kept.refused();
    Ok(())
}

pub async fn coordinator_dies(shop: &mut Shop, kept: &mut Expected) -> anyhow::Result<()> {
    println!("5. The coordinator dies between its decision and the last Confirm.");
    let order = order("order-5", 3, SLOW_CAPTURE).wait(WAIT);
    let running = start(shop, &order);
    let mut states = timeline::follow(shop.client().clone(), order.id().into());
    reached(&mut states, TransactionState::Confirming).await?;
    shop.kill(Role::Coordinator).await?;
    shop.restart(Role::Coordinator).await?;
    let outcome = match running.await?? {
        Outcome::Processing(processing) => processing.wait(END_WITHIN).await?,
        outcome @ (Outcome::Success(_) | Outcome::Failed(_)) => outcome,
    };
    expect_success(outcome)?;
    ended(states, TransactionState::Confirmed).await?;
    kept.sold(3);
    Ok(())
}

/// An order of chairs: the order itself, the stock, and the money, all or nothing.
fn order(id: &str, chairs: i64, capture: Duration) -> Submit {
    let place = Place {
        order: id.into(),
        customer: "ann".into(),
    };
    let reserve = Reserve {
        sku: "chair".into(),
        count: chairs,
    };
    let capture_ms = u64::try_from(capture.as_millis()).unwrap_or(u64::MAX);
    let cents = CHAIR_CENTS * chairs.min(10);
    let charge = Charge {
        customer: "ann".into(),
        cents,
        capture_ms,
    };
    Submit::new(id)
        .transaction_type("place-order")
        .business_key(id)
        .with_branch(Branch::new("order", "place", Payload::message(&place)).id("order"))
        .with_branch(
            Branch::new("inventory", "reserve", Payload::message(&reserve)).id("inventory"),
        )
        .with_branch(Branch::new("payment", "charge", Payload::message(&charge)).id("payment"))
}

type Running = tokio::task::JoinHandle<Result<Outcome, tercet_sdk::client::Refused>>;

fn start(shop: &Shop, order: &Submit) -> Running {
    let (client, order) = (shop.client().clone(), order.clone());
    tokio::spawn(async move { client.submit(&order).await })
}

async fn submit(
    shop: &Shop,
    order: &Submit,
) -> anyhow::Result<(watch::Receiver<TransactionState>, Outcome)> {
    let states = timeline::follow(shop.client().clone(), order.id().into());
    let outcome = start(shop, order).await??;
    Ok((states, outcome))
}

fn expect_success(outcome: Outcome) -> anyhow::Result<()> {
    match outcome {
        Outcome::Success(transaction) => println!("   → {} is SUCCESS\n", transaction.id()),
        other => bail!("expected SUCCESS, got {other:?}"),
    }
    Ok(())
}

fn expect_failed(outcome: Outcome, reason: &str) -> anyhow::Result<()> {
    match outcome {
        Outcome::Failed(failed) if failed.reason == reason => {
            println!("   → {} is FAILED: {reason}\n", failed.transaction.id());
        }
        other => bail!("expected FAILED because of {reason}, got {other:?}"),
    }
    Ok(())
}

async fn reached(
    states: &mut watch::Receiver<TransactionState>,
    wanted: TransactionState,
) -> anyhow::Result<()> {
    let reached = tokio::time::timeout(END_WITHIN, states.wait_for(|state| *state == wanted)).await;
    reached.with_context(|| format!("it never was {}", wanted.as_str_name()))??;
    Ok(())
}

/// Waits until the timeline has been printed to its end.
async fn ended(
    mut states: watch::Receiver<TransactionState>,
    wanted: TransactionState,
) -> anyhow::Result<()> {
    reached(&mut states, wanted).await
}
