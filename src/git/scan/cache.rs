//! What was seen in a worktree, path by path, and how that outlives a daemon.

use std::{fs, io, mem, ops::Range, path::Path};

use gix::{
    ObjectId,
    bstr::{BStr, BString, ByteSlice},
    index::entry::{Mode, Stat, stat::Time},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::walk::{Seen, Walked};
use crate::git::Entry;

/// Rises with every change of the file's format: another one is not read.
const FORMAT: u32 = 1;

/// Everything that belongs to the tree, in the order of paths.
#[derive(Debug, Default)]
pub struct Listing {
    found: Vec<Found>,
    /// The tree that was made of it; it vouches for the objects.
    tree: Option<ObjectId>,
}

/// One path of it.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) path: BString,
    pub(super) mode: Mode,
    pub(super) stat: Stat,
    pub(super) id: ObjectId,
    /// What the index had at the path then: filters may ask.
    pub(super) index_id: Option<ObjectId>,
    /// When it was read, in nanoseconds since the Unix epoch; 0 if it is to be read again.
    pub(super) seen_at: i64,
    /// Whether its object was found durable by a scan of this daemon's.
    pub(super) vouched: bool,
    /// Whether it is a file of attributes.
    pub(super) attributes: bool,
}

impl Found {
    /// `None` of what vanished before it could be read.
    fn of(walked: Walked) -> Option<Self> {
        Some(Self {
            id: walked.id?,
            attributes: is_attribute_file(walked.path.as_bstr()),
            path: walked.path,
            mode: walked.mode,
            stat: walked.stat,
            index_id: walked.index_id,
            seen_at: walked.seen_at,
            vouched: true,
        })
    }

    /// Whether it is what was walked at the same path.
    pub(super) fn is_just(&self, walked: &Walked) -> bool {
        Some(self.id) == walked.id
            && self.mode == walked.mode
            && self.stat == walked.stat
            && self.index_id == walked.index_id
    }

    /// What a checkout wrote.
    pub(super) fn written(
        path: &BStr,
        entry: Entry,
        stat: Stat,
        index_id: Option<ObjectId>,
        seen_at: i64,
    ) -> Self {
        Self {
            vouched: false,
            attributes: is_attribute_file(path),
            path: path.to_owned(),
            mode: entry.mode,
            id: entry.id,
            stat,
            index_id,
            seen_at,
        }
    }

    pub(super) fn is(&self, entry: Entry) -> bool {
        self.mode == entry.mode && self.id == entry.id
    }
}

impl Listing {
    /// Becomes what a scan saw after it; `tree` was made of that. Answers whether paths are gone.
    pub(super) fn follow(&mut self, seen: Vec<Seen>, tree: ObjectId) -> bool {
        self.tree = Some(tree);
        let in_place =
            seen.len() == self.found.len()
                && seen.iter().zip(&self.found).enumerate().all(
                    |(place, (seen, known))| match seen {
                        Seen::Same { at, .. } => *at == place,
                        Seen::New(walked) => walked.path == known.path,
                    },
                );
        if in_place {
            for (known, seen) in self.found.iter_mut().zip(seen) {
                match seen {
                    Seen::Same { .. } => known.vouched = true,
                    Seen::New(walked) => {
                        if let Some(found) = Found::of(*walked) {
                            *known = found;
                        }
                    }
                }
            }
            return false;
        }
        let is_known = |seen: &&Seen| match seen {
            Seen::Same { .. } => true,
            Seen::New(walked) => self.place(walked.path.as_bstr()).is_ok(),
        };
        let gone = seen.iter().filter(is_known).count() < self.found.len();
        let mut known = mem::take(&mut self.found).into_iter().enumerate();
        self.found.reserve_exact(seen.len());
        for seen in seen {
            self.found.extend(match seen {
                Seen::New(walked) => Found::of(*walked),
                // Both are in the order of paths.
                Seen::Same { at, .. } => known.find(|(place, _)| *place == at).map(|(_, found)| {
                    let vouched = true;
                    Found { vouched, ..found }
                }),
            });
        }
        gone
    }

    /// The places of the paths that begin with `folder`, which ends with a slash, among `within`.
    pub(super) fn below(&self, within: Range<usize>, folder: &BStr) -> Range<usize> {
        let found = &self.found[within.clone()];
        let start = found.partition_point(|found| found.path.as_bstr() < folder);
        let inside = |found: &Found| found.path.starts_with(folder);
        let end = start + found[start..].partition_point(inside);
        within.start + start..within.start + end
    }

    pub(super) fn tree(&self) -> Option<ObjectId> {
        self.tree
    }

    pub(super) fn all(&self) -> Range<usize> {
        0..self.found.len()
    }

    pub(super) fn at(&self, index: usize) -> &Found {
        &self.found[index]
    }

