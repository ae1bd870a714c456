//! The directories below the target, reached only through descriptors: one component at a time or by `openat2`
//! that stays beneath the target and follows no link. No full path is ever built for the kernel, so neither a
//! symlink nor `PATH_MAX` matters.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::{self, Errno};

use super::name::EntryName;
use super::outcome::Trouble;
use crate::ground::{Failure, os_reason};

/// Bytes of a relative path given to one `openat2`; a deeper directory is reached in several calls.
const PATH_CHUNK_BYTES: usize = 3_900;

/// Number of a directory of this restore; 0 is the target itself. A parent's number is smaller than its children's.
pub(super) type DirectoryId = u32;

/// Which object a descriptor refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(super) fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// What is known of a directory after it was made or found.
#[derive(Debug)]
struct Record {
    parent: DirectoryId,
    name: Option<EntryName>,
    identity: Identity,
    /// It was there before this restore.
    adopted: bool,
    /// New entries would inherit access rights that were not saved.
    hands_down_acl: bool,
}

/// How components are resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolver {
    /// `openat2` with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS`.
    Beneath,
    /// One `openat` with `O_NOFOLLOW` per component, for kernels or sandboxes without `openat2`.
    ByComponent,
}

/// What came of asking for a directory.
pub(super) struct Made {
    pub(super) id: DirectoryId,
    /// Names that were there before; `None` for a directory of this restore, where nothing can be in the way.
    pub(super) existing: Option<HashSet<Vec<u8>>>,
}

/// All directories of a restore.
pub(super) struct Directories {
    root: Arc<OwnedFd>,
    resolver: Resolver,
    records: Vec<Record>,
    open: Mutex<OpenDirectories>,
    kept_ancestors: usize,
    temporaries: AtomicU64,
    /// One descriptor per file system met, for `syncfs`.
    file_systems: Mutex<HashMap<u64, Arc<OwnedFd>>>,
}

impl Directories {
    /// Starts from the opened target; `open_max` bounds the directories held open.
    pub(super) fn new(root: OwnedFd, resolver: Resolver, open_max: usize) -> io::Result<Self> {
        let identity = Identity::of(&fs::fstat(&root)?);
        let hands_down_acl = has_default_acl(root.as_fd());
        let root = Arc::new(root);
        Ok(Self {
            resolver,
            records: vec![Record { parent: 0, name: None, identity, adopted: true, hands_down_acl }],
            open: Mutex::new(OpenDirectories::new(open_max)),
            kept_ancestors: (open_max / 2).max(1),
            temporaries: AtomicU64::new(0),
            file_systems: Mutex::new(HashMap::from([(identity.device, Arc::clone(&root))])),
            root,
        })
    }

    /// How many directories are known; numbers are below it.
    pub(super) fn len(&self) -> DirectoryId {
        DirectoryId::try_from(self.records.len()).unwrap_or(DirectoryId::MAX)
    }

    /// Whether the directory was there before this restore.
    pub(super) fn adopted(&self, id: DirectoryId) -> bool {
        self.records[id as usize].adopted
    }

    /// Whether new entries inherit access rights that were not saved.
    pub(super) fn hands_down_acl(&self, id: DirectoryId) -> bool {
        self.records[id as usize].hands_down_acl
    }

    /// Names from the target down to the directory.
    pub(super) fn components(&self, mut id: DirectoryId) -> Vec<&EntryName> {
        let mut names = Vec::new();
        while let Some(name) = &self.records[id as usize].name {
            names.push(name);
            id = self.records[id as usize].parent;
        }
        names.reverse();
        names
    }

    /// Makes a directory, private until its attributes are set, or takes one over that is `existing`.
    pub(super) fn make(&mut self, parent: DirectoryId, name: EntryName, existing: bool) -> Result<Made, Trouble> {
        let at = self.open(parent)?;
        let adopted = existing && !clear_the_way(at.as_fd(), &name)?;
        if !adopted {
            fs::mkdirat(&at, name.as_bytes(), Mode::RWXU).map_err(|errno| cannot("be created", errno))?;
        }
        let opened =
            open_below(self.resolver, at.as_fd(), name.as_bytes()).map_err(|errno| cannot("be entered", errno))?;
        let stat = fs::fstat(&opened).map_err(|errno| cannot("be looked at", errno))?;
        if !adopted && stat.st_uid != rustix::process::geteuid().as_raw() && stat.st_uid != self.given_owner(&at)? {
            return Err(replaced_meanwhile());
        }
        let names = adopted.then(|| take_over(opened.as_fd(), &stat)).transpose()?;
        let hands_down_acl = self.hands_down_acl(parent) || (adopted && has_default_acl(opened.as_fd()));
        let id = self.len();
        let identity = Identity::of(&stat);
        self.records.push(Record { parent, name: Some(name), identity, adopted, hands_down_acl });
        self.remember(id, identity, Arc::new(opened));
        Ok(Made { id, existing: names })
    }

