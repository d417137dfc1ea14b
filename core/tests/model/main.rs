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

fn explore(scenario: Scenario) {
    let started = std::time::Instant::now();
    let checker = scenario.checker().threads(2).spawn_bfs().join();
    println!(
        "{}: {} states, {} steps, depth {}, {:.1} s",
        scenario.name,
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        started.elapsed().as_secs_f32()
    );
    checker.assert_properties();
    let ends = search::every_state_reaches_an_end(&scenario);
    println!(
        "{}: an end stays reachable from all {ends} states",
        scenario.name
    );
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
        name: "submitted, one participant works outside its database",
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
fn interactive_accepted_with_remote_work() {
    explore(Scenario {
        name: "interactive, accepted, remote",
        mode: Accepted,
        interactive: true,
        remote: [false, true],
        ..SUBMITTED
    });
}

#[test]
fn an_operator_pauses_resumes_and_resolves() {
    explore(Scenario {
        name: "submitted, three-state, operator",
        operator: true,
        ..SUBMITTED
    });
}
