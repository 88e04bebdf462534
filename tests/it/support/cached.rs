//! A disk in memory with a cache, whose power can fail: what was not synced may exist afterwards or
//! not, separately for each name and each file. That is less than any journaling filesystem
//! promises, and so more than a test on one of them could show.
//!
//! The same for a disk that machines share: the flush of a directory succeeds and does nothing, as
//! on GlusterFS and most FUSE filesystems. The flush of a file includes the changes to its names
//! and to the directories above them.
//!
//! A call can be killed before any of its steps: it unwinds, and nothing more of it happens. Locks
//! always succeed, because one call runs at a time.

use hereabouts::store::disk::{Content, Disk, Held, Inode, Locked, Patience};
use nix::errno::Errno;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The panic value of a call that is killed.
pub(crate) struct Killed;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Node {
    File {
        bytes: Rc<[u8]>,
        synced: bool,
    },
    Directory {
        names: BTreeMap<OsString, usize>,
        /// The values that each name had since the last sync, in addition to its current one.
        before: BTreeMap<OsString, Vec<Option<usize>>>,
        marked: bool,
        mark_synced: bool,
    },
}

/// Everything on the disk, and which of it is only in the cache.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Image {
    nodes: Vec<Node>,
}

/// One thing that a power loss decides, and the number of its outcomes. Outcome 0 is the current
/// state.
enum Doubt {
    Name(usize, OsString, Vec<Option<usize>>),
    Bytes(usize, Vec<Rc<[u8]>>),
    Mark(usize),
}

impl Doubt {
    fn outcomes(&self) -> usize {
        1 + match self {
            Self::Name(_, _, before) => before.len(),
            Self::Bytes(_, others) => others.len(),
            Self::Mark(_) => 1,
        }
    }
}

impl Image {
    /// Returns an empty data directory.
    pub(crate) fn new() -> Self {
        Self { nodes: vec![Self::directory()] }
    }

    fn directory() -> Node {
        Node::Directory {
            names: BTreeMap::new(),
            before: BTreeMap::new(),
            marked: false,
            mark_synced: true,
        }
    }

    fn doubts(&self) -> Vec<Doubt> {
        let mut doubts = Vec::new();
        for (number, node) in self.nodes.iter().enumerate() {
            match node {
                Node::File { bytes, synced: false } => {
                    let half: Rc<[u8]> = bytes[..bytes.len() / 2].into();
                    let zeros: Rc<[u8]> = vec![0; bytes.len()].into();
                    doubts.push(Doubt::Bytes(number, vec![Rc::from([]), half, zeros]));
                }
                Node::File { .. } => {}
                Node::Directory { before, mark_synced, .. } => {
                    doubts.extend(
                        before.iter().map(|(name, values)| {
                            Doubt::Name(number, name.clone(), values.clone())
                        }),
                    );
                    if !mark_synced {
                        doubts.push(Doubt::Mark(number));
                    }
                }
            }
        }
        doubts
    }

    /// Returns what may be found after a power loss: all states if there are at most `most`;
    /// otherwise nothing lost, everything lost, each thing lost alone, each thing kept alone, and
    /// others that are drawn with `seed`.
    pub(crate) fn after_power_loss(&self, most: usize, seed: u64) -> Vec<Self> {
        let doubts = self.doubts();
        let all = doubts.iter().try_fold(1usize, |product, doubt| {
            product.checked_mul(doubt.outcomes()).filter(|all| *all <= most)
        });
        let mut choices: Vec<Vec<usize>> = Vec::new();
        if let Some(all) = all {
            for mut code in 0..all {
                choices.push(
                    doubts
                        .iter()
                        .map(|doubt| (code % doubt.outcomes(), code /= doubt.outcomes()).0)
                        .collect(),
                );
            }
        } else {
            let oldest: Vec<usize> =
                doubts.iter().map(|doubt| usize::from(1 < doubt.outcomes())).collect();
            choices.extend([vec![0; doubts.len()], oldest.clone()]);
            for at in 0..doubts.len() {
                let (mut lost, mut kept) = (vec![0; doubts.len()], oldest.clone());
                (lost[at], kept[at]) = (1, 0);
                choices.extend([lost, kept]);
            }
            let mut draw = Draw(seed);
            while choices.len() < most {
                choices.push(doubts.iter().map(|doubt| draw.below(doubt.outcomes())).collect());
            }
        }
        choices.into_iter().map(|choice| self.settle(&doubts, &choice)).collect()
    }

