//! The disk that the store is on.

use std::{
    fs, fs::File, io::Write as _, os::unix::fs::MetadataExt as _, path::Path, time::Instant,
};

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;

const WRITES: u32 = 300;
const WRITE_BYTES: usize = 4096;

/// Makes sure that there is such a folder.
pub fn make(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))
}

/// The kind of file system this folder is on. One that lives in memory is refused: its syncs cost nothing.
pub fn file_system(folder: &Path) -> anyhow::Result<String> {
    let path = folder.canonicalize().context("looking for the folder")?;
    let mounts = fs::read_to_string("/proc/self/mounts").context("listing what is mounted")?;
    let mount = |line: &str| -> Option<(usize, String)> {
        let mut fields = line.split(' ').skip(1);
        let (point, kind) = (fields.next()?, fields.next()?);
        path.starts_with(point)
            .then(|| (point.len(), kind.to_owned()))
    };
    // Of two at the same place the later one is seen.
    let (_, kind) = mounts
        .lines()
        .filter_map(mount)
        .max_by_key(|(length, _)| *length)
        .context("no file system has the folder")?;
    if ["tmpfs", "ramfs"].contains(&&*kind) {
        let folder = folder.display();
        bail!("{folder} is in memory ({kind}), where nothing is durable; give --dir on a disk");
    }
    Ok(kind)
}

/// How much the files below this folder occupy.
pub fn used_bytes(folder: &Path) -> anyhow::Result<u64> {
    /// Whatever the file system's own blocks are.
    const BLOCK_BYTES: u64 = 512;
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        bytes += match entry.metadata()? {
            metadata if metadata.is_dir() => used_bytes(&entry.path())?,
            metadata => metadata.blocks() * BLOCK_BYTES,
        };
    }
    Ok(bytes)
}

/// How long it takes to append 4 KiB to a file in this folder and to sync it, in microseconds: the median.
pub async fn fdatasync_us(folder: &Path) -> anyhow::Result<u64> {
    let path = folder.join("fdatasync");
    tokio::task::spawn_blocking(move || {
        let mut file = File::create(path)?;
        let mut latencies = Histogram::<u64>::new(3)?;
        for _ in 0..WRITES {
            let begun = Instant::now();
            file.write_all(&[7; WRITE_BYTES])?;
            file.sync_data()?;
            latencies.record(u64::try_from(begun.elapsed().as_micros())?)?;
        }
        Ok(latencies.value_at_quantile(0.5))
    })
    .await?
}
