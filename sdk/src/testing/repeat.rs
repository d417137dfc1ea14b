//! The same call more than once: in a row, at once, and after its reply was lost.

use std::time::Duration;

use futures::future::join_all;

use super::{
    Bench, Check, Finding,
    branch::{Answer, Branch, confirm_result, try_result},
    verdict::{broken, must_equal, must_stand, must_succeed, name, prepare, reserve},
};
use crate::proto::participant::v1::{
    Operation::{self, Cancel, Confirm, Try},
    RecordState::{Canceled, Confirmed, Tried},
};

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "try-recorded",
        meaning: "after a Try that succeeded, Query says TRIED",
        run: |bench| Box::pin(try_recorded(bench)),
    },
    Check {
        name: "try-repeated",
        meaning: "a repeated Try gets the first one's answer again",
        run: |bench| Box::pin(try_repeated(bench)),
    },
    Check {
        name: "try-repeated-after-confirm",
        meaning: "a Try that arrives again after its Confirm gets its stored answer, and changes nothing",
        run: |bench| Box::pin(try_repeated_after_confirm(bench)),
    },
    Check {
        name: "confirm-repeated",
        meaning: "Confirm succeeds after Try, and again when it is repeated; Query says CONFIRMED",
        run: |bench| Box::pin(confirm_repeated(bench)),
    },
    Check {
        name: "cancel-repeated",
        meaning: "Cancel succeeds after Try, and again when it is repeated; Query says CANCELED",
        run: |bench| Box::pin(cancel_repeated(bench)),
    },
    Check {
        name: "results-kept",
        meaning: "Query gives the results that Try and Confirm answered",
        run: |bench| Box::pin(results_kept(bench)),
    },
    Check {
        name: "try-reply-lost",
        meaning: "a Try whose reply was lost succeeds when it is repeated",
        run: |bench| Box::pin(try_reply_lost(bench)),
    },
    Check {
        name: "confirm-reply-lost",
        meaning: "a Confirm whose reply was lost succeeds when it is repeated",
        run: |bench| Box::pin(reply_lost(bench, Confirm)),
    },
    Check {
        name: "cancel-reply-lost",
        meaning: "a Cancel whose reply was lost succeeds when it is repeated",
        run: |bench| Box::pin(reply_lost(bench, Cancel)),
    },
    Check {
        name: "try-concurrent",
        meaning: "copies of one Try at the same time: one effect, no contradicting answers",
        run: |bench| Box::pin(try_concurrent(bench)),
    },
    Check {
        name: "confirm-concurrent",
        meaning: "copies of one Confirm at the same time don't contradict each other",
        run: |bench| Box::pin(concurrent_after_try(bench, Confirm)),
    },
    Check {
        name: "cancel-concurrent",
        meaning: "copies of one Cancel at the same time don't contradict each other",
        run: |bench| Box::pin(concurrent_after_try(bench, Cancel)),
    },
];

/// From "hardly sent" to "surely answered".
const LOSE_AFTER: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(20),
];
const COPIES: usize = 8;

async fn try_recorded(bench: &Bench) -> Result<(), Finding> {
    let branch = bench.branch();
    reserve(&branch).await?;
    must_stand(&branch, Tried, "after the Try").await
}

async fn try_repeated(bench: &Bench) -> Result<(), Finding> {
    let branch = bench.branch();
    let first = reserve(&branch).await?;
    for _ in 0..2 {
        let again = must_succeed(&branch, Try, "when it is repeated").await?;
        must_equal(&first, &again, "the repeated Try's answer")?;
    }
    Ok(())
}

async fn try_repeated_after_confirm(bench: &Bench) -> Result<(), Finding> {
    let branch = bench.branch();
    let first = reserve(&branch).await?;
    prepare(&branch, Confirm).await?;
    let again = must_succeed(&branch, Try, "when it is repeated after the Confirm").await?;
    must_equal(&first, &again, "the repeated Try's answer")?;
    must_stand(&branch, Confirmed, "after the late Try").await
}

