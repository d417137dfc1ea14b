//! Each invariant can fail: one thing is broken on purpose, in a scenario that holds without it, and
//! the invariant that stands for it says so.

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::{
    fault::Fault,
    scenario::Scenario,
    scenarios::{
        ALL, COLLECTED, COPIED, INTERACTIVE, INTERACTIVE_REMOTE, OPERATED_REMOTE,
        OPERATED_TWO_STATE, RESTORED, SLOW_STORE, SLOW_STORE_INTERACTIVE, SUBMITTED,
        SUBMITTED_REMOTE, SUBMITTED_TWO_STATE,
    },
    search,
};

/// What is broken, the scenario that holds without it, and the invariant that fails with it.
const CONTROLS: [(Fault, Scenario, &str); 23] = [
    (Fault::FinishesBlindly, SUBMITTED_REMOTE, "S5 "),
    (Fault::ForgetsTheTombstone, SUBMITTED, "S5 "),
    (Fault::ConfirmsWithoutATry, RESTORED, "S4 "),
    (Fault::CollectsWithoutAHorizon, COLLECTED, "S6 "),
    (Fault::IgnoresEpochs, COPIED, "S9 "),
    (Fault::CancelsByTime, SUBMITTED, "S2 "),
    (Fault::SkipsTheRefusedBranch, SUBMITTED, "S5 "),
    (Fault::SkipsTheUnansweredBranch, SUBMITTED, "L2 "),
    (Fault::TakesUnknownForCanceled, SUBMITTED, "S5 "),
    (Fault::TakesTryFailedForCanceled, SUBMITTED_REMOTE, "S5 "),
    (
        Fault::TakesATimeoutForFailed,
        SUBMITTED,
        "what is not known",
    ),
    (Fault::TakesAnyAnswerForItsOwn, SUBMITTED, "S5 "),
    (Fault::CommitsWhateverIsRecorded, INTERACTIVE, "S4 "),
    (Fault::MergesOtherContent, INTERACTIVE, "S11 "),
    (Fault::DecidesTwice, SUBMITTED, "S3 "),
    (
        Fault::StaysOpenAfterARestart,
        SUBMITTED_TWO_STATE,
        "TWO_STATE ",
    ),
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
    (
        Fault::LosesWhatIsDue,
        SLOW_STORE_INTERACTIVE,
        REACHES_AN_END,
    ),
];

/// Not a property: the reverse search says so.
const REACHES_AN_END: &str = "an end stays reachable";

#[test]
fn every_fault_breaks_its_invariant() {
    let mut unnoticed = Vec::new();
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
        if !broken.iter().any(|it| it.starts_with(invariant)) {
            unnoticed.push((fault, invariant, broken));
        }
    }
    assert!(unnoticed.is_empty(), "not broken as named: {unnoticed:#?}");
}

/// The invariants of the shortest way to a state that must not be.
fn broken(scenario: Scenario) -> Vec<&'static str> {
    let checker = scenario.checker().finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.spawn_bfs().join();
    let properties = scenario.properties();
    let is_failure = |it: &Property<_>| it.expectation.discovery_is_failure();
    let failures = properties.into_iter().filter(is_failure);
    let failures = failures.filter_map(|it| Some((checker.discovery(it.name)?, it.name)));
    let mut failures: Vec<_> = failures
        .map(|(way, name)| (way.into_actions().len(), name))
        .collect();
    failures.sort_unstable();
    let shortest = failures.first().map(|it| it.0);
    failures.retain(|it| Some(it.0) == shortest);
    let mut broken: Vec<_> = failures.into_iter().map(|it| it.1).collect();
    if broken.is_empty() && !search::search(&scenario).stuck.is_empty() {
        broken.push(REACHES_AN_END);
    }
    broken
}
