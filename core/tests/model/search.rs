//! Two things about the whole graph: from every reachable state an end stays reachable, and every
//! action had its effect somewhere.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
};

use stateright::Model;

use crate::{scenario::Scenario, world::World};

/// Explores the whole graph and searches it backwards from its ends; how many states there are.
///
/// # Panics
/// With the first state from which no end can be reached any more, or with the actions that never
/// changed anything.
pub(crate) fn every_state_reaches_an_end(scenario: &Scenario) -> usize {
    let mut graph = Graph::default();
    for world in scenario.init_states() {
        graph.visit(world);
    }
    let mut seen = HashSet::new();
    let mut at = 0;
    while at < graph.worlds.len() {
        let world = graph.worlds[at].clone();
        let mut actions = Vec::new();
        scenario.actions(&world, &mut actions);
        for action in actions {
            if let Some(next) = scenario.next_state(&world, action) {
                seen.insert(action);
                let next = graph.visit(next);
                graph.came_from[next].push(at);
            }
        }
        at += 1;
    }
    let mut unseen = scenario.expected_actions();
    unseen.retain(|action| !seen.contains(action));
    assert!(unseen.is_empty(), "never had an effect: {unseen:?}");
    let stuck = graph.without_end();
    assert!(
        stuck.is_empty(),
        "{} of {} states reach no end; the first: {:#?}",
        stuck.len(),
        graph.worlds.len(),
        graph.worlds[stuck[0]]
    );
    graph.worlds.len()
}

#[derive(Default)]
struct Graph {
    known: HashMap<u64, usize>,
    worlds: Vec<World>,
    came_from: Vec<Vec<usize>>,
}

impl Graph {
    fn visit(&mut self, world: World) -> usize {
        let fingerprint = BuildHasherDefault::<DefaultHasher>::default().hash_one(&world);
        *self.known.entry(fingerprint).or_insert_with(|| {
            self.worlds.push(world);
            self.came_from.push(Vec::new());
            self.worlds.len() - 1
        })
    }

    fn without_end(&self) -> Vec<usize> {
        let ended = |world: &World| world.durable().is_some_and(|tx| tx.state.is_terminal());
        let mut reaches: Vec<bool> = self.worlds.iter().map(ended).collect();
        let mut open: Vec<usize> = (0..reaches.len()).filter(|at| reaches[*at]).collect();
        while let Some(at) = open.pop() {
            for &before in &self.came_from[at] {
                if !reaches[before] {
                    reaches[before] = true;
                    open.push(before);
                }
            }
        }
        (0..reaches.len()).filter(|at| !reaches[*at]).collect()
    }
}
