//! What the preloaded library has written down. The format stands in `shim.c`.

use std::{
    fs::File,
    io::{BufReader, Read as _},
    path::{Path, PathBuf},
};

/// One change or sync. Paths are relative to the folder.
#[derive(Debug)]
pub enum Entry {
    Create {
        path: PathBuf,
        inode: u64,
    },
    Write {
        inode: u64,
        at: u64,
        data: Vec<u8>,
    },
    SetLength {
        inode: u64,
        length: u64,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Unlink {
        path: PathBuf,
    },
    MakeDirectory {
        path: PathBuf,
        inode: u64,
    },
    SyncBegins {
        number: u64,
    },
    SyncEnded {
        inode: u64,
        number: u64,
    },
    /// Something failed, for the first time.
    Fault {
        unix_ms: u64,
    },
}

/// Reads one entry after the other.
pub struct Journal {
    file: BufReader<File>,
    position: u64,
}

impl Journal {
    pub fn open(path: &Path) -> Self {
        let file = BufReader::new(File::open(path).unwrap());
        Self { file, position: 0 }
    }

    fn number<const BYTES: usize>(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.file.read_exact(&mut bytes[..BYTES]).unwrap();
        u64::from_le_bytes(bytes)
    }

    fn bytes(&mut self, len: u64) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(len).unwrap()];
        self.file.read_exact(&mut bytes).expect("it is whole");
        bytes
    }

    fn path(&mut self, len: u64) -> PathBuf {
        String::from_utf8(self.bytes(len)).unwrap().into()
    }
}

/// Each with the length of the journal once it stood there.
impl Iterator for Journal {
    type Item = (u64, Entry);

    fn next(&mut self) -> Option<Self::Item> {
        use std::io::BufRead as _;
        if self.file.fill_buf().unwrap().is_empty() {
            return None;
        }
        let (kind, path_len) = (self.number::<4>(), self.number::<4>());
        let (inode, at, data_len) = (self.number::<8>(), self.number::<8>(), self.number::<8>());
        self.position += 32 + path_len + data_len;
        let path = self.path(path_len);
        let entry = match kind {
            1 => Entry::Create { path, inode },
            2 => {
                let data = self.bytes(data_len);
                Entry::Write { inode, at, data }
            }
            3 => {
                let length = at;
                Entry::SetLength { inode, length }
            }
            4 => {
                let to = self.path(data_len);
                Entry::Rename { from: path, to }
            }
            5 => Entry::Unlink { path },
            6 => Entry::MakeDirectory { path, inode },
            7 => Entry::SyncBegins { number: at },
            8 => Entry::SyncEnded { inode, number: at },
            9 => Entry::Fault { unix_ms: at },
            kind => panic!("the journal has an entry of kind {kind}"),
        };
        Some((self.position, entry))
    }
}
