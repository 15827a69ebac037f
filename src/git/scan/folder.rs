//! What lies in a folder. Its names are read again only when its own stamps say that they may be
//! others: making, removing or renaming something in a folder stamps it. Each file is looked at.

use std::{
    borrow::Cow,
    collections::HashMap,
    ffi::CStr,
    ops::{Deref, Range},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use gix::{
    bstr::{BStr, BString, ByteSlice},
    index::entry::Stat,
};
use nix::{
    dir::{Dir, Type},
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat},
    sys::stat::{Mode as Permissions, SFlag, fstat, fstatat},
    unistd::dup,
};
use rayon::prelude::*;

use super::{
    index::in_path_order,
    stamps::{is_settled, now_nanos, stat_of},
    walk::SHARE,
};

/// The names in folders, by path, as scans before read them.
#[derive(Default)]
pub(super) struct Folders(HashMap<BString, Names>);

/// The names in one folder.
#[derive(Debug)]
pub(super) struct Names {
    /// All of them, each with a NUL behind it.
    bytes: Vec<u8>,
    /// Where each of them is, and its type if that was told.
    found: Vec<(Range<u32>, Option<Type>)>,
    /// The folder as it was just before they were read.
    stat: Stat,
    /// When that was, in nanoseconds since the Unix epoch.
    seen_at: i64,
    /// Whether all types were told, and the order is that of paths.
    in_order: bool,
}

/// A folder's names: those that are known, or read now.
pub(super) enum Read<'a> {
    Known(&'a Names),
    Now(Names),
}

impl Deref for Read<'_> {
    type Target = Names;

    fn deref(&self) -> &Names {
        match self {
            Self::Known(names) => names,
            Self::Now(names) => names,
        }
    }
}

impl Folders {
    /// Opens a folder below `top`; `path` is empty or has a slash at its end.
    pub(super) fn open(&self, top: &OwnedFd, path: &BStr) -> Result<(OwnedFd, Read<'_>), Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        // With a slash at its end, a link would be followed.
        let name = path.strip_suffix(b"/").unwrap_or(b".");
        let open = openat(top, name, flags, Permissions::empty())?;
        let seen_at = now_nanos();
        let (stat, _) = stat_of(&fstat(&open)?);
        if let Some(known) = self.0.get(path).filter(|known| known.stat == stat) {
            return Ok((open, Read::Known(known)));
        }
        let names = Names::read(&open, path.is_empty(), (stat, seen_at))?;
        Ok((open, Read::Now(names)))
    }

    /// Keeps what a scan that came by so many folders read.
    pub(super) fn follow(&mut self, read: Vec<(BString, Names)>, count: usize) {
        // Folders come and go: before those that went are many, all are read anew.
        if self.0.len() + read.len() > 2 * count + 64 {
            self.0.clear();
        }
        self.0.extend(read);
    }
}

impl Names {
    fn read(open: &OwnedFd, is_root: bool, (stat, seen_at): (Stat, i64)) -> Result<Self, Errno> {
        let mut names = Self {
            bytes: Vec::with_capacity(256),
            found: Vec::with_capacity(16),
            stat,
            seen_at,
            in_order: false,
        };
        for entry in Dir::from_fd(dup(open)?)?.iter() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let ours = is_root && name == b".heddle";
            if matches!(name, b"." | b".." | b".git") || ours {
                continue;
            }
            let place = |at: usize| u32::try_from(at).map_err(|_| Errno::EOVERFLOW);
            let start = place(names.bytes.len())?;
            names.bytes.extend_from_slice(name);
            names
                .found
                .push((start..place(names.bytes.len())?, entry.file_type()));
            names.bytes.push(0);
        }
        names.bytes.shrink_to_fit();
        names.found.shrink_to_fit();
        let Self { bytes, found, .. } = &mut names;
        let key = |(name, kind): &(Range<u32>, Option<Type>)| {
            (bytes[wide(name)].as_bstr(), *kind == Some(Type::Directory))
        };
        found.sort_unstable_by(|a, b| in_path_order(key(a), key(b)));
        names.in_order = names.found.iter().all(|(_, kind)| kind.is_some());
        Ok(names)
    }

    /// Whether the folder's stamps would tell of a change that came after they were read.
    pub(super) fn can_be_kept(&self) -> bool {
        self.in_order && is_settled(&self.stat, self.seen_at)
    }
}

fn wide(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

/// What lies in a folder, in the order of paths: a folder's name sorts as if it were `name/`.
#[derive(Default)]
pub(super) struct Entries<'a> {
    names: Cow<'a, [u8]>,
    pub(super) entries: Vec<Entry>,
}