    fn settle(&self, doubts: &[Doubt], choice: &[usize]) -> Self {
        let mut image = self.clone();
        for (doubt, outcome) in doubts.iter().zip(choice) {
            let Some(other) = outcome.checked_sub(1) else { continue };
            match doubt {
                Doubt::Name(at, name, values) => {
                    let Node::Directory { names, .. } = &mut image.nodes[*at] else {
                        unreachable!()
                    };
                    match values[other] {
                        Some(number) => names.insert(name.clone(), number),
                        None => names.remove(name),
                    };
                }
                Doubt::Bytes(at, others) => {
                    image.nodes[*at] = Node::File { bytes: Rc::clone(&others[other]), synced: true }
                }
                Doubt::Mark(at) => {
                    let Node::Directory { marked, .. } = &mut image.nodes[*at] else {
                        unreachable!()
                    };
                    *marked = false;
                }
            }
        }
        for node in &mut image.nodes {
            match node {
                Node::File { synced, .. } => *synced = true,
                Node::Directory { before, mark_synced, .. } => {
                    before.clear();
                    *mark_synced = true;
                }
            }
        }
        image
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        path.components().try_fold(0, |at, part| match &self.nodes[at] {
            Node::Directory { names, .. } => {
                names.get(part.as_os_str()).copied().ok_or_else(|| Errno::ENOENT.into())
            }
            Node::File { .. } => Err(Errno::ENOTDIR.into()),
        })
    }

    /// Returns the directory of a name and the name in it.
    fn place<'p>(&self, path: &'p Path) -> io::Result<(usize, &'p OsStr)> {
        Ok((self.find(path.parent().unwrap())?, path.file_name().unwrap()))
    }

    fn set(&mut self, (at, name): (usize, &OsStr), value: Option<usize>) -> io::Result<()> {
        let Node::Directory { names, before, .. } = &mut self.nodes[at] else {
            return Err(Errno::ENOTDIR.into());
        };
        let old = match value {
            Some(number) => names.insert(name.to_owned(), number),
            None => names.remove(name),
        };
        let values = before.entry(name.to_owned()).or_default();
        values.retain(|known| *known != value);
        if !values.contains(&old) {
            values.push(old);
        }
        Ok(())
    }

    /// Makes the changes to the names of a file durable, and the directories that lead to them.
    fn settle_names(&mut self, file: usize) {
        let mut reached = vec![file];
        while let Some(number) = reached.pop() {
            for at in 0..self.nodes.len() {
                let Node::Directory { names, before, .. } = &mut self.nodes[at] else { continue };
                let leads = names.values().any(|known| *known == number);
                let is_of = |name: &OsString, values: &Vec<Option<usize>>| {
                    names.get(name) == Some(&number)
                        || (number == file && values.contains(&Some(number)))
                };
                let had = before.len();
                before.retain(|name, values| !is_of(name, values));
                if leads || before.len() < had {
                    reached.push(at);
                }
            }
        }
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<usize> {
        if self.find(path).is_ok() {
            return Err(Errno::EEXIST.into());
        }
        let place = self.place(path)?;
        self.nodes.push(node);
        let number = self.nodes.len() - 1;
        self.set(place, Some(number))?;
        Ok(number)
    }
}

/// Numbers that are the same in every run.
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

/// Returns whether a sync is removed, to show that the model finds this.
pub(crate) type Skip = fn(&Path) -> bool;

pub(crate) struct CachedDisk {
    image: RefCell<Image>,
    step: Cell<usize>,
    pub(crate) kill_at: Option<usize>,
    pub(crate) skip: Option<Skip>,
    /// See the module. `skip` then removes the flush of a file whose bytes are already on the disk.
    pub(crate) shared: bool,
    /// The image after each step that changed something.
    history: RefCell<Vec<Image>>,
    clock: Cell<u64>,
}

struct Nothing;
impl Held for Nothing {}

impl CachedDisk {
    /// `clock` is in seconds.
    pub(crate) fn new(image: Image, clock: u64) -> Self {
        Self {
            image: RefCell::new(image),
            step: Cell::new(0),
            kill_at: None,
            skip: None,
            shared: false,
            history: RefCell::default(),
            clock: Cell::new(clock * 1_000_000),
        }
    }

    pub(crate) fn image(&self) -> Image {
        self.image.borrow().clone()
    }

    pub(crate) fn history(&self) -> Vec<Image> {
        self.history.take()
    }

    fn step(&self) {
        if self.kill_at == Some(self.step.get()) {
            // Without a message, because this is not a failure.
            std::panic::resume_unwind(Box::new(Killed));
        }
        self.step.set(self.step.get() + 1);
    }

    /// Makes a change. Only steps that change something are preceded by a kill.
    fn change<T>(&self, work: impl FnOnce(&mut Image) -> io::Result<T>) -> io::Result<T> {
        self.step();
        let done = work(&mut self.image.borrow_mut());
        self.history.borrow_mut().push(self.image());
        done
    }
}

const fn identity(number: usize) -> Inode {
    Inode { device: 1, number: number as u64 }
}

