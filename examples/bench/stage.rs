//! Who works together in one measurement: participants, and a coordinator that comes and goes.

use std::path::{Path, PathBuf};

use crate::{
    mode::Mode,
    processes::{Coordinator, Launch, NAMES, Participant, free_address, last_words},
};

/// The participants, and where the coordinator will be.
pub struct Stage {
    pub folder: PathBuf,
    pub participants: Vec<Participant>,
    pub launch: Launch,
    mode: Mode,
    address: String,
}

impl Stage {
    /// Starts new participants, the two that every transaction has a branch with. The coordinator will work
    /// in this folder.
    pub async fn set(mode: Mode, launch: Launch, folder: &Path) -> anyhow::Result<Self> {
        Self::with(&NAMES, mode, launch, folder).await
    }

    /// The same with these participants.
    pub async fn with(
        names: &[&str],
        mode: Mode,
        launch: Launch,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let mut stage = Self::empty(mode, launch, folder)?;
        let url = format!("http://{}", stage.address);
        let connects = (mode == Mode::Sessions).then_some(&*url);
        for name in names {
            let participant = Participant::start(name, connects).await?;
            stage.participants.push(participant);
        }
        Ok(stage)
    }

    /// The same with two that answer nothing.
    pub async fn silent(launch: Launch, folder: &Path) -> anyhow::Result<Self> {
        let mut stage = Self::empty(Mode::Unary, launch, folder)?;
        for name in NAMES {
            stage
                .participants
                .push(Participant::start_silent(name).await?);
        }
        Ok(stage)
    }

    fn empty(mode: Mode, launch: Launch, folder: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            folder: folder.to_owned(),
            participants: Vec::new(),
            launch,
            mode,
            address: free_address()?,
        })
    }

    /// Starts the coordinator; all are ready for work when this returns.
    pub async fn coordinator(&self) -> anyhow::Result<Coordinator> {
        let (address, participants) = (&self.address, &self.participants);
        let started = Coordinator::start(&self.launch, &self.folder, address, participants);
        let coordinator = started.await?;
        if self.mode == Mode::Sessions {
            coordinator.connected(participants).await?;
        }
        Ok(coordinator)
    }

    /// The participants' processes.
    pub fn processes(&self) -> Vec<u32> {
        self.participants.iter().map(Participant::id).collect()
    }
}

/// Adds to an error what the coordinator that works in this folder had to say.
pub fn with_last_words<T>(result: anyhow::Result<T>, folder: &Path) -> anyhow::Result<T> {
    result.map_err(|error| match last_words(folder) {
        log if log.is_empty() => error,
        log => error.context(format!("the coordinator's last words:\n{log}\n")),
    })
}
