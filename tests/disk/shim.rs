//! The library that is preloaded into a program: compiled once, then set in its environment.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

/// What a program is started with.
#[derive(Clone, Debug)]
pub struct Shim {
    /// Below it everything is written down.
    pub folder: PathBuf,
    /// Where to.
    pub journal: PathBuf,
    /// How long a sync takes. On a slow disk, what is acknowledged too early is heard of long before
    /// the sync's end.
    pub sync: Duration,
    pub fault: Option<Fault>,
}

/// What fails, from 0.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub what: What,
    pub nth: u64,
    pub error: i32,
    pub how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Of a file or a name.
    Change,
    Sync,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Once,
    FromThenOn,
    /// The first does half of it and succeeds, all others fail.
    Short,
}

impl Shim {
    pub fn preload(&self, command: &mut Command) {
        command.env("LD_PRELOAD", library());
        command.env("SHIM_FOLDER", &self.folder);
        command.env("SHIM_JOURNAL", &self.journal);
        command.env("SHIM_SYNC_US", self.sync.as_micros().to_string());
        if let Some(fault) = self.fault {
            command.env("SHIM_FAULT", fault.to_string());
        }
    }
}

/// As the library reads it.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            What::Change => "change",
            What::Sync => "sync",
        };
        let how = match self.how {
            How::Once => "once",
            How::FromThenOn => "on",
            How::Short => "short",
        };
        write!(f, "{what}:{}:{}:{how}", self.nth, self.error)
    }
}

fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/disk/shim.c");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shim.so");
        // Another run may use the old one.
        let new = library.with_extension(format!("so.{}", std::process::id()));
        let mut cc = Command::new("cc");
        cc.args([
            "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread", "-o",
        ]);
        let compiled = cc.arg(&new).arg(source).status();
        assert!(compiled.expect("there is a C compiler").success(), "{cc:?}");
        fs::rename(&new, &library).unwrap();
        library
    })
}
