//! Calls out of order: late, early, of an older coordinator, of another transaction.

use std::time::{Duration, SystemTime};

use futures::future::join;

use super::{
    Bench, Check, Finding,
    verdict::{
        broken, must_be_an_error, must_fail, must_not_succeed, must_stand, must_succeed, prepare,
        reserve,
    },
};
use crate::proto::participant::v1::{
    Operation::{Cancel, Confirm, Try},
    RecordState::{Canceled, Confirmed, Tried, Unknown},
};

const FENCED: &str = "BRANCH_FENCED";

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "empty-cancel",
        meaning: "Cancel of a branch that was never tried succeeds, and Query says CANCELED",
        run: |bench| Box::pin(empty_cancel(bench)),
    },
    Check {
        name: "late-try-after-empty-cancel",
        meaning: "a Try that arrives after its Cancel is FAILED BRANCH_FENCED and has no effect",
        run: |bench| Box::pin(late_try_after_empty_cancel(bench)),
    },
    Check {
        name: "late-try-after-cancel",
        meaning: "a copy of a Try that arrives after its Cancel is FAILED BRANCH_FENCED, too",
        run: |bench| Box::pin(late_try_after_cancel(bench)),
    },
    Check {
        name: "try-racing-cancel",
        meaning: "whoever wins when Try and Cancel arrive together, it ends CANCELED",
        run: |bench| Box::pin(try_racing_cancel(bench)),
    },
    Check {
        name: "confirm-without-try",
        meaning: "Confirm of a branch that was never tried is an error, never a success",
        run: |bench| Box::pin(confirm_without_try(bench)),
    },
    Check {
        name: "confirm-after-cancel",
        meaning: "Confirm after Cancel is an error, and what was canceled stays so",
        run: |bench| Box::pin(confirm_after_cancel(bench)),
    },
    Check {
        name: "cancel-after-confirm",
        meaning: "Cancel after Confirm is an error, and what was confirmed stays so",
        run: |bench| Box::pin(cancel_after_confirm(bench)),
    },
    Check {
        name: "lower-epoch",
        meaning: "a call of an older coordinator (a lower epoch) gets a non-OK status, changes nothing",
        run: |bench| Box::pin(lower_epoch(bench)),
    },
    Check {
        name: "epoch-raised",
        meaning: "Try, Confirm and Cancel of a newer coordinator shut the older one out",
        run: |bench| Box::pin(epoch_raised(bench)),
    },
    Check {
        name: "query-unknown",
        meaning: "Query of an unknown branch says UNKNOWN and changes nothing: a Try still works",
        run: |bench| Box::pin(query_unknown(bench)),
    },
    Check {
        name: "query-keeps-epoch",
        meaning: "Query never raises the epoch",
        run: |bench| Box::pin(query_keeps_epoch(bench)),
    },
    Check {
        name: "try-expired",
        meaning: "a Try that arrives after expire_time is FAILED EXPIRED and leaves no record of success",
        run: |bench| Box::pin(try_expired(bench)),
    },
    Check {
        name: "cancel-expired",
        meaning: "Cancel is never too late: it succeeds after expire_time as before",
        run: |bench| Box::pin(cancel_expired(bench)),
    },
    Check {
        name: "realms-separate",
        meaning: "the same ids in another realm are another branch",
        run: |bench| Box::pin(realms_separate(bench)),
    },
    Check {
        name: "ids-separate",
        meaning: "other ids are another branch, even if they look alike when joined",
        run: |bench| Box::pin(ids_separate(bench)),
    },
];

async fn empty_cancel(bench: &Bench) -> Result<(), Finding> {
    let branch = bench.branch();
    must_succeed(&branch, Cancel, "without a Try").await?;
    must_stand(&branch, Canceled, "after an empty Cancel").await?;
    must_succeed(&branch, Cancel, "without a Try, repeated").await?;
    must_stand(&branch, Canceled, "after a repeated empty Cancel").await
}

async fn late_try_after_empty_cancel(bench: &Bench) -> Result<(), Finding> {
    reserve(&bench.branch()).await?;
    let branch = bench.branch();
    prepare(&branch, Cancel).await?;
    must_fail(&branch, FENCED, "after an empty Cancel").await?;
    must_fail(&branch, FENCED, "after an empty Cancel, repeated").await?;
    must_stand(&branch, Canceled, "after the late Try").await
}

async fn late_try_after_cancel(bench: &Bench) -> Result<(), Finding> {
    let branch = bench.branch();
    reserve(&branch).await?;
    prepare(&branch, Cancel).await?;
    must_fail(&branch, FENCED, "after its Cancel").await?;
    must_stand(&branch, Canceled, "after the late Try").await
}

async fn try_racing_cancel(bench: &Bench) -> Result<(), Finding> {
    reserve(&bench.branch()).await?;
    for _ in 0..8 {
        let branch = bench.branch();
        let (_, canceled) = join(branch.call(Try), branch.call(Cancel)).await;
        if !canceled.is_success() {
            must_succeed(&branch, Cancel, "repeated after a race with Try").await?;
        }
        must_stand(&branch, Canceled, "after a race of Try and Cancel").await?;
    }
    Ok(())
}

