//! The shipped protocol, exhaustively: the real `Transaction` and the real fence's rule, with
//! everything around them that may go wrong. See `world` for what may happen, `properties` for what
//! must hold.
//!
//! From every reachable state an end must stay reachable; a reverse search over the whole graph
//! says so (stateright's `eventually` is unsound on cycles).

mod participant;
mod properties;
mod scenario;
mod search;
mod world;

use scenario::Scenario;
use stateright::{Checker, Model};
use tercet_core::outcome::ReplyMode::{Accepted, ThreeState, TwoState};

const SUBMITTED: Scenario = Scenario {
    name: "submitted, three-state",
    mode: ThreeState,
    interactive: false,
    remote: [false, false],
    operator: false,
};

#[test]
fn submitted_three_state() {
    explore(SUBMITTED);
}

#[test]
fn submitted_two_state() {
    explore(Scenario {
        name: "submitted, two-state",
        mode: TwoState,
        ..SUBMITTED
    });
}

#[test]
fn submitted_with_remote_work() {
    explore(Scenario {
        name: "submitted, accepted, remote work",
        mode: Accepted,
        remote: [false, true],
        ..SUBMITTED
    });
}

#[test]
fn submitted_two_state_with_remote_work() {
    explore(Scenario {
        name: "submitted, two-state, remote work",
        mode: TwoState,
        remote: [false, true],
        ..SUBMITTED
    });
}

#[test]
fn interactive_three_state() {
    explore(Scenario {
        name: "interactive, three-state",
        interactive: true,
        ..SUBMITTED
    });
}

#[test]
fn interactive_two_state() {
    explore(Scenario {
        name: "interactive, two-state",
        mode: TwoState,
        interactive: true,
        ..SUBMITTED
    });
}

#[test]
fn interactive_with_remote_work() {
    explore(Scenario {
        name: "interactive, accepted, remote work",
        mode: Accepted,
        interactive: true,
        remote: [false, true],
        ..SUBMITTED
    });
}

#[test]
fn submitted_under_an_operator() {
    explore(Scenario {
        name: "submitted, two-state, operator",
        mode: TwoState,
        operator: true,
        ..SUBMITTED
    });
}

#[test]
fn interactive_under_an_operator() {
    explore(Scenario {
        name: "interactive, three-state, operator",
        interactive: true,
        operator: true,
        ..SUBMITTED
    });
}

fn explore(scenario: Scenario) {
    let started = std::time::Instant::now();
    let checker = scenario.checker().spawn_bfs().join();
    println!(
        "{}: {} states, {} steps, depth {}, {:.1} s",
        scenario.name,
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        started.elapsed().as_secs_f32()
    );
    checker.assert_properties();
    let states = search::every_state_reaches_an_end(&scenario);
    println!(
        "{}: an end stays reachable from all {states}",
        scenario.name
    );
}
