//! What tests share that go further when they are asked to: how far, and what a failure leaves behind.

use std::{fs, path::Path};

use tempfile::TempDir;

/// A number in the environment, if it is set.
pub fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Where stores, databases and logs are. A failure leaves them behind, and says so.
pub struct EvidenceFolder(TempDir);

impl EvidenceFolder {
    /// A new folder, named after this test.
    pub fn new(test: &str) -> Self {
        let mut builder = tempfile::Builder::new();
        let prefix = format!("tercet-{test}-");
        let builder = builder.prefix(&prefix).disable_cleanup(true);
        Self(builder.tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Nothing has failed.
    pub fn remove(self) {
        fs::remove_dir_all(self.path()).unwrap();
    }
}

impl Drop for EvidenceFolder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the evidence is left in {}", self.path().display());
        }
    }
}
