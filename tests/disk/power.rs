//! What is left of a folder when the power goes.
//!
//! Nothing is promised but this: what was written to a file before an `fsync` or `fdatasync` of it
//! began is there once that has returned, and a name is there, or gone, once its directory was synced
//! after the change. Everything else may be lost, kept, or kept in part; POSIX allows no less, and no
//! file system is asked whether it would.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use fastrand::Rng;

use super::{
    image::{Content, Image},
    journal::Entry,
};

/// What a disk writes at once, or not at all.
const SECTOR_BYTES: usize = 512;

/// What becomes of what was not synced.
#[derive(Clone, Copy, Debug)]
pub enum Unsynced {
    Gone,
    /// An arbitrary part of it is there, drawn from this seed.
    Partly(u64),
    /// All of it is there: no cut, the folder as programs see it.
    Kept,
}

/// Every file and directory, with what is certain of it and what is not.
#[derive(Clone)]
pub struct Disk {
    nodes: Vec<Node>,
    by_inode: HashMap<u64, usize>,
    /// As programs see them.
    names: BTreeMap<PathBuf, usize>,
    /// How many changes there were.
    changes: u64,
    /// How many changes there were when a sync began, by its number.
    syncs: HashMap<u64, u64>,
}

#[derive(Clone)]
enum Node {
    File(Versions<Vec<u8>, Change>),
    Directory(Versions<Names, Rename>),
}

type Names = BTreeMap<OsString, usize>;

#[derive(Clone)]
struct Versions<T, C> {
    synced: T,
    /// By the number of the change.
    unsynced: Vec<(u64, C)>,
}

#[derive(Clone)]
enum Change {
    Write { at: usize, data: Vec<u8> },
    SetLength(usize),
}

/// A name goes, or comes, or both at once.
#[derive(Clone)]
struct Rename {
    from: Option<OsString>,
    to: Option<(OsString, usize)>,
}

impl Disk {
    /// This folder, as it is now and with all of it synced.
    pub fn of(folder: &Path) -> Self {
        let mut disk = Self {
            nodes: Vec::new(),
            by_inode: HashMap::new(),
            names: BTreeMap::new(),
            changes: 0,
            syncs: HashMap::new(),
        };
        disk.add(folder, PathBuf::new());
        disk
    }

    /// The same disk when its program was killed: its files, as programs see them, lie in this folder now,
    /// and what was not synced still is not.
    pub fn killed(mut self, folder: &Path) -> Self {
        self.image(Unsynced::Kept).write(folder);
        self.syncs.clear();
        let inode = |path: &PathBuf| fs::metadata(folder.join(path)).unwrap().ino();
        let inodes = self.names.iter().map(|(path, node)| (inode(path), *node));
        self.by_inode = inodes.collect();
        self
    }

    fn add(&mut self, folder: &Path, path: PathBuf) -> usize {
        let real = folder.join(&path);
        let node = if real.is_dir() {
            let mut names = Names::new();
            for entry in fs::read_dir(&real).unwrap() {
                let name = entry.unwrap().file_name();
                let node = self.add(folder, path.join(&name));
                names.insert(name, node);
            }
            Node::Directory(Versions::of(names))
        } else {
            Node::File(Versions::of(fs::read(&real).unwrap()))
        };
        self.insert(path, fs::metadata(&real).unwrap().ino(), node)
    }

    fn insert(&mut self, path: PathBuf, inode: u64, node: Node) -> usize {
        let number = self.nodes.len();
        self.nodes.push(node);
        self.by_inode.insert(inode, number);
        self.names.insert(path, number);
        number
    }

    /// Follows the journal by one entry.
    pub fn apply(&mut self, entry: Entry) {
        self.changes += 1;
        match entry {
            Entry::Create { path, inode } => {
                let file = Node::File(Versions::of(Vec::new()));
                let node = self.insert(path.clone(), inode, file);
                self.rename(None, Some((path, node)));
            }
            Entry::MakeDirectory { path, inode } => {
                let directory = Node::Directory(Versions::of(Names::new()));
                let node = self.insert(path.clone(), inode, directory);
                self.rename(None, Some((path, node)));
            }
            Entry::Write { inode, at, data } => {
                let at = usize::try_from(at).unwrap();
                self.change(inode, Change::Write { at, data });
            }
            Entry::SetLength { inode, length } => {
                let length = usize::try_from(length).unwrap();
                self.change(inode, Change::SetLength(length));
            }
            Entry::Rename { from, to } => {
                let node = self.names.remove(&from).expect("it was there");
                self.names.insert(to.clone(), node);
                self.rename(Some(from), Some((to, node)));
            }
            Entry::Unlink { path } => {
                self.names.remove(&path).expect("it was there");
                self.rename(Some(path), None);
            }
            Entry::SyncBegins { number } => {
                self.syncs.insert(number, self.changes);
            }
            Entry::SyncEnded { inode, number } => {
                let begun = self.syncs.remove(&number).expect("it has begun");
                match self.node(inode) {
                    Node::File(file) => file.sync(begun, change),
                    Node::Directory(names) => names.sync(begun, rename),
                }
            }
            Entry::Fault { .. } => {}
        }
    }

    fn node(&mut self, inode: u64) -> &mut Node {
        let number = self.by_inode.get(&inode).expect("it was created");
        &mut self.nodes[*number]
    }

