//! The shipped protocol, exhaustively: the real `Transaction` and the real fence's rule, with
//! everything around them that may go wrong. See `world` for what may happen, `properties` for what
//! must hold, `expected` for what must have happened, and `controls` for how each of them fails.
//!
//! From every reachable state an end must stay reachable; a reverse search over the whole graph
//! says so (stateright's `eventually` is unsound on cycles).
//!
//! `TERCET_MODEL=large cargo test -p tercet-core --test model a_larger_bound -- --nocapture` explores a
//! larger bound.

mod controls;
mod coordinator;
mod expected;
mod fault;
mod participant;
mod perform;
mod properties;
mod record;
#[path = "../common/record_states.rs"]
mod record_states;
mod rules;
mod scenario;
mod scenarios;
mod search;
mod world;

use std::{collections::HashSet, time::Instant};

use rules::Rule;
use scenario::Scenario;
use stateright::{Checker, Model};

#[test]
fn submitted_three_state() {
    explore(scenarios::SUBMITTED);
}

#[test]
fn submitted_two_state() {
    explore(scenarios::SUBMITTED_TWO_STATE);
}

#[test]
fn submitted_with_remote_work() {
    explore(scenarios::SUBMITTED_REMOTE);
}

#[test]
fn submitted_two_state_with_remote_work() {
    explore(scenarios::SUBMITTED_TWO_STATE_REMOTE);
}

#[test]
fn interactive_three_state() {
    explore(scenarios::INTERACTIVE);
}

#[test]
fn interactive_two_state() {
    explore(scenarios::INTERACTIVE_TWO_STATE);
}

#[test]
fn interactive_with_remote_work() {
    explore(scenarios::INTERACTIVE_REMOTE);
}

#[test]
fn submitted_under_an_operator() {
    explore(scenarios::OPERATED_TWO_STATE);
}

#[test]
fn interactive_under_an_operator() {
    explore(scenarios::OPERATED_INTERACTIVE);
}

#[test]
fn remote_work_under_an_operator() {
    explore(scenarios::OPERATED_REMOTE);
}

#[test]
fn crashes_between_a_write_and_its_sync() {
    explore(scenarios::SLOW_STORE);
    explore(scenarios::SLOW_STORE_INTERACTIVE);
}

#[test]
fn a_takeover_by_another_coordinator() {
    explore(scenarios::TAKEN_OVER);
}

#[test]
fn a_takeover_with_an_older_copy_of_the_store() {
    explore(scenarios::COPIED);
    explore(scenarios::COPIED_REMOTE);
}

#[test]
fn rows_that_are_collected() {
    explore(scenarios::COLLECTED);
    explore(scenarios::COLLECTED_REMOTE);
}

#[test]
fn a_reservation_lost_by_its_participant() {
    explore(scenarios::RESTORED);
}

#[test]
fn a_query_that_lies() {
    explore(scenarios::LIED_TO);
    explore(scenarios::LIED_TO_REMOTE);
}

#[test]
fn a_larger_bound() {
    if std::env::var("TERCET_MODEL").as_deref() == Ok("large") {
        for scenario in scenarios::LARGE {
            explore(scenario);
        }
    }
}

#[test]
fn every_rule_is_expected_of_a_scenario_or_impossible() {
    let expected: HashSet<Rule> = scenarios::ALL.iter().flat_map(expected::rules).collect();
    for rule in rules::all() {
        let impossible = expected::is_impossible(rule);
        assert_ne!(expected.contains(&rule), impossible, "{rule:?}");
    }
    let all: HashSet<Rule> = rules::all().into_iter().collect();
    assert!(expected.is_subset(&all), "a rule that `all` doesn't know");
}

/// Visits every state of a scenario, twice: for the properties, and for the way to an end.
fn explore(scenario: Scenario) {
    let started = Instant::now();
    let checker = scenario.checker().spawn_bfs().join();
    let states = checker.unique_state_count();
    println!(
        "{}: {states} states, {} steps, depth {}, {:.1} s",
        scenario.name,
        checker.state_count(),
        checker.max_depth(),
        started.elapsed().as_secs_f32()
    );
    checker.assert_properties();
    drop(checker);

    let started = Instant::now();
    let found = search::search(&scenario);
    assert_eq!(found.states, states, "two ways of counting");
    if let Some(&first) = found.stuck.first() {
        let world = search::find(&scenario, first);
        let count = found.stuck.len();
        panic!("{count} of {states} states reach no end; the first: {world:#?}");
    }
    let expected = expected::rules(&scenario);
    let unused: Vec<_> = expected
        .iter()
        .filter(|it| !found.rules.contains(it))
        .collect();
    assert!(unused.is_empty(), "never used: {unused:#?}");
    let impossible = |rule: &&Rule| {
        let contradicts = expected::is_contradiction(**rule) && !scenario.copied;
        expected::is_impossible(**rule) || contradicts
    };
    let impossible: Vec<_> = found.rules.iter().filter(impossible).collect();
    assert!(impossible.is_empty(), "used after all: {impossible:#?}");
    println!(
        "{}: an end stays reachable from every state, {} rules used, {:.1} s",
        scenario.name,
        found.rules.len(),
        started.elapsed().as_secs_f32()
    );
}