async fn confirm_without_try(bench: &Bench) -> Result<(), Finding> {
    let branch = bench.branch();
    must_not_succeed(&branch, Confirm, "without a Try").await?;
    let record = branch.query().await;
    if record
        .as_ref()
        .is_ok_and(|record| record.state() == Confirmed)
    {
        return Err(broken("no record of a Confirm without a Try", "CONFIRMED"));
    }
    Ok(())
}

async fn confirm_after_cancel(bench: &Bench) -> Result<(), Finding> {
    let branch = bench.branch();
    reserve(&branch).await?;
    prepare(&branch, Cancel).await?;
    must_not_succeed(&branch, Confirm, "after a Cancel").await?;
    must_stand(&branch, Canceled, "after the Confirm that must not work").await
}

async fn cancel_after_confirm(bench: &Bench) -> Result<(), Finding> {
    let branch = bench.branch();
    reserve(&branch).await?;
    prepare(&branch, Confirm).await?;
    must_not_succeed(&branch, Cancel, "after a Confirm").await?;
    must_stand(&branch, Confirmed, "after the Cancel that must not work").await
}

async fn lower_epoch(bench: &Bench) -> Result<(), Finding> {
    let branch = bench.branch();
    reserve(&branch).await?;
    let older = branch.with(|context| context.epoch -= 1);
    for operation in [Try, Confirm, Cancel] {
        must_be_an_error(&older, operation, "with a lower epoch").await?;
        must_stand(&branch, Tried, "after a call with a lower epoch").await?;
    }
    Ok(())
}

async fn epoch_raised(bench: &Bench) -> Result<(), Finding> {
    for operation in [Try, Confirm, Cancel] {
        let branch = bench.branch();
        reserve(&branch).await?;
        let newer = branch.with(|context| context.epoch += 1);
        prepare(&newer, operation).await?;
        must_be_an_error(&branch, operation, "after the same of a higher epoch").await?;
    }
    Ok(())
}

async fn query_unknown(bench: &Bench) -> Result<(), Finding> {
    reserve(&bench.branch()).await?;
    let branch = bench.branch();
    must_stand(&branch, Unknown, "of a branch that was never seen").await?;
    must_stand(&branch, Unknown, "of a branch that was only queried").await?;
    must_succeed(&branch, Try, "after a Query").await?;
    must_stand(&branch, Tried, "after the Try").await
}

async fn query_keeps_epoch(bench: &Bench) -> Result<(), Finding> {
    let branch = bench.branch();
    let newer = branch.with(|context| context.epoch += 1);
    let _ = newer.query().await;
    reserve(&branch).await?;
    let _ = newer.query().await;
    must_succeed(&branch, Cancel, "after a Query with a higher epoch").await?;
    Ok(())
}

/// More than any skew between clocks that a participant may allow for.
fn long_ago() -> Option<prost_types::Timestamp> {
    Some((SystemTime::now() - Duration::from_secs(60 * 60)).into())
}

async fn try_expired(bench: &Bench) -> Result<(), Finding> {
    reserve(&bench.branch()).await?;
    let branch = bench.branch_with(|context| context.expire_time = long_ago());
    must_fail(&branch, "EXPIRED", "an hour after expire_time").await
}

async fn cancel_expired(bench: &Bench) -> Result<(), Finding> {
    let branch = bench.branch_with(|context| context.expire_time = long_ago());
    must_succeed(&branch, Cancel, "an hour after expire_time").await?;
    must_stand(&branch, Canceled, "after the Cancel").await
}

async fn realms_separate(bench: &Bench) -> Result<(), Finding> {
    let branch = bench.branch();
    let elsewhere = branch.with(|context| context.realm.push_str("-2"));
    bench.keep(&elsewhere);
    reserve(&branch).await?;
    must_stand(&elsewhere, Unknown, "in a realm where it was never tried").await?;
    must_succeed(&elsewhere, Cancel, "without a Try in this realm").await?;
    must_stand(&branch, Tried, "in its realm, after a Cancel in another").await?;
    must_stand(&elsewhere, Canceled, "in the realm of the Cancel").await
}

async fn ids_separate(bench: &Bench) -> Result<(), Finding> {
    let longer = bench.branch_with(|context| context.branch_id = "x:b1".into());
    reserve(&longer).await?;
    let others = [
        longer.with(|context| context.branch_id = "b1".into()),
        longer.with(|context| context.branch_id = "x:b11".into()),
        longer.with(|context| context.branch_id = "X:b1".into()),
        longer.with(|context| {
            context.transaction_id.push_str(":x");
            context.branch_id = "b1".into();
        }),
    ];
    for other in &others {
        must_stand(other, Unknown, "of another branch, or another transaction").await?;
        must_succeed(other, Cancel, "of another branch, or another transaction").await?;
        must_stand(&longer, Tried, "after another branch's Cancel").await?;
    }
    Ok(())
}