async fn confirm_repeated(bench: &Bench) -> Result<(), Finding> {
    let branch = bench.branch();
    reserve(&branch).await?;
    let first = must_succeed(&branch, Confirm, "after the Try").await?;
    must_stand(&branch, Confirmed, "after the Confirm").await?;
    let again = must_succeed(&branch, Confirm, "when it is repeated").await?;
    must_equal(&first, &again, "the repeated Confirm's answer")?;
    must_stand(&branch, Confirmed, "after the repeated Confirm").await
}

async fn cancel_repeated(bench: &Bench) -> Result<(), Finding> {
    let branch = bench.branch();
    reserve(&branch).await?;
    must_succeed(&branch, Cancel, "after the Try").await?;
    must_stand(&branch, Canceled, "after the Cancel").await?;
    must_succeed(&branch, Cancel, "when it is repeated").await?;
    must_stand(&branch, Canceled, "after the repeated Cancel").await
}

async fn results_kept(bench: &Bench) -> Result<(), Finding> {
    let branch = bench.branch();
    let query = || async {
        let record = branch.query().await;
        record.map_err(|status| broken("a record", Answer::Error(status).to_string()))
    };
    let tried = reserve(&branch).await?;
    let record = query().await?;
    must_equal(&tried, &try_result(&record), "Query's try_result")?;
    let Answer::Success(confirmed) = branch.settle(Confirm).await else {
        return Ok(()); // which is another check's finding
    };
    let record = query().await?;
    must_equal(&tried, &try_result(&record), "Query's try_result")?;
    must_equal(
        &confirmed,
        &confirm_result(&record),
        "Query's confirm_result",
    )
}

async fn try_reply_lost(bench: &Bench) -> Result<(), Finding> {
    reserve(&bench.branch()).await?;
    for after in LOSE_AFTER {
        let branch = bench.branch();
        branch.lose_reply(Try, after).await;
        repeated_until_stable(&branch, Try).await?;
        must_stand(&branch, Tried, "after the repeated Try").await?;
    }
    Ok(())
}

async fn reply_lost(bench: &Bench, operation: Operation) -> Result<(), Finding> {
    for after in LOSE_AFTER {
        let branch = bench.branch();
        reserve(&branch).await?;
        branch.lose_reply(operation, after).await;
        repeated_until_stable(&branch, operation).await?;
        let state = if operation == Confirm {
            Confirmed
        } else {
            Canceled
        };
        must_stand(&branch, state, "after the repeated call").await?;
    }
    Ok(())
}

async fn repeated_until_stable(branch: &Branch, operation: Operation) -> Result<(), Finding> {
    let first = must_succeed(branch, operation, "when it is repeated after a lost reply").await?;
    let again = must_succeed(branch, operation, "when it is repeated once more").await?;
    must_equal(&first, &again, "the answer after a lost reply")
}

async fn try_concurrent(bench: &Bench) -> Result<(), Finding> {
    reserve(&bench.branch()).await?;
    concurrent(&bench.branch(), Try).await
}

async fn concurrent_after_try(bench: &Bench, operation: Operation) -> Result<(), Finding> {
    let branch = bench.branch();
    reserve(&branch).await?;
    concurrent(&branch, operation).await
}

/// Errors and PROCESSING are allowed, they only mean "ask again"; FAILED and other results are not.
async fn concurrent(branch: &Branch, operation: Operation) -> Result<(), Finding> {
    let answers = join_all((0..COPIES).map(|_| branch.call(operation))).await;
    let last = must_succeed(branch, operation, "repeated after copies at the same time").await?;
    for answer in answers {
        match answer {
            Answer::Success(result) => must_equal(&last, &result, "each copy's answer")?,
            Answer::Failed(_) => {
                let expected = format!("no copy of a {} that succeeds is FAILED", name(operation));
                return Err(broken(expected, answer.to_string()));
            }
            Answer::Processing(_) | Answer::Error(_) => {}
        }
    }
    Ok(())
}
