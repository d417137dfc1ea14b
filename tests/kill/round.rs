//! One round of the game: who is to end or to sleep next, how, and what that found.

use std::{fmt, ops::Range, time::Duration};

use fastrand::Rng;
use tercet_sdk::client::Client;
use tokio::time::timeout;

use super::{
    books::{self, Unfinished},
    heard::Heard,
    processes::{Manner, Processes, Role},
};

/// Answers that clients hear while a participant is away, at most, and how long that may take.
const ANSWERS_AWAY_MAX: usize = 50;
const AWAY_MAX: Duration = Duration::from_secs(1);
/// How long a process sleeps that wakes again.
const SLEEP_MS: Range<u64> = 10..800;

pub enum Round {
    /// These end, in this order, and are started again.
    End {
        victims: Vec<Role>,
        manner: Manner,
        /// Hangs meanwhile, and then goes on with what a dead coordinator has sent it.
        asleep: Option<Role>,
    },
    /// This one hangs, and goes on where it was: late, and unaware of it.
    Sleep(Role),
}

/// What a round has seen.
#[derive(Default)]
pub struct Met {
    /// What was unfinished, on record, when somebody had been killed.
    pub unfinished: Option<Unfinished>,
    /// How long the dead coordinator's store took to open.
    pub opened_in: Option<Duration>,
    /// How long the coordinator took to serve again, once its store had been seen to.
    pub restarted_in: Option<Duration>,
}

impl Round {
    pub fn draw(rng: &mut Rng) -> Self {
        let participant = Role::PARTICIPANTS[rng.usize(..2)];
        if rng.u8(..10) == 0 {
            let sleeper = if rng.bool() {
                Role::Coordinator
            } else {
                participant
            };
            return Self::Sleep(sleeper);
        }
        let victims = match rng.u8(..20) {
            0..12 => vec![Role::Coordinator],
            12..16 => vec![participant],
            16..18 => vec![Role::Coordinator, participant],
            _ => vec![participant, Role::Coordinator],
        };
        let manner = match rng.u8(..20) {
            0..15 => Manner::Kill,
            15..19 => Manner::HangAndKill,
            _ => Manner::Ask,
        };
        let alone = victims == [Role::Coordinator] && manner != Manner::Ask;
        Self::End {
            asleep: (alone && rng.u8(..6) == 0).then_some(participant),
            victims,
            manner,
        }
    }

    pub async fn play(
        &self,
        processes: &mut Processes,
        heard: &Heard,
        client: &Client,
        rng: &mut Rng,
    ) -> Met {
        match self {
            Round::End {
                victims,
                manner,
                asleep,
            } => {
                if let Some(sleeper) = asleep {
                    processes.put_to_sleep(*sleeper);
                }
                let met = end(victims, *manner, processes, heard, client, rng).await;
                if let Some(sleeper) = asleep {
                    processes.wake(*sleeper);
                }
                met
            }
            Round::Sleep(sleeper) => {
                processes.put_to_sleep(*sleeper);
                if *sleeper == Role::Coordinator {
                    processes.refuse_a_second(rng).await;
                }
                tokio::time::sleep(Duration::from_millis(rng.u64(SLEEP_MS))).await;
                processes.wake(*sleeper);
                Met::default()
            }
        }
    }
}

async fn end(
    victims: &[Role],
    manner: Manner,
    processes: &mut Processes,
    heard: &Heard,
    client: &Client,
    rng: &mut Rng,
) -> Met {
    let mut met = Met::default();
    for role in victims {
        processes.end(*role, manner, rng).await;
    }
    if manner != Manner::Ask {
        if victims.contains(&Role::Coordinator) {
            let left = processes.find_left().await;
            met.unfinished = Some(left.unfinished);
            met.opened_in = Some(left.opened_in);
        } else {
            met.unfinished = Some(books::unfinished(client).await);
        }
    }
    for role in victims {
        if *role == Role::Coordinator {
            met.restarted_in = Some(processes.start_again(*role, rng).await);
        } else {
            let answers = heard.progress().answers + rng.usize(..ANSWERS_AWAY_MAX);
            let _in_time = timeout(AWAY_MAX, heard.until(|it| it.answers >= answers)).await;
            processes.start_again(*role, rng).await;
        }
    }
    met
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Round::End {
                victims,
                manner,
                asleep,
            } => {
                let victims: Vec<_> = victims.iter().map(|role| role.name()).collect();
                let signals = match manner {
                    Manner::Kill => "KILL",
                    Manner::HangAndKill => "STOP, KILL",
                    Manner::Ask => "TERM",
                };
                write!(f, "{signals} of {}", victims.join(" and "))?;
                match asleep {
                    Some(_) => f.write_str(", STOP, CONT of a participant around it"),
                    None => Ok(()),
                }
            }
            Round::Sleep(sleeper) => write!(f, "STOP, CONT of {}", sleeper.name()),
        }
    }
}