    fn change(&mut self, inode: u64, change: Change) {
        let number = self.changes;
        match self.node(inode) {
            Node::File(file) => file.unsynced.push((number, change)),
            Node::Directory(_) => panic!("a directory was written to"),
        }
    }

    fn rename(&mut self, from: Option<PathBuf>, to: Option<(PathBuf, usize)>) {
        let parent = |path: &PathBuf| path.parent().unwrap().to_owned();
        let name = |path: PathBuf| path.file_name().unwrap().to_owned();
        let both = (
            from.as_ref().map(parent),
            to.as_ref().map(|(to, _)| parent(to)),
        );
        let directory = match both {
            (Some(from), Some(to)) => {
                assert_eq!(from, to, "a name moved to another directory");
                from
            }
            (from, to) => from.or(to).unwrap(),
        };
        let rename = Rename {
            from: from.map(name),
            to: to.map(|(to, node)| (name(to), node)),
        };
        match &mut self.nodes[self.names[&directory]] {
            Node::Directory(names) => names.unsynced.push((self.changes, rename)),
            Node::File(_) => panic!("a file has no names"),
        }
    }

    /// The folder as the next start finds it.
    pub fn image(&self, unsynced: Unsynced) -> Image {
        let mut image = Image::default();
        let mut lot = Lot::draw(unsynced);
        self.lay_down(
            &mut image,
            &mut lot,
            &PathBuf::new(),
            self.names[Path::new("")],
        );
        image
    }

    fn lay_down(&self, image: &mut Image, lot: &mut Lot, path: &Path, node: usize) {
        match &self.nodes[node] {
            Node::File(file) => {
                let bytes = file.after(|bytes, it| lot.change(bytes, it));
                image.0.insert(path.to_owned(), Content::File(bytes));
            }
            Node::Directory(names) => {
                if path != Path::new("") {
                    image.0.insert(path.to_owned(), Content::Directory);
                }
                let names = names.after(|names, it| lot.rename(names, it));
                for (name, node) in names {
                    self.lay_down(image, lot, &path.join(name), node);
                }
            }
        }
    }
}

impl<T: Clone, C> Versions<T, C> {
    fn of(synced: T) -> Self {
        let unsynced = Vec::new();
        Self { synced, unsynced }
    }

    /// What was changed up to then is certain.
    fn sync(&mut self, until: u64, apply: impl Fn(&mut T, &C)) {
        let certain = self
            .unsynced
            .partition_point(|(number, _)| *number <= until);
        for (_, change) in self.unsynced.drain(..certain) {
            apply(&mut self.synced, &change);
        }
    }

    fn after(&self, mut apply: impl FnMut(&mut T, &C)) -> T {
        let mut after = self.synced.clone();
        for (_, change) in &self.unsynced {
            apply(&mut after, change);
        }
        after
    }
}

/// Decides about each unsynced change.
struct Lot {
    unsynced: Unsynced,
    rng: Rng,
    /// How many of 8 are kept.
    kept: u8,
}

impl Lot {
    fn draw(unsynced: Unsynced) -> Self {
        let seed = match unsynced {
            Unsynced::Partly(seed) => seed,
            Unsynced::Gone | Unsynced::Kept => 0,
        };
        let mut rng = Rng::with_seed(seed);
        let kept = rng.u8(1..8);
        Self {
            unsynced,
            rng,
            kept,
        }
    }

    fn keeps(&mut self) -> bool {
        match self.unsynced {
            Unsynced::Gone => false,
            Unsynced::Partly(_) => self.rng.u8(..8) < self.kept,
            Unsynced::Kept => true,
        }
    }

    fn rename(&mut self, names: &mut Names, it: &Rename) {
        if self.keeps() {
            rename(names, it);
        }
    }

    /// Some are kept in part: of some sectors the old content, or only the new length.
    fn change(&mut self, bytes: &mut Vec<u8>, it: &Change) {
        let torn = matches!(self.unsynced, Unsynced::Partly(_)) && self.rng.u8(..4) == 0;
        match it {
            Change::Write { at, data } if torn => {
                if self.rng.bool() {
                    grow(bytes, at + data.len());
                }
                let first = SECTOR_BYTES - at % SECTOR_BYTES;
                let mut done = 0;
                while done < data.len() {
                    let end = data.len().min(if done == 0 {
                        first
                    } else {
                        done + SECTOR_BYTES
                    });
                    if self.keeps() {
                        write(bytes, at + done, &data[done..end]);
                    }
                    done = end;
                }
            }
            _ if self.keeps() => change(bytes, it),
            _ => {}
        }
    }
}

fn change(bytes: &mut Vec<u8>, it: &Change) {
    match it {
        Change::Write { at, data } => write(bytes, *at, data),
        Change::SetLength(length) => bytes.resize(*length, 0),
    }
}

fn write(bytes: &mut Vec<u8>, at: usize, data: &[u8]) {
    grow(bytes, at + data.len());
    bytes[at..at + data.len()].copy_from_slice(data);
}

fn grow(bytes: &mut Vec<u8>, len: usize) {
    if bytes.len() < len {
        bytes.resize(len, 0);
    }
}

fn rename(names: &mut Names, it: &Rename) {
    if let Some(from) = &it.from {
        names.remove(from);
    }
    if let Some((to, node)) = &it.to {
        names.insert(to.clone(), *node);
    }
}
