//! Clients at work: some send transactions, some ask about those whose end nobody has heard of yet.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use parking_lot::Mutex;
use tercet_sdk::client::{Client, Tried};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

use super::{
    books,
    heard::{Heard, PROGRESS_TIMEOUT, Progress, is_end},
    history::Answer,
    plan::{Plan, WAIT, take},
};

const SENDERS: usize = 24;
const ASKERS: usize = 16;
/// Past so many, senders wait: the askers must keep up.
const UNFINISHED_MAX: usize = 80;
/// How long one question is asked.
const ASK: Duration = Duration::from_secs(2);
/// A client's own patience with a coordinator that can't be reached.
const ASK_AGAIN: Duration = Duration::from_millis(50);

pub struct Load {
    shared: Arc<Shared>,
    senders: JoinSet<()>,
    askers: JoinSet<()>,
}

struct Shared {
    heard: Arc<Heard>,
    client: Client,
    next: AtomicUsize,
    stopping: AtomicBool,
    /// Transactions to ask about, a permit for each.
    open: Mutex<VecDeque<Arc<Plan>>>,
    opened: Semaphore,
    /// Transactions that nobody asks about until the end.
    forgotten: Mutex<Vec<Arc<Plan>>>,
}

impl Load {
    pub fn start(heard: Arc<Heard>, client: Client, rng: &mut Rng) -> Self {
        let shared = Arc::new(Shared {
            heard,
            client,
            next: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            open: Mutex::default(),
            opened: Semaphore::new(0),
            forgotten: Mutex::default(),
        });
        let mut load = Self {
            shared: Arc::clone(&shared),
            senders: JoinSet::new(),
            askers: JoinSet::new(),
        };
        for _ in 0..SENDERS {
            load.senders.spawn(Arc::clone(&shared).send(rng.fork()));
        }
        for _ in 0..ASKERS {
            load.askers.spawn(Arc::clone(&shared).ask(rng.fork()));
        }
        load
    }

    /// Sends nothing new, and returns when everything that was sent is known to have ended, or
    /// should have been long ago.
    pub async fn stop(mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        while let Some(sender) = self.senders.join_next().await {
            sender.expect("a sender never panics");
        }
        self.shared.until_all_heard().await;
        self.shared.until_none_is_open().await;
        for plan in std::mem::take(&mut *self.shared.forgotten.lock()) {
            self.shared.heard.remember(&plan);
            self.shared.keep_asking(plan);
        }
        self.shared.until_all_heard().await;
    }
}

impl Shared {
    async fn until_all_heard(&self) {
        if self.heard.until(|it| it.unfinished == 0).await.is_none() {
            println!("not over: {}", self.heard.describe());
        }
    }

    /// Those that were forgotten must come to their end without anybody asking for them by name.
    async fn until_none_is_open(&self) {
        let over = timeout(PROGRESS_TIMEOUT, async {
            while books::unfinished(&self.client).await.sum() > 0 {
                tokio::time::sleep(ASK_AGAIN).await; // no event says how many there are
            }
        });
        if over.await.is_err() {
            let left = books::unfinished(&self.client).await;
            panic!("L1 is broken: nobody asks for them, and nothing happens: {left}");
        }
    }
    async fn send(self: Arc<Self>, mut rng: Rng) {
        let room = |it: &Progress| it.unfinished < UNFINISHED_MAX;
        while !self.stopping.load(Ordering::Relaxed) {
            self.heard.until(room).await;
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let plan = Arc::new(Plan::draw(format!("t{number}"), &mut rng));
            self.heard.intend(&plan);
            let answer = match &plan.submit {
                Some(_) => self.submit(&plan).await,
                None => self.interact(&plan, &mut rng).await,
            };
            if is_end(answer) {
                continue;
            }
            if plan.forgotten {
                self.heard.forget(&plan);
                self.forgotten.lock().push(plan);
            } else {
                self.keep_asking(plan);
            }
        }
    }