    /// The attribute files in it.
    pub(super) fn attribute_files(&self) -> impl Iterator<Item = (&BStr, ObjectId)> {
        let files = self.found.iter();
        files
            .filter(|found| found.attributes)
            .map(|found| (found.path.as_bstr(), found.id))
    }

    pub(super) fn seen(&self, path: &BStr) -> Option<&Found> {
        self.place(path).ok().map(|place| &self.found[place])
    }

    /// Has these paths, which are in order, as they are now; `None` is not there.
    pub(super) fn change(&mut self, now: Vec<(&BStr, Option<Found>)>) {
        let (mut new, mut gone) = (Vec::new(), Vec::new());
        for (path, found) in now {
            match (self.place(path), found) {
                (Ok(place), Some(found)) => self.found[place] = found,
                (Ok(place), None) => gone.push(place),
                (Err(_), found) => new.extend(found),
            }
        }
        if !gone.is_empty() {
            let (mut at, mut gone) = (0, gone.into_iter().peekable());
            self.found.retain(|_| {
                at += 1;
                gone.next_if_eq(&(at - 1)).is_none()
            });
        }
        if !new.is_empty() {
            self.found.append(&mut new);
            // Two lists that are in order: it takes no longer than to go through them.
            self.found.sort_by(|a, b| a.path.cmp(&b.path));
        }
    }

    /// The place of a path, or the one that it would have.
    pub(super) fn place(&self, path: &BStr) -> Result<usize, usize> {
        self.found
            .binary_search_by(|found| found.path.as_bstr().cmp(path))
    }

    /// What an earlier daemon saved; `None` if it did not, or it is not whole.
    pub(super) fn load(file: &Path) -> Option<Self> {
        let bytes = fs::read(file).ok()?;
        let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
        if sum != Sha256::digest(body).as_slice() {
            return None;
        }
        let saved: Saved = postcard::from_bytes(body).ok()?;
        if saved.format != FORMAT {
            return None;
        }
        let found = saved.found.into_iter().map(SavedFound::into_found);
        Some(Self {
            found: found.collect::<Option<_>>()?,
            tree: ObjectId::try_from(saved.tree.as_slice()).ok(),
        })
    }

    pub(super) fn save(&self, file: &Path) -> io::Result<()> {
        let saved = Saved {
            format: FORMAT,
            tree: self
                .tree
                .map(|id| id.as_bytes().to_vec())
                .unwrap_or_default(),
            found: self.found.iter().map(SavedFound::from_found).collect(),
        };
        let mut bytes = postcard::to_stdvec(&saved).map_err(io::Error::other)?;
        let sum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&sum);
        let folder = file.parent().unwrap_or(Path::new("."));
        let mut aside = tempfile::NamedTempFile::new_in(folder)?;
        io::Write::write_all(&mut aside, &bytes)?;
        aside.persist(file).map_err(|e| e.error)?;
        Ok(())
    }
}

pub(in crate::git) fn is_attribute_file(path: &BStr) -> bool {
    path == ".gitattributes" || path.ends_with_str("/.gitattributes")
}

#[derive(Serialize, Deserialize)]
struct Saved {
    format: u32,
    tree: Vec<u8>,
    found: Vec<SavedFound>,
}

#[derive(Serialize, Deserialize)]
struct SavedFound {
    path: Vec<u8>,
    mode: u32,
    stat: [u32; 9],
    id: Vec<u8>,
    index_id: Option<Vec<u8>>,
    seen_at: i64,
}

impl SavedFound {
    fn from_found(found: &Found) -> Self {
        let stat = &found.stat;
        Self {
            path: found.path.to_vec(),
            mode: found.mode.bits(),
            stat: [
                stat.mtime.secs,
                stat.mtime.nsecs,
                stat.ctime.secs,
                stat.ctime.nsecs,
                stat.dev,
                stat.ino,
                stat.uid,
                stat.gid,
                stat.size,
            ],
            id: found.id.as_bytes().to_vec(),
            index_id: found.index_id.map(|id| id.as_bytes().to_vec()),
            seen_at: found.seen_at,
        }
    }

    fn into_found(self) -> Option<Found> {
        let [mtime, mtime_ns, ctime, ctime_ns, dev, ino, uid, gid, size] = self.stat;
        let time = |secs, nsecs| Time { secs, nsecs };
        let id = |bytes: &Vec<u8>| ObjectId::try_from(bytes.as_slice()).ok();
        Some(Found {
            vouched: false,
            attributes: is_attribute_file(self.path.as_bstr()),
            path: self.path.into(),
            mode: Mode::from_bits(self.mode)?,
            stat: Stat {
                mtime: time(mtime, mtime_ns),
                ctime: time(ctime, ctime_ns),
                dev,
                ino,
                uid,
                gid,
                size,
            },
            id: id(&self.id)?,
            index_id: self.index_id.as_ref().map(id)?,
            seen_at: self.seen_at,
        })
    }
}
