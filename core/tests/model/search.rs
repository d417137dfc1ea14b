//! Two things about the whole graph, which stateright can't say: from every reachable state an end
//! stays reachable, and every rule was used.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
};

use stateright::Model;
use tercet_core::transaction::AttentionReason;

use crate::{rules::Rule, scenario::Scenario, world::World};

/// What the search has found.
pub(crate) struct Found {
    pub(crate) states: usize,
    /// The positions of states from which no end can be reached any more.
    pub(crate) stuck: Vec<u32>,
    pub(crate) rules: HashSet<Rule>,
}

/// Visits the whole graph and searches it backwards from its ends.
pub(crate) fn search(scenario: &Scenario) -> Found {
    let mut graph = Graph::default();
    let mut rules = HashSet::new();
    explore(scenario, |world, at, next, used| {
        rules.extend(used);
        graph.add(world, at, next);
        true
    });
    Found {
        states: graph.ended.len(),
        stuck: graph.without_end(),
        rules,
    }
}

/// One state by its position.
pub(crate) fn find(scenario: &Scenario, position: u32) -> World {
    let mut found = None;
    explore(scenario, |world, at, _, _| {
        if at == position {
            found = Some(world.clone());
        }
        at < position
    });
    found.expect("a position that the search gave")
}

/// Every step from every state, once; breadth first, so that positions are always the same. Ends
/// early when `visit` says so.
fn explore(scenario: &Scenario, mut visit: impl FnMut(&World, u32, &[u32], Vec<Rule>) -> bool) {
    let mut known = HashMap::new();
    let mut open = VecDeque::new();
    let hash = |world: &World| BuildHasherDefault::<DefaultHasher>::default().hash_one(world);
    for world in scenario.init_states() {
        known.insert(hash(&world), 0);
        open.push_back(world);
    }
    let (mut actions, mut next) = (Vec::new(), Vec::new());
    for at in 0_u32.. {
        let Some(world) = open.pop_front() else {
            return;
        };
        next.clear();
        let mut rules = Vec::new();
        scenario.actions(&world, &mut actions);
        for action in actions.drain(..) {
            let (after, used) = scenario.step(&world, action);
            rules.extend(used);
            let Some(after) = after else { continue };
            let new = u32::try_from(known.len()).expect("fewer states than that");
            next.push(*known.entry(hash(&after)).or_insert_with(|| {
                open.push_back(after);
                new
            }));
        }
        if !visit(&world, at, &next, rules) {
            return;
        }
    }
}

/// The graph, as far as the way back needs it.
#[derive(Default)]
struct Graph {
    ended: Vec<bool>,
    /// From, to.
    steps: Vec<(u32, u32)>,
}

impl Graph {
    fn add(&mut self, world: &World, at: u32, next: &[u32]) {
        self.ended.push(has_ended(world));
        self.steps.extend(next.iter().map(|&to| (at, to)));
    }

    fn without_end(mut self) -> Vec<u32> {
        self.steps.sort_unstable_by_key(|(_, to)| *to);
        let mut reaches = self.ended;
        let mut open: Vec<u32> = (0..)
            .zip(&reaches)
            .filter(|it| *it.1)
            .map(|it| it.0)
            .collect();
        while let Some(at) = open.pop() {
            let first = self.steps.partition_point(|(_, to)| *to < at);
            let into = self.steps[first..].iter().take_while(|(_, to)| *to == at);
            for &(before, _) in into {
                if !std::mem::replace(&mut reaches[before as usize], true) {
                    open.push(before);
                }
            }
        }
        let stuck = (0..).zip(reaches).filter(|(_, reaches)| !reaches);
        stuck.map(|(at, _)| at).collect()
    }
}

/// It is over, or waits for a person.
fn has_ended(world: &World) -> bool {
    let person = !world.setup.faithful && world.attends(AttentionReason::StateMismatch);
    person || world.durable().is_some_and(|tx| tx.state.is_terminal())
}