    async fn ask(self: Arc<Self>, mut rng: Rng) {
        loop {
            self.opened.acquire().await.expect("never closed").forget();
            let plan = self.open.lock().pop_front();
            let plan = plan.expect("there is one for each permit");
            let answer = match rng.u8(..20) {
                0..5 => self.get(&plan).await,
                5..10 => self.wait(&plan).await,
                10..15 => self.get_at_the_end(&plan).await,
                15..19 if plan.submit.is_some() => self.submit(&plan).await,
                15..19 => self.get_at_the_end(&plan).await,
                _ => self.rollback(&plan).await,
            };
            let answer = match answer {
                // It never arrived, or a copy of it is still on its way.
                Answer::NotFound if plan.submit.is_some() => self.submit(&plan).await,
                Answer::NotFound => self.rollback(&plan).await,
                answer => answer,
            };
            if answer == Answer::Unknown {
                tokio::time::sleep(ASK_AGAIN).await;
            }
            if !is_end(answer) {
                self.keep_asking(plan);
            }
        }
    }

    fn keep_asking(&self, plan: Arc<Plan>) {
        self.open.lock().push_back(plan);
        self.opened.add_permits(1);
    }

    async fn submit(&self, plan: &Plan) -> Answer {
        let submit = plan.submit.as_ref().expect("it is not interactive");
        let call = async { self.heard.outcome(self.client.submit(submit).await) };
        self.heard.call(plan, call).await
    }

    async fn get(&self, plan: &Plan) -> Answer {
        let call = async { self.heard.shown(self.client.get(plan.id()).await) };
        self.heard.call(plan, call).await
    }

    async fn wait(&self, plan: &Plan) -> Answer {
        let call = async { self.heard.outcome(self.client.wait(plan.id(), ASK).await) };
        self.heard.call(plan, call).await
    }

    /// What a watch shows may be older than what others know by then; so it only says when to look.
    async fn get_at_the_end(&self, plan: &Plan) -> Answer {
        let mut watch = self.client.watch(plan.id());
        let end = async { while let Some(Ok(_)) = watch.next().await {} };
        let _in_time = timeout(ASK, end).await;
        self.get(plan).await
    }

    async fn rollback(&self, plan: &Plan) -> Answer {
        let call = async {
            let told = self.client.rollback(plan.id(), "the test says so", ASK);
            self.heard.outcome(told.await)
        };
        self.heard.call(plan, call).await
    }

    async fn interact(&self, plan: &Plan, rng: &mut Rng) -> Answer {
        let mut begun = None;
        let begin = async {
            match self.client.begin_with(plan.id(), &plan.options).await {
                Ok(transaction) => {
                    begun = Some(transaction);
                    Answer::Accepted
                }
                Err(error) => self.heard.error(&error),
            }
        };
        let answer = self.heard.call(plan, begin).await;
        let Some(mut transaction) = begun else {
            return answer;
        };
        transaction.set_wait(WAIT);
        for branch in &plan.intent.branches {
            let (name, request) = (&branch.participant, take(branch));
            let tried = async {
                match transaction
                    .try_branch(&branch.id, name, "take", &request)
                    .await
                {
                    Ok(Tried::Failed(_)) => Answer::Decided(tercet_core::outcome::Decision::Cancel),
                    Ok(Tried::Success(_) | Tried::Processing) => Answer::Accepted,
                    Err(error) => self.heard.error(&error),
                }
            };
            if self.heard.call(plan, tried).await != Answer::Accepted {
                return self.rollback(plan).await;
            }
        }
        match rng.u8(..10) {
            0 => Answer::Unknown, // left to its deadline
            1 => self.rollback(plan).await,
            _ => {
                let commit = async { self.heard.outcome(transaction.commit().await) };
                self.heard.call(plan, commit).await
            }
        }
    }
}