/// One name of it.
pub(super) struct Entry {
    /// Where it is among the names.
    name: Range<u32>,
    pub(super) kind: SFlag,
    /// Its stat(2), and whether its owner may execute it; not of a folder.
    pub(super) stat: Option<(Stat, bool)>,
    /// In bytes.
    pub(super) size: u64,
}

impl<'a> Entries<'a> {
    /// Looks at everything in an open folder. With `tracked`, names are spelled as there, if the
    /// filesystem takes both spellings for the same.
    pub(super) fn look<'t>(
        open: &OwnedFd,
        names: &'a Names,
        tracked: Option<impl Iterator<Item = &'t BStr>>,
    ) -> Result<Self, Errno> {
        let folder = open.as_fd();
        let respelled = tracked.is_some();
        let bytes = match tracked {
            Some(tracked) => Cow::Owned(spell_as_tracked(folder, names, tracked)),
            None => Cow::Borrowed(names.bytes.as_slice()),
        };
        let look = |(name, kind): &(Range<u32>, Option<Type>)| {
            look(folder, &bytes, name.clone(), *kind).transpose()
        };
        let found = &names.found;
        let looked: Result<Vec<Entry>, Errno> = if found.len() > 2 * SHARE {
            let share = SHARE / 2;
            let looked = found.par_iter().with_min_len(share).filter_map(look);
            looked.collect()
        } else {
            let mut looked = Vec::with_capacity(found.len());
            for entry in found.iter().filter_map(look) {
                looked.push(entry?);
            }
            Ok(looked)
        };
        let mut entries = looked?;
        if respelled || !names.in_order {
            let key = |entry: &Entry| (name_in(&bytes, entry), entry.kind == SFlag::S_IFDIR);
            entries.sort_unstable_by(|a, b| in_path_order(key(a), key(b)));
        }
        Ok(Self {
            names: bytes,
            entries,
        })
    }

    pub(super) fn name(&self, entry: &Entry) -> &BStr {
        name_in(&self.names, entry)
    }

    pub(super) fn has(&self, name: &BStr) -> bool {
        let find = |is_folder| {
            let compare = |entry: &Entry| {
                let found = (self.name(entry), entry.kind == SFlag::S_IFDIR);
                in_path_order(found, (name, is_folder))
            };
            self.entries.binary_search_by(compare).is_ok()
        };
        find(false) || find(true)
    }
}

fn name_in<'n>(names: &'n [u8], entry: &Entry) -> &'n BStr {
    names[wide(&entry.name)].as_bstr()
}

/// One name in an open folder: its type and, unless it is a folder, its stat(2). `None` if it is
/// gone already.
fn look(
    folder: BorrowedFd<'_>,
    names: &[u8],
    name: Range<u32>,
    kind: Option<Type>,
) -> Result<Option<Entry>, Errno> {
    if kind == Some(Type::Directory) {
        return Ok(Some(Entry {
            name,
            kind: SFlag::S_IFDIR,
            stat: None,
            size: 0,
        }));
    }
    let place = wide(&name);
    let path = CStr::from_bytes_with_nul(&names[place.start..=place.end]);
    let path = path.map_err(|_| Errno::EINVAL)?;
    match fstatat(folder, path, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(Entry {
            name,
            kind: SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT,
            stat: Some(stat_of(&found)),
            size: found.st_size as u64,
        })),
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Git goes on calling a file or folder as it is tracked, where the filesystem takes both spellings
/// for the same (git-config(1), core.ignoreCase).
fn spell_as_tracked<'t>(
    folder: BorrowedFd<'_>,
    names: &Names,
    tracked: impl Iterator<Item = &'t BStr>,
) -> Vec<u8> {
    let tracked: HashMap<Vec<u8>, &BStr> = tracked
        .map(|name| (name.to_ascii_lowercase(), name))
        .collect();
    let look = |name: &[u8]| {
        let found = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        Some((found.st_dev, found.st_ino))
    };
    let mut bytes = names.bytes.clone();
    for (place, _) in &names.found {
        let name = &mut bytes[wide(place)];
        let tracked = tracked.get(&name.to_ascii_lowercase());
        if let Some(tracked) = tracked.filter(|tracked| ***tracked != *name)
            && look(name).is_some_and(|place| look(tracked) == Some(place))
        {
            // As long as the other: only the case of ASCII letters differs.
            name.copy_from_slice(tracked);
        }
    }
    bytes
}
