//! Each invariant can fail: one thing is broken on purpose, in a scenario that holds without it, and
//! the invariant that stands for it says so.

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use crate::{
    fault::Fault,
    scenario::Scenario,
    scenarios::{
        ALL, COLLECTED, INTERACTIVE, INTERACTIVE_REMOTE, OPERATED_REMOTE, OPERATED_TWO_STATE,
        RESTORED, SLOW_STORE, SLOW_STORE_INTERACTIVE, SUBMITTED, SUBMITTED_REMOTE,
        SUBMITTED_TWO_STATE, TAKEN_OVER,
    },
    search,
};

/// What is broken, the scenario that holds without it, and the invariant that fails with it.
const CONTROLS: [(Fault, Scenario, &str); 23] = [
    (Fault::FinishesBlindly, SUBMITTED_REMOTE, "S5 "),
    (Fault::ForgetsTheTombstone, SUBMITTED, "S5 "),
    (Fault::ConfirmsWithoutATry, RESTORED, "S4 "),
    (Fault::CollectsWithoutAHorizon, COLLECTED, "S6 "),
    (Fault::IgnoresEpochs, TAKEN_OVER, "S9 "),
    (Fault::CancelsByTime, SUBMITTED, "S2 "),
    (Fault::SkipsTheRefusedBranch, SUBMITTED, "S5 "),
    (Fault::SkipsTheUnansweredBranch, SUBMITTED, "S5 "),
    (Fault::TakesUnknownForCanceled, SUBMITTED, "S5 "),
    (Fault::TakesTryFailedForCanceled, SUBMITTED_REMOTE, "S5 "),
    (Fault::TakesATimeoutForFailed, SUBMITTED, "what is not known"),
    (Fault::TakesAnyAnswerForItsOwn, SUBMITTED, "S4 "),
    (Fault::CommitsWhateverIsRecorded, INTERACTIVE, "S4 "),
    (Fault::MergesOtherContent, INTERACTIVE, "S11 "),
    (Fault::DecidesTwice, SUBMITTED, "S3 "),
    (Fault::StaysOpenAfterARestart, SUBMITTED_TWO_STATE, "TWO_STATE "),
    (
        Fault::NeverExpiresOnceCommitIsRequested,
        INTERACTIVE_REMOTE,
        "the deadline",
    ),
    (
        Fault::ResolvesWhileTheParticipantWorks,
        OPERATED_REMOTE,
        "no branch is closed",
    ),
    (Fault::ReadsMixedAsFailed, OPERATED_TWO_STATE, "S8 "),
    (Fault::ForbidsWithoutARecord, SUBMITTED, "S1 "),
    (Fault::ShowsWhatIsNotSynced, SLOW_STORE, "S8 "),
    (Fault::AcknowledgesBeforeItIsDurable, SLOW_STORE, "S7 "),
    (Fault::LosesWhatIsDue, SLOW_STORE_INTERACTIVE, REACHES_AN_END),
];

/// Not a property: the reverse search says so.
const REACHES_AN_END: &str = "an end stays reachable";

#[test]
fn every_fault_breaks_its_invariant() {
    for (fault, twin, invariant) in CONTROLS {
        assert!(ALL.contains(&twin), "the unbroken twin is explored");
        let started = Instant::now();
        let broken = broken(Scenario {
            fault: Some(fault),
            ..twin
        });
        println!(
            "{fault:?}: caught by {broken:?} after {:.2} s",
            started.elapsed().as_secs_f32()
        );
        let others: Vec<_> = broken.iter().filter(|it| !it.starts_with(invariant)).collect();
        assert!(!broken.is_empty(), "{fault:?} goes unnoticed");
        assert!(others.is_empty(), "{fault:?} breaks {others:?}, not {invariant:?}");
    }
}

/// The invariants that fail first.
fn broken(scenario: Scenario) -> Vec<&'static str> {
    let checker = scenario.checker().finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.spawn_bfs().join();
    let properties = scenario.properties();
    let failed = properties.iter().filter(|it| {
        it.expectation.discovery_is_failure() && checker.discovery(it.name).is_some()
    });
    let mut failed: Vec<_> = failed.map(|it| it.name).collect();
    if failed.is_empty() && !search::search(&scenario).stuck.is_empty() {
        failed.push(REACHES_AN_END);
    }
    failed
}
