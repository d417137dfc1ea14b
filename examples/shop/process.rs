//! The shop's processes: started, killed, stopped and started again where they were.

use std::{
    fmt,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tercet_sdk::client::Client;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// How long a process may take to say that it listens.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// One server of the shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Order,
    Inventory,
    Payment,
    Coordinator,
}

impl Role {
    const PARTICIPANTS: [Role; 3] = [Role::Order, Role::Inventory, Role::Payment];
    const ALL: [Role; 4] = [
        Role::Order,
        Role::Inventory,
        Role::Payment,
        Role::Coordinator,
    ];

    fn name(self) -> &'static str {
        match self {
            Role::Order => "order",
            Role::Inventory => "inventory",
            Role::Payment => "payment",
            Role::Coordinator => "coordinator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

pub struct Shop {
    folder: PathBuf,
    addresses: [String; 4],
    running: [Option<Child>; 4],
    client: Client,
}

impl Shop {
    pub async fn open(folder: &Path) -> anyhow::Result<Self> {
        let addresses = [
            free_address()?,
            free_address()?,
            free_address()?,
            free_address()?,
        ];
        let client = Client::new(format!("http://{}", addresses[Role::Coordinator as usize]))?;
        let running = [None, None, None, None];
        let mut shop = Self {
            folder: folder.into(),
            addresses,
            running,
            client,
        };
        for role in Role::ALL {
            shop.start(role).await?;
        }
        Ok(shop)
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Starts a server and waits until it listens.
    pub async fn start(&mut self, role: Role) -> anyhow::Result<()> {
        let address = &self.addresses[role as usize];
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(role.name()).arg(address);
        match role {
            Role::Coordinator => {
                command.arg(self.folder.join("coordinator"));
                for participant in Role::PARTICIPANTS {
                    let address = &self.addresses[participant as usize];
                    command.arg(format!("{participant}=http://{address}"));
                }
            }
            Role::Order | Role::Inventory | Role::Payment => {
                command.arg(self.folder.join(format!("{role}.db")));
            }
        }
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let output = child.stdout.take().context("its output")?;
        let mut lines = BufReader::new(output).lines();
        let line = tokio::time::timeout(READY_TIMEOUT, lines.next_line()).await;
        if line
            .with_context(|| format!("{role} does not listen"))??
            .is_none()
        {
            bail!("{role} ended before it listened: {}", child.wait().await?);
        }
        self.running[role as usize] = Some(child);
        Ok(())
    }

    /// As a power cut would: no warning, no last words.
    pub async fn kill(&mut self, role: Role) -> anyhow::Result<()> {
        let mut child = self.running[role as usize].take().context("it runs")?;
        child.kill().await?;
        println!("   ✂ {role} is killed");
        Ok(())
    }

    /// From now on it takes requests and answers none.
    pub fn freeze(&self, role: Role) -> anyhow::Result<()> {
        self.signal(role, Signal::STOP)?;
        println!("   ✂ {role} stops answering");
        Ok(())
    }

    pub fn thaw(&self, role: Role) -> anyhow::Result<()> {
        self.signal(role, Signal::CONT)?;
        println!("   ✔ {role} answers again");
        Ok(())
    }

    pub async fn restart(&mut self, role: Role) -> anyhow::Result<()> {
        self.start(role).await?;
        println!("   ✔ {role} is back");
        Ok(())
    }

    /// Ends everything in an orderly way.
    pub async fn close(mut self) -> anyhow::Result<()> {
        for role in [
            Role::Coordinator,
            Role::Order,
            Role::Inventory,
            Role::Payment,
        ] {
            self.signal(role, Signal::INT)?;
            let mut child = self.running[role as usize].take().context("it runs")?;
            let status = child.wait().await?;
            if !status.success() {
                bail!("{role} ended with {status}");
            }
        }
        Ok(())
    }

    fn signal(&self, role: Role, signal: Signal) -> anyhow::Result<()> {
        let child = self.running[role as usize].as_ref().context("it runs")?;
        let id = i32::try_from(child.id().context("it has not ended")?)?;
        kill_process(Pid::from_raw(id).context("it has an id")?, signal)?;
        Ok(())
    }
}

/// A port that is free now. A server keeps its address when it is started again.
fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
