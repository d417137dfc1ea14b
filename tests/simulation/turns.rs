//! Those who arrive within one millisecond go on in the order of their numbers.
//!
//! When a connection dies, whoever waits on it is told in an order in which HTTP/2 has a hand, and
//! that depends on the machine's time (see `wires`).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

#[derive(Clone)]
pub struct Turns {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<BTreeMap<u64, oneshot::Sender<()>>>,
    arrived: Notify,
}

impl Turns {
    /// Must be called on the host, once for each process.
    pub fn new() -> Self {
        let shared = Arc::<Shared>::default();
        tokio::spawn(call(Arc::clone(&shared)));
        Self { shared }
    }

    /// Waits for this number's turn. No two have the same.
    pub async fn wait(&self, number: u64) {
        let (turn, called) = oneshot::channel();
        self.shared.waiting.lock().insert(number, turn);
        self.shared.arrived.notify_one();
        let _ = called.await; // the process is gone
    }
}

async fn call(shared: Arc<Shared>) {
    loop {
        shared.arrived.notified().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        for turn in std::mem::take(&mut *shared.waiting.lock()).into_values() {
            let _ = turn.send(()); // who has given up needs no turn
        }
    }
}
