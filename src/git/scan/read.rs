//! Reading files whose content is not known: through Git's filters, into the batch. A file that
//! changes while it is read is read again.

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use gix::{
    ObjectId,
    bstr::{BStr, ByteSlice},
    filter::plumbing::pipeline::convert::ToGitOutcome,
    index::entry::{Mode, Stat},
    objs::{Kind, compute_hash},
};
use nix::fcntl::OFlag;
use rayon::prelude::*;

use super::{
    Listing, ScanError,
    cache::is_attribute_file,
    index::UserIndex,
    rules::Filters,
    stamps::{Config, look_at, now_nanos, stat_of},
    walk::{Seen, Walk, Walked},
};
use crate::git::{
    Error, ObjectBatch,
    filter::{Named, encode_to_git},
};

/// A file that never stops changing is taken as it is after so many reads.
const ATTEMPTS: u32 = 4;

/// Gives every path its blob; answers how many files were read.
pub(super) fn read_unknown(
    mut seen: Vec<Seen>,
    walk: &Walk<'_>,
    objects: &ObjectBatch,
    before: &Listing,
) -> Result<(Vec<Seen>, u64), ScanError> {
    let read = AtomicU64::new(0);
    let attributes = |one: &Walked| is_attribute_file(one.path.as_bstr());
    read_those(&mut seen, attributes, walk, objects, &read)?;
    let now: BTreeSet<_> = seen
        .iter()
        .filter_map(|one| match one {
            Seen::Same { at, .. } => {
                let known = before.at(*at);
                known.attributes.then_some((known.path.as_bstr(), known.id))
            }
            Seen::New(one) if attributes(one) => Some((one.path.as_bstr(), one.id?)),
            Seen::New(_) => None,
        })
        .collect();
    // Other attributes, other content.
    if before.attribute_files().collect::<BTreeSet<_>>() != now {
        for one in &mut seen {
            forget_remembered(one, before);
        }
    }
    read_those(&mut seen, |_| true, walk, objects, &read)?;
    // What vanished meanwhile does not belong to the tree.
    seen.retain(|one| !matches!(one, Seen::New(one) if one.id.is_none()));
    Ok((seen, read.into_inner()))
}

/// What only an earlier read of ours says is to be read again.
fn forget_remembered(seen: &mut Seen, before: &Listing) {
    match seen {
        Seen::New(one) if one.remembered && one.mode != Mode::SYMLINK => one.id = None,
        Seen::Same {
            at,
            remembered: true,
        } => {
            let known = before.at(*at);
            if known.mode != Mode::SYMLINK {
                *seen = Seen::New(Box::new(Walked {
                    path: known.path.clone(),
                    mode: known.mode,
                    stat: known.stat,
                    id: None,
                    remembered: false,
                    index_id: known.index_id,
                    seen_at: 0,
                }));
            }
        }
        _ => {}
    }
}

fn read_those(
    seen: &mut [Seen],
    wanted: impl Fn(&Walked) -> bool,
    walk: &Walk<'_>,
    objects: &ObjectBatch,
    read: &AtomicU64,
) -> Result<(), ScanError> {
    let unknown: Vec<_> = seen
        .iter_mut()
        .filter_map(|one| match one {
            Seen::New(one) if one.id.is_none() && wanted(one) => Some(&mut **one),
            _ => None,
        })
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    read.fetch_add(unknown.len() as u64, Ordering::Relaxed);
    let reader = || {
        let git = walk.git.to_thread_local();
        let filters = walk.rules.filters(&git)?;
        let (root, index) = (walk.root, walk.index);
        Ok(Reader {
            git,
            root,
            index,
            filters,
        })
    };
    let read_one = |reader: &mut Result<Reader<'_>, Error>, one: &mut Walked| {
        let reader = match reader {
            Ok(reader) => reader,
            Err(error) => return Err(ScanError::Git(error.repeated())),
        };
        Error::check_length(walk.root, one.path.as_bstr())?;
        let absolute = walk.absolute(one.path.as_bstr());
        let Some(content) = reader.content(one.path.as_bstr(), &absolute, one.mode)? else {
            return Ok(());
        };
        one.mode = content.mode;
        one.stat = content.stat;
        one.seen_at = content.seen_at;
        one.id = Some(objects.write(&reader.git, Kind::Blob, &content.bytes)?);
        Ok(())
    };
    // One file is not worth the threads.
    if let [_] = unknown.as_slice() {
        let mut reader = reader();
        return unknown
            .into_iter()
            .try_for_each(|one| read_one(&mut reader, one));
    }
    unknown.into_par_iter().try_for_each_init(reader, read_one)
}

/// One thread's way to read files.
pub(super) struct Reader<'a> {
    pub(super) git: gix::Repository,
    pub(super) root: &'a Path,
    pub(super) index: &'a UserIndex,
    pub(super) filters: Filters,
}

/// A file's content as Git keeps it, and the file as it was then.
struct Content {
    bytes: Vec<u8>,
    stat: Stat,
    mode: Mode,
    seen_at: i64,
}

