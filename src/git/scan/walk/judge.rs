//! What one path is to the tree: a file whose blob the index or an earlier scan knows, one that is to be
//! read, a folder to walk, a repository of its own; or nothing that belongs to it.

use std::{ops::Range, sync::atomic::Ordering};

use gix::{
    ObjectId,
    bstr::{BStr, BString, ByteSlice},
    index::entry::{Flags, Mode, Stage, Stat},
};
use nix::sys::stat::SFlag;

use super::{
    super::{
        ScanError,
        folder::{Entries, Entry},
        stamps::{WithMode, is_file_or_link, is_settled},
    },
    Folder, Named, Part, Seen, Walk, Walked,
};
use crate::git::repo_path::is_safe_name;

impl Walk<'_> {
    pub(super) fn file(
        &self,
        Named { path, name }: Named<'_>,
        entry: &Entry,
        tracked: Option<usize>,
        before: Option<usize>,
    ) -> Result<Option<Seen>, ScanError> {
        if tracked.is_none() && self.refuses(path, name, entry.kind)? {
            return Ok(None);
        }
        let Some(stat) = entry.stat.filter(|_| is_file_or_link(entry.kind)) else {
            self.special(path, entry.kind, tracked.is_some())?;
            return Ok(None);
        };
        let stat = stat.with_mode(entry.kind);
        let walked = match tracked {
            Some(at) => Some(self.tracked(path, stat, at, before)),
            None => self.untracked(path, stat, entry.size, before)?,
        };
        Ok(walked.map(|walked| self.seen(path, walked, before)))
    }

    fn tracked(
        &self,
        path: &BStr,
        (stat, mode): (Stat, Mode),
        at: usize,
        before: Option<usize>,
    ) -> Walked {
        let entry = self.index.entry(at);
        let own = (entry.stage() == Stage::Unconflicted).then_some(entry);
        let mode = self.config.believed(mode, Some(self.index.mode(at)));
        let known = own.filter(|entry| {
            let out_of_cone = || !self.rules.in_sparse_checkout(path);
            let left_alone = entry.flags.contains(Flags::ASSUME_VALID)
                || (entry.flags.contains(Flags::SKIP_WORKTREE) && !self.rules.is_sparse())
                || (self.rules.is_sparse() && out_of_cone());
            left_alone || self.is_clean(entry, &stat, mode)
        });
        match known {
            Some(entry) => Walked {
                mode: if self.is_clean(entry, &stat, mode) {
                    mode
                } else {
                    entry.mode
                },
                id: Some(entry.id),
                remembered: false,
                index_id: Some(entry.id),
                seen_at: 0,
                path: BString::default(),
                stat,
            },
            None => self.remembered(stat, mode, own.map(|entry| entry.id), before),
        }
    }

    fn untracked(
        &self,
        path: &BStr,
        (stat, mode): (Stat, Mode),
        size: u64,
        before: Option<usize>,
    ) -> Result<Option<Walked>, ScanError> {
        if self.rules.ignores(path, false)? {
            return Ok(None);
        }
        if !self.rules.in_sparse_checkout(path) {
            self.leave_out(
                path,
                "is not tracked and lies outside of the sparse checkout",
            );
            return Ok(None);
        }
        if size > self.size_guard && mode != Mode::SYMLINK {
            let mib = |bytes: u64| bytes.div_ceil(1024 * 1024);
            self.leave_out(
                path,
                format!(
                    "is not tracked and has {} MiB; the guard is at {} MiB",
                    mib(size),
                    mib(self.size_guard)
                ),
            );
            return Ok(None);
        }
        let mode = self.config.believed(mode, None);
        Ok(Some(self.remembered(stat, mode, None, before)))
    }

    /// A path that the index does not vouch for; perhaps an earlier scan does.
    fn remembered(
        &self,
        stat: Stat,
        mode: Mode,
        index_id: Option<ObjectId>,
        before: Option<usize>,
    ) -> Walked {
        let known = before.map(|at| self.before.at(at)).filter(|known| {
            known.mode == mode
                && known.index_id == index_id
                && known.stat.matches(&stat, self.config.stat)
                && is_settled(&known.stat, known.seen_at)
        });
        Walked {
            id: known.map(|known| known.id),
            remembered: known.is_some(),
            seen_at: known.map_or(0, |known| known.seen_at),
            index_id,
            path: BString::default(),
            mode,
            stat,
        }
    }

    /// Whether the index says that the file is as it was when it was added
    /// (gitrepository-layout(5); "racy-git" in Git's technical documentation).
    fn is_clean(&self, entry: &gix::index::Entry, stat: &Stat, mode: Mode) -> bool {
        let smudged = entry.stat.size == 0 && !entry.id.is_empty_blob();
        entry.mode == mode
            && !smudged
            && !entry.flags.contains(Flags::INTENT_TO_ADD)
            && entry.stat.matches(stat, self.config.stat)
            && !entry
                .stat
                .is_racy(self.index.state().timestamp(), self.config.stat)
    }

    /// Whether Git does not take a path of such a name, that it does not track, at all.
    fn refuses(&self, path: &BStr, name: &BStr, kind: SFlag) -> Result<bool, ScanError> {
        if is_safe_name(name, kind == SFlag::S_IFLNK) {
            return Ok(false);
        }
        if !self.rules.ignores(path, kind == SFlag::S_IFDIR)? {
            self.leave_out(path, "has a name that Git keeps for itself");
        }
        Ok(true)
    }

    fn special(&self, path: &BStr, kind: SFlag, tracked: bool) -> Result<(), ScanError> {
        if !tracked && self.rules.ignores(path, false)? {
            return Ok(());
        }
        let what = match kind {
            SFlag::S_IFIFO => "a FIFO",
            SFlag::S_IFSOCK => "a socket",
            _ => "a device",
        };
        self.leave_out(path, format!("is {what}, which Git cannot keep"));
        Ok(())
    }

    /// What a folder in a folder is to the tree; nothing if it is ignored or left out.
    pub(super) fn subfolder(
        &self,
        within: &Folder,
        Named { path, name }: Named<'_>,
        tracked: Option<Range<usize>>,
        before: Option<Range<usize>>,
    ) -> Result<Option<Part>, ScanError> {
        let link = |id| {
            let before = self.before.place(path).ok();
            let seen = self.seen(path, link_to_commit(id), before);
            // Its path has no slash at its end, and sorts otherwise than a folder's.
            self.unordered.store(true, Ordering::Relaxed);
            Some(Part::Files(vec![seen]))
        };
        if tracked.is_none() {
            let gitlink = self.tracked_in(within).from(name).find(name, false);
            let gitlink = gitlink.map(|places| self.index.entry(places.start));
            if let Some(gitlink) = gitlink.filter(|entry| entry.mode == Mode::COMMIT) {
                let head = self.head_of(path).flatten();
                return Ok(link(head.unwrap_or(gitlink.id)));
            }
            if self.rules.ignores(path, true)? || self.refuses(path, name, SFlag::S_IFDIR)? {
                return Ok(None);
            }
            match self.head_of(path) {
                None => {}
                Some(Some(head)) => return Ok(link(head)),
                Some(None) => {
                    self.leave_out(path, "is a Git repository of its own without a commit");
                    return Ok(None);
                }
            }
        }
        let mut path = path.to_owned();
        path.push(b'/');
        Ok(Some(Part::Folder(Folder {
            path,
            index: tracked.unwrap_or(0..0),
            before: before.unwrap_or(0..0),
        })))
    }

    /// The commit of a repository that lies in the folder; `Some(None)` if it has none yet, `None`
    /// if there is no repository.
    fn head_of(&self, path: &BStr) -> Option<Option<ObjectId>> {
        let path = self.absolute(path);
        path.join(".git").symlink_metadata().ok()?;
        let inner = gix::open(path).ok()?;
        Some(inner.head_id().ok().map(gix::Id::detach))
    }

    /// Tracked paths that are not there and yet belong to the tree: outside of a sparse checkout, or
    /// assumed to be unchanged.
    pub(super) fn kept_though_gone(&self, folder: &Folder, entries: &Entries<'_>) -> Option<Part> {
        if !self.index.has_skipped() {
            return None;
        }
        let gone: Vec<Seen> = self
            .tracked_in(folder)
            .filter(|child| !entries.has(child.name))
            .flat_map(|child| child.places)
            .filter(|at| self.index.skips(*at))
            .map(|at| {
                let entry = self.index.entry(at);
                let path = self.index.path(at).trim_end_with(|c| c == '/').as_bstr();
                let walked = Walked {
                    path: BString::default(),
                    mode: entry.mode,
                    stat: Stat::default(),
                    id: Some(entry.id),
                    remembered: false,
                    index_id: Some(entry.id),
                    seen_at: 0,
                };
                self.seen(path, walked, self.before.place(path).ok())
            })
            .collect();
        if gone.is_empty() {
            return None;
        }
        self.unordered.store(true, Ordering::Relaxed);
        Some(Part::Files(gone))
    }
}

fn link_to_commit(id: ObjectId) -> Walked {
    Walked {
        path: BString::default(),
        mode: Mode::COMMIT,
        stat: Stat::default(),
        id: Some(id),
        remembered: false,
        index_id: None,
        seen_at: 0,
    }
}