    /// The owner that this file system gives to what we make: some map or ignore owners (NFS, CIFS, FAT).
    fn given_owner(&self, at: &OwnedFd) -> Result<u32, Trouble> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (file, name) = self.place_aside(|name| fs::openat(at, name, flags, Mode::RUSR | Mode::WUSR))?;
        let stat = fs::fstat(&file).map_err(|errno| cannot("be looked at", errno));
        let _ = fs::unlinkat(at, &name[..], AtFlags::empty());
        stat.map(|stat| stat.st_uid)
    }

    fn remember(&self, id: DirectoryId, identity: Identity, directory: Arc<OwnedFd>) {
        let mut systems = self.file_systems.lock().unwrap_or_else(PoisonError::into_inner);
        systems.entry(identity.device).or_insert_with(|| Arc::clone(&directory));
        drop(systems);
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(id, directory);
    }

    /// Opens a directory of this restore again and proves that it is the same one.
    pub(super) fn open(&self, id: DirectoryId) -> Result<Arc<OwnedFd>, Trouble> {
        let (mut at, below) = self.nearest_open(id);
        // The last ancestors are opened one by one and kept: the neighbours of a deep directory come next.
        let (far, near) = below.split_at(below.len().saturating_sub(self.kept_ancestors));
        for chunk in self.chunks(far) {
            at = Arc::new(open_below(self.resolver, at.as_fd(), &chunk).map_err(|errno| cannot("be entered", errno))?);
        }
        for &step in near {
            at = self.enter(&at, step)?;
        }
        Ok(at)
    }

    fn enter(&self, at: &OwnedFd, id: DirectoryId) -> Result<Arc<OwnedFd>, Trouble> {
        let record = &self.records[id as usize];
        let name = record.name.as_ref().map_or(&b"."[..], EntryName::as_bytes);
        let opened = open_below(self.resolver, at.as_fd(), name).map_err(|errno| cannot("be entered", errno))?;
        let stat = fs::fstat(&opened).map_err(|errno| cannot("be looked at", errno))?;
        if Identity::of(&stat) != record.identity {
            return Err(replaced_meanwhile());
        }
        let opened = Arc::new(opened);
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::clone(&opened));
        Ok(opened)
    }

    /// The nearest open ancestor (or the directory itself) and the numbers from there down.
    fn nearest_open(&self, id: DirectoryId) -> (Arc<OwnedFd>, Vec<DirectoryId>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut below = Vec::new();
        let mut current = id;
        while current != 0 {
            if let Some(found) = open.get(current) {
                below.reverse();
                return (found, below);
            }
            below.push(current);
            current = self.records[current as usize].parent;
        }
        below.reverse();
        (Arc::clone(&self.root), below)
    }

    fn chunks(&self, ids: &[DirectoryId]) -> Vec<Vec<u8>> {
        let mut chunks: Vec<Vec<u8>> = Vec::new();
        for name in ids.iter().filter_map(|&id| self.records[id as usize].name.as_ref()) {
            match chunks.last_mut().filter(|chunk| chunk.len() + name.as_bytes().len() < PATH_CHUNK_BYTES) {
                Some(chunk) => {
                    chunk.push(b'/');
                    chunk.extend_from_slice(name.as_bytes());
                }
                None => chunks.push(name.as_bytes().to_vec()),
            }
        }
        chunks
    }

    /// Creates something under `name` by `create`; where something is `existing`, under a temporary name first.
    /// Answers the temporary name that [`Directories::settle`] must then move into place.
    pub(super) fn place<T>(
        &self,
        at: BorrowedFd<'_>,
        name: &EntryName,
        existing: bool,
        create: impl Fn(&[u8]) -> io::Result<T>,
    ) -> Result<(T, Option<Vec<u8>>), Trouble> {
        if existing && occupied(at, name)? {
            return self.place_aside(create).map(|(made, temporary)| (made, Some(temporary)));
        }
        create(name.as_bytes()).map(|made| (made, None)).map_err(|errno| cannot("be created", errno))
    }

    fn place_aside<T>(&self, create: impl Fn(&[u8]) -> io::Result<T>) -> Result<(T, Vec<u8>), Trouble> {
        loop {
            let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
            let temporary = format!(".lifeboat-restore-{}-{number}", std::process::id()).into_bytes();
            match create(&temporary) {
                Ok(made) => return Ok((made, temporary)),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(cannot("be created", errno)),
            }
        }
    }

    /// Moves what [`Directories::place`] made into its place, atomically.
    pub(super) fn settle(&self, at: BorrowedFd<'_>, temporary: &[u8], name: &EntryName) -> Result<(), Trouble> {
        let moved = fs::renameat(at, temporary, at, name.as_bytes()).map_err(|errno| cannot("be put in place", errno));
        // Renaming one of two names of the same object onto the other does nothing and reports success.
        let _ = fs::unlinkat(at, temporary, AtFlags::empty());
        moved
    }

    /// Makes everything written so far durable, on every file system met.
    pub(super) fn sync(&self) -> Result<(), Failure> {
        let systems: Vec<_> =
            self.file_systems.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for directory in systems {
            fs::syncfs(&directory)
                .map_err(|errno| Failure::failed(format!("cannot make the restored files durable: {}", why(errno))))?;
        }
        Ok(())
    }
}