impl Reader<'_> {
    /// What lies at `lies_at`, hashed as it would be kept at `path`, of which this mode is known;
    /// `None` where nothing is that Git keeps.
    pub(super) fn hash(
        &mut self,
        (path, tracked): (&BStr, Option<Mode>),
        lies_at: &Path,
        config: Config,
    ) -> Result<Option<(Mode, ObjectId)>, ScanError> {
        let unreadable = |source| ScanError::Unreadable {
            path: lies_at.to_owned(),
            source,
        };
        let Some((_, mode)) = look_at(lies_at).map_err(unreadable)? else {
            return Ok(None);
        };
        let mode = config.believed(mode, tracked);
        let Some(content) = self.content(path, lies_at, mode)? else {
            return Ok(None);
        };
        let id = compute_hash(self.git.object_hash(), Kind::Blob, &content.bytes)
            .map_err(|e| unreadable(io::Error::other(e.to_string())))?;
        Ok(Some((content.mode, id)))
    }

    /// `mode` is what the walk believed it to be. `None` if nothing is there any more.
    fn content(
        &mut self,
        path: &BStr,
        absolute: &Path,
        mode: Mode,
    ) -> Result<Option<Content>, ScanError> {
        let unreadable = |source| ScanError::Unreadable {
            path: absolute.to_owned(),
            source,
        };
        for attempt in 1.. {
            let seen_at = now_nanos();
            let Some((stat, kind)) = look_at(absolute).map_err(unreadable)? else {
                return Ok(None);
            };
            let is_link = kind == Mode::SYMLINK;
            let read = if is_link {
                std::fs::read_link(absolute).map(|to| to.as_os_str().as_bytes().to_vec())
            } else {
                read_file(absolute)
            };
            let raw = match read {
                Ok(raw) => raw,
                // Replaced by something else between two looks.
                Err(e) if is_replaced(&e) && attempt < ATTEMPTS => continue,
                Err(e) => return Err(unreadable(e)),
            };
            let after = look_at(absolute).map_err(unreadable)?;
            let steady = after == Some((stat, kind));
            if !steady && attempt < ATTEMPTS {
                continue;
            }
            let believed_link = mode == Mode::SYMLINK;
            let bytes = if is_link || believed_link {
                raw
            } else {
                self.filtered(path, raw)?
            };
            let same_type = believed_link == is_link || believed_link;
            return Ok(Some(Content {
                bytes,
                stat,
                mode: if same_type && (is_link || believed_link) {
                    Mode::SYMLINK
                } else if is_link {
                    kind
                } else {
                    regular(mode, kind)
                },
                seen_at: if steady { seen_at } else { 0 },
            }));
        }
        Ok(None)
    }

    fn filtered(&mut self, path: &BStr, raw: Vec<u8>) -> Result<Vec<u8>, ScanError> {
        let absolute = self.root.join(std::ffi::OsStr::from_bytes(path));
        let failed = |reason: String| ScanError::Filter {
            path: absolute.clone(),
            reason,
        };
        let (git, index) = (&self.git, self.index);
        let Filters {
            pipeline,
            attributes,
        } = &mut self.filters;
        let named = Named::of(attributes, path, git).map_err(|e| failed(e.to_string()))?;
        if named.is_encoded {
            let object = encode_to_git(git, self.root, path, &raw).and_then(|id| {
                git.find_object(id)
                    .map_err(|e| io::Error::other(e.to_string()))
            });
            let object = object.map_err(|e| failed(e.to_string()))?;
            return Ok(object.detach().data);
        }
        let attributes = attributes
            .at_entry(path, Some(Mode::FILE), &git.objects)
            .map_err(|e| failed(e.to_string()))?;
        let mut in_index = |buffer: &mut Vec<u8>| -> gix::Result<Option<()>> {
            let Some(at) = index.at_path(path) else {
                return Ok(None);
            };
            let found = gix::objs::Find::try_find(&git.objects, &index.entry(at).id, buffer)?;
            Ok(found.filter(|found| found.kind == Kind::Blob).map(drop))
        };
        let filtered = named.convert(pipeline, |pipeline| {
            let outcome = pipeline.convert_to_git(
                raw.as_slice(),
                Path::new(std::ffi::OsStr::from_bytes(path)),
                &mut |_, outcome| {
                    attributes.matching_attributes(outcome);
                },
                &mut in_index,
            );
            match outcome.map_err(|e| e.to_string())? {
                ToGitOutcome::Unchanged(_) => Ok(None),
                ToGitOutcome::Buffer(filtered) => Ok(Some(filtered.to_vec())),
                ToGitOutcome::Process(mut filter) => {
                    let mut filtered = Vec::new();
                    let read = filter.read_to_end(&mut filtered);
                    read.map_err(|e| e.to_string())?;
                    Ok(Some(filtered))
                }
            }
        });
        Ok(filtered.map_err(failed)?.unwrap_or(raw))
    }
}

/// The walk knows which modes to believe; only whether it is a file at all can have changed since.
fn regular(believed: Mode, found: Mode) -> Mode {
    match believed {
        Mode::FILE | Mode::FILE_EXECUTABLE => believed,
        _ => found,
    }
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let mut file: File = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)?;
    let found = nix::sys::stat::fstat(&file)?;
    let (stat, _) = stat_of(&found);
    let mut bytes = Vec::with_capacity(stat.size as usize + 1);
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_replaced(error: &io::Error) -> bool {
    use nix::libc::{EISDIR, ELOOP, ENOENT, ENXIO};
    matches!(error.raw_os_error(), Some(EISDIR | ELOOP | ENOENT | ENXIO))
        || error.kind() == io::ErrorKind::InvalidInput
}
