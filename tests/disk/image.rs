//! A folder's content: read, compared, and laid down somewhere else.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Everything below a folder, by relative path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image(pub BTreeMap<PathBuf, Content>);

#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    File(Vec<u8>),
    Directory,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Directory => f.write_str("a directory"),
        }
    }
}

impl Image {
    pub fn read(folder: &Path) -> Self {
        let mut image = Self::default();
        image.add(folder, Path::new(""));
        image
    }

    fn add(&mut self, folder: &Path, below: &Path) {
        for entry in fs::read_dir(folder.join(below)).unwrap() {
            let entry = entry.unwrap();
            let path = below.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                self.0.insert(path.clone(), Content::Directory);
                self.add(folder, &path);
            } else {
                let bytes = fs::read(entry.path()).unwrap();
                self.0.insert(path, Content::File(bytes));
            }
        }
    }

    /// Makes the folder what this says, whatever it was.
    pub fn write(&self, folder: &Path) {
        if folder.exists() {
            fs::remove_dir_all(folder).unwrap();
        }
        fs::create_dir_all(folder).unwrap();
        for (path, content) in &self.0 {
            let path = folder.join(path);
            match content {
                Content::File(bytes) => fs::write(path, bytes).unwrap(),
                Content::Directory => fs::create_dir(path).unwrap(),
            }
        }
    }

    /// What is not the same in the other, for a person.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let paths = self.0.keys().chain(other.0.keys());
        let differ = paths.filter(|path| self.0.get(*path) != other.0.get(*path));
        let describe = |path: &PathBuf| {
            let (ours, theirs) = (self.0.get(path), other.0.get(path));
            format!("{}: {ours:?}, {theirs:?}", path.display())
        };
        differ.map(describe).collect()
    }
}