/// Opens a directory below `at`, following no link.
fn open_below(resolver: Resolver, at: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if resolver == Resolver::Beneath {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        return io::retry_on_intr(|| fs::openat2(at, path, flags, Mode::empty(), resolve));
    }
    let mut components = path.split(|&byte| byte == b'/');
    let mut opened = fs::openat(at, components.next().unwrap_or(b"."), flags, Mode::empty())?;
    for component in components {
        opened = fs::openat(&opened, component, flags, Mode::empty())?;
    }
    Ok(opened)
}

/// How this machine resolves: seccomp filters of containers answer EPERM where old kernels say ENOSYS.
pub(super) fn resolver_for(root: BorrowedFd<'_>) -> Resolver {
    match open_below(Resolver::Beneath, root, b".") {
        Err(Errno::NOSYS | Errno::PERM) => Resolver::ByComponent,
        _ => Resolver::Beneath,
    }
}

/// Removes a non-directory that stands where a directory belongs; true when the way is free.
fn clear_the_way(at: BorrowedFd<'_>, name: &EntryName) -> Result<bool, Trouble> {
    match fs::statat(at, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => Ok(false),
        Ok(_) => fs::unlinkat(at, name.as_bytes(), AtFlags::empty())
            .map(|()| true)
            .map_err(|errno| cannot("replace what is in its place", errno)),
        Err(Errno::NOENT) => Ok(true),
        Err(errno) => Err(cannot("be looked at", errno)),
    }
}

fn occupied(at: BorrowedFd<'_>, name: &EntryName) -> Result<bool, Trouble> {
    match fs::statat(at, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => Err(Trouble::Entry(
            "a directory is in its place, and a restore never deletes a directory; move it away and restore again"
                .into(),
        )),
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(cannot("be looked at", errno)),
    }
}

/// Lists an existing directory and lets its owner write into it while the restore runs.
fn take_over(directory: BorrowedFd<'_>, stat: &Stat) -> Result<HashSet<Vec<u8>>, Trouble> {
    let mode = Mode::from_raw_mode(stat.st_mode);
    if !mode.contains(Mode::RWXU) {
        // Fails for somebody else's directory; then each entry tells by itself whether it could be written.
        let _ = fs::fchmod(directory, mode | Mode::RWXU);
    }
    names_in(directory).map_err(|errno| cannot("be listed", errno))
}

/// Names in a directory, without `.` and `..`.
pub(super) fn names_in(directory: BorrowedFd<'_>) -> io::Result<HashSet<Vec<u8>>> {
    let mut names = HashSet::new();
    for entry in fs::Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.insert(name);
        }
    }
    Ok(names)
}

fn has_default_acl(directory: BorrowedFd<'_>) -> bool {
    match fs::fgetxattr(directory, "system.posix_acl_default", &mut [0; 4][..]) {
        Ok(length) => length > 0,
        Err(errno) => errno == Errno::RANGE,
    }
}

fn replaced_meanwhile() -> Trouble {
    Trouble::Entry("its directory was replaced by somebody else during the restore".into())
}

/// The reason without the number that the system's text ends with.
pub(super) fn why(errno: Errno) -> String {
    os_reason(&errno.into())
}

/// Sorts a refusal of the operating system: the target as a whole, or this entry.
pub(super) fn cannot(what: &str, errno: Errno) -> Trouble {
    match errno {
        Errno::NOSPC | Errno::DQUOT => Trouble::Target(
            Failure::failed(format!("the target is full: {}", why(errno)))
                .hint("free space or choose another target, then restore again with --overwrite"),
        ),
        Errno::IO | Errno::ROFS | Errno::MFILE | Errno::NFILE | Errno::NOMEM => {
            Trouble::Target(Failure::failed(format!("the target cannot be written: {}", why(errno))))
        }
        Errno::EXIST => Trouble::Entry(
            "this file system takes its name for the same as that of another entry, or somebody created it meanwhile"
                .into(),
        ),
        _ => Trouble::Entry(format!("it cannot {what}: {}", why(errno))),
    }
}

/// A bounded number of open directories; the one not used for longest is closed first.
struct OpenDirectories {
    max: usize,
    tick: u64,
    held: HashMap<DirectoryId, (Arc<OwnedFd>, u64)>,
}

impl OpenDirectories {
    fn new(max: usize) -> Self {
        Self { max, tick: 0, held: HashMap::new() }
    }

    fn get(&mut self, id: DirectoryId) -> Option<Arc<OwnedFd>> {
        self.tick += 1;
        let tick = self.tick;
        self.held.get_mut(&id).map(|held| {
            held.1 = tick;
            Arc::clone(&held.0)
        })
    }

    fn insert(&mut self, id: DirectoryId, directory: Arc<OwnedFd>) {
        self.tick += 1;
        if self.held.len() >= self.max {
            let oldest = self.held.iter().min_by_key(|(_, (_, used))| *used).map(|(&id, _)| id);
            oldest.and_then(|id| self.held.remove(&id));
        }
        self.held.insert(id, (directory, self.tick));
    }
}
