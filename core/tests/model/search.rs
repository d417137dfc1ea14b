//! From every reachable state an end stays reachable.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
};

use stateright::Model;

use crate::{scenario::Scenario, world::World};

/// Explores the whole graph and searches it backwards from its ends; how many states there are.
///
/// # Panics
/// With the first state from which no end can be reached any more.
pub(crate) fn every_state_reaches_an_end(scenario: &Scenario) -> usize {
    let mut graph = Graph::default();
    for world in scenario.init_states() {
        graph.visit(world);
    }
    let mut at = 0;
    while at < graph.worlds.len() {
        let world = graph.worlds[at].clone();
        for next in scenario.next_states(&world) {
            let next = graph.visit(next);
            graph.came_from[next].push(at);
        }
        at += 1;
    }
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
