//! Clients at work: each sends a transaction, asks about it until its outcome is heard, and begins anew.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use tercet_core::outcome::Decision;
use tercet_sdk::client::{Client, Tried};
use tokio::{task::JoinSet, time::timeout};

use super::{
    books,
    heard::{Heard, PROGRESS_TIMEOUT, is_definitive},
    history::Answer,
    plan::{Plan, WAIT, take},
};

/// How long one question is asked.
const ASK: Duration = Duration::from_secs(2);
/// A client's own patience with a coordinator that can't be reached.
const ASK_AGAIN: Duration = Duration::from_millis(50);

pub struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
}

struct Shared {
    heard: Arc<Heard>,
    client: Client,
    next: AtomicUsize,
    stopping: AtomicBool,
}

impl Load {
    pub fn start(heard: Arc<Heard>, client: Client, clients: usize, rng: &mut Rng) -> Self {
        let shared = Arc::new(Shared {
            heard,
            client,
            next: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
        });
        let mut load = Self {
            shared: Arc::clone(&shared),
            clients: JoinSet::new(),
        };
        for _ in 0..clients {
            load.clients.spawn(Arc::clone(&shared).work(rng.fork()));
        }
        load
    }

    /// Sends nothing new, and returns when everything that was sent has ended, or should have long
    /// ago: what is wrong then is for the judge to say.
    pub async fn stop(mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let all_heard = async {
            while let Some(client) = self.clients.join_next().await {
                client.expect("a client never panics");
            }
        };
        if timeout(PROGRESS_TIMEOUT, all_heard).await.is_err() {
            println!("not over: {}", self.shared.heard.describe());
            self.clients.shutdown().await;
        }
        self.shared.until_none_is_open().await;
    }
}

impl Shared {
    /// Those that were forgotten must come to their end without anybody asking for them by name.
    async fn until_none_is_open(&self) {
        let over = timeout(PROGRESS_TIMEOUT, async {
            while books::unfinished(&self.client).await.sum() > 0 {
                tokio::time::sleep(ASK_AGAIN).await; // no event says how many there are
            }
        });
        if over.await.is_err() {
            let left = books::unfinished(&self.client).await;
            println!("nobody asks for them, and nothing happens: {left}");
        }
    }

    async fn work(self: Arc<Self>, mut rng: Rng) {
        while !self.stopping.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let plan = Plan::draw(number, &mut rng);
            self.heard.intend(&plan);
            let mut answer = match &plan.submit {
                Some(_) => self.submit(&plan).await,
                None => self.interact(&plan, &mut rng).await,
            };
            if plan.forgotten {
                self.heard.forget(&plan, answer);
                continue;
            }
            while !is_definitive(answer) {
                answer = self.ask(&plan, &mut rng).await;
            }
            if rng.u8(..4) == 0 {
                self.get_at_the_end(&plan).await;
            }
        }
    }

    /// Sometimes two questions at the same time: what both hear has to agree.
    async fn ask(&self, plan: &Plan, rng: &mut Rng) -> Answer {
        let (lot, other) = (rng.u8(..20), rng.u8(..20));
        if rng.u8(..8) > 0 {
            return self.question(plan, lot).await;
        }
        let (answer, other) = tokio::join!(self.question(plan, lot), self.question(plan, other));
        if is_definitive(answer) { answer } else { other }
    }

    async fn question(&self, plan: &Plan, lot: u8) -> Answer {
        let answer = match lot {
            0..3 => self.get(plan).await,
            3..10 => self.wait(plan).await,
            10..15 => self.get_at_the_end(plan).await,
            15..19 if plan.submit.is_some() => self.submit(plan).await,
            15..19 => self.get_at_the_end(plan).await,
            _ => self.rollback(plan).await,
        };
        match answer {
            // It never arrived, or a copy of it is still on its way.
            Answer::NotFound if plan.submit.is_some() => self.submit(plan).await,
            Answer::NotFound => self.rollback(plan).await,
            Answer::Unknown => {
                tokio::time::sleep(ASK_AGAIN).await;
                answer
            }
            answer => answer,
        }
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
                    Ok(Tried::Failed(_)) => Answer::Decided(Decision::Cancel),
                    Ok(Tried::Success(_) | Tried::Processing) => Answer::Accepted,
                    Err(error) => self.heard.error(&error),
                }
            };
            if self.heard.call(plan, tried).await != Answer::Accepted {
                return self.rollback(plan).await;
            }
        }
        match rng.u8(..40) {
            0 => Answer::Accepted, // left to its deadline
            1..8 => self.rollback(plan).await,
            _ => {
                let commit = async { self.heard.outcome(transaction.commit().await) };
                self.heard.call(plan, commit).await
            }
        }
    }
}