impl Disk for CachedDisk {
    fn root(&self) -> &Path {
        Path::new("/store")
    }
    fn exists(&self) -> io::Result<bool> {
        Ok(true)
    }
    fn make_root(&self) -> io::Result<()> {
        Ok(())
    }
    fn is_local(&self) -> io::Result<bool> {
        Ok(!self.shared)
    }
    fn check_writable(&self) -> io::Result<()> {
        Ok(())
    }
    fn read(&self, path: &Path) -> io::Result<Content> {
        let image = self.image.borrow();
        let number = image.find(path)?;
        let Node::File { bytes, .. } = &image.nodes[number] else {
            return Err(Errno::EINVAL.into());
        };
        let links = image.nodes.iter().map(|node| match node {
            Node::Directory { names, .. } => {
                names.values().filter(|other| **other == number).count()
            }
            Node::File { .. } => 0,
        });
        Ok(Content {
            bytes: bytes.to_vec(),
            inode: identity(number),
            links: links.sum::<usize>() as u64,
        })
    }
    fn inode(&self, path: &Path) -> io::Result<Inode> {
        Ok(identity(self.image.borrow().find(path)?))
    }
    fn visit(&self, directory: &Path, visitor: &mut dyn FnMut(&OsStr, u64)) -> io::Result<()> {
        // The visitor may use the disk.
        let image = self.image();
        let Node::Directory { names, .. } = &image.nodes[image.find(directory)?] else {
            return Err(Errno::ENOTDIR.into());
        };
        names.iter().for_each(|(name, number)| visitor(name, identity(*number).number));
        Ok(())
    }
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        self.change(|image| image.add(path, Image::directory()).map(|_| ()))
    }
    fn is_marked(&self, directory: &Path) -> io::Result<bool> {
        let image = self.image.borrow();
        match &image.nodes[image.find(directory)?] {
            Node::Directory { marked, .. } => Ok(*marked),
            Node::File { .. } => Err(Errno::ENOTDIR.into()),
        }
    }
    fn mark(&self, directory: &Path) -> io::Result<()> {
        self.change(|image| {
            let number = image.find(directory)?;
            if let Node::Directory { marked, mark_synced, .. } = &mut image.nodes[number] {
                (*marked, *mark_synced) = (true, false);
            }
            Ok(())
        })
    }
    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<Inode> {
        self.change(|image| {
            image.add(path, Node::File { bytes: bytes.into(), synced: false }).map(identity)
        })
    }
    fn sync(&self, path: &Path) -> io::Result<()> {
        let is_written = |image: &Image| {
            image
                .find(path)
                .is_ok_and(|at| matches!(&image.nodes[at], Node::File { synced: true, .. }))
        };
        if self.skip.is_some_and(|skip| skip(path))
            && (!self.shared || is_written(&self.image.borrow()))
        {
            return Ok(());
        }
        self.change(|image| {
            let number = image.find(path)?;
            if self.shared && matches!(&image.nodes[number], Node::File { .. }) {
                image.settle_names(number);
            }
            match &mut image.nodes[number] {
                Node::File { synced, .. } => *synced = true,
                Node::Directory { .. } if self.shared => {}
                Node::Directory { before, mark_synced, .. } => {
                    before.clear();
                    *mark_synced = true;
                }
            }
            Ok(())
        })
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|image| {
            let number = image.find(from)?;
            if image.find(to).is_ok() {
                return Err(Errno::EEXIST.into());
            }
            let place = image.place(to)?;
            image.set(place, Some(number))
        })
    }
    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.change(|image| {
            match &image.nodes[image.find(path)?] {
                Node::Directory { names, .. } if names.is_empty() => {}
                Node::Directory { .. } => return Err(Errno::ENOTEMPTY.into()),
                Node::File { .. } => return Err(Errno::ENOTDIR.into()),
            }
            let place = image.place(path)?;
            image.set(place, None)
        })
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.change(|image| {
            image.find(path)?;
            let place = image.place(path)?;
            image.set(place, None)
        })
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|image| {
            let number = image.find(from)?;
            let (source, target) = (image.place(from)?, image.place(to)?);
            image.set(target, Some(number))?;
            image.set(source, None)
        })
    }
    fn lock(&self, path: &Path, _patience: Patience) -> io::Result<Locked> {
        if self.image.borrow().find(path).is_err() {
            self.create(path, &[])?;
        }
        Ok(Locked::Held(Box::new(Nothing)))
    }
    fn lock_byte(&self, path: &Path, _byte: u64, _patience: Patience) -> io::Result<Locked> {
        self.image.borrow().find(path)?;
        Ok(Locked::Held(Box::new(Nothing)))
    }
    fn lock_local(&self, _path: &Path, _patience: Patience) -> io::Result<Locked> {
        Ok(Locked::Held(Box::new(Nothing)))
    }
    fn lock_holder(&self, _path: &Path) -> String {
        String::new()
    }
    fn byte_holder(&self, _path: &Path, _byte: u64) -> String {
        String::new()
    }
    fn random(&self) -> io::Result<[u8; 16]> {
        Ok([7; 16])
    }
    fn now(&self) -> SystemTime {
        self.clock.set(self.clock.get() + 1);
        UNIX_EPOCH + Duration::from_micros(self.clock.get())
    }
}
