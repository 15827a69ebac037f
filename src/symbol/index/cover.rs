//! Taking in what is new in a tree. One does it at a time; those who come meanwhile wait for it, and
//! find it done.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use super::{
    Counts, Index, IndexProgress, blob_id, name_id,
    progress::Became,
    tests_id,
    turn::Need,
    walk::{Failed, Folder, Step, Tally, Walk, add, count},
};
use crate::{
    deadline::Deadline,
    git::{BString, Error, GitDir, ObjectId},
    store::{self, BlobRecord, SymbolReads, SymbolWrites},
    symbol::{Language, LeftOut, Outlines, encode, encode::Used, is_test_path, outlines},
};

/// Files that are looked at before what was found is written.
const CHUNK: usize = 128;
/// Names that are put in order and committed at once: in order they go into the database several
/// times faster, and what is not committed is lost when the process is killed.
const NAMES_AT_ONCE: usize = 250_000;

/// A file that is to be looked at.
struct ToDo {
    path: BString,
    blob: ObjectId,
    id: i64,
    language: &'static Language,
    tally: Tally,
}

/// What was found in a file, and the ids of its names.
type Looked = (BlobRecord, Vec<i64>);

/// How far a tree was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TakenIn {
    /// All of it is in.
    Whole,
    /// It was to stop.
    Stopped,
    /// All of it is in that can be read and kept: to try again changes nothing.
    Part,
}

impl Index {
    /// Takes in what is new in a tree, until the deadline at most; answers whether all of it is in. What
    /// cannot be read is not in, and neither is anything where nothing can be kept. Blocks.
    ///
    /// # Errors
    /// When the tree itself cannot be read.
    pub fn cover(&self, git: &GitDir, tree: ObjectId, deadline: &Deadline) -> Result<bool, Error> {
        if self.has(tree) {
            return Ok(true);
        }
        let turn = self.turn.take(Need::Now, deadline);
        if turn.is_none() || self.has(tree) {
            return Ok(turn.is_some());
        }
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let is_late = || deadline.is_over();
        let done = self.take_in(git, tree, (cores / 2).max(1), false, &is_late)?;
        Ok(done == TakenIn::Whole)
    }

    /// Takes in what is new in the tree that is worked on, on this thread alone, and lets whoever else
    /// wants to take something in go before it; answers whether all of it is in. Blocks.
    ///
    /// # Errors
    /// When the tree itself cannot be read.
    pub fn warm(
        &self,
        git: &GitDir,
        tree: ObjectId,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<bool, Error> {
        if let Some(counts) = self.counts_of(tree) {
            self.progress.change(|now| {
                (now.counts, now.left, now.is_whole) = (counts, 0, true);
            });
            return Ok(true);
        }
        let done = self.giving_way(git, tree, Need::InAdvance, stop);
        self.progress.change(|now| {
            now.is_running = false;
            now.is_whole = matches!(done, Ok(true));
        });
        done
    }

    /// Takes in what is new in a tree unless it is to stop, and lets calls go before it; answers whether
    /// all of it is in. Blocks.
    ///
    /// # Errors
    /// When the tree itself cannot be read.
    pub fn cover_unless(
        &self,
        git: &GitDir,
        tree: ObjectId,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<bool, Error> {
        match self.has(tree) {
            true => Ok(true),
            false => self.giving_way(git, tree, Need::Soon, stop),
        }
    }

    fn giving_way(
        &self,
        git: &GitDir,
        tree: ObjectId,
        need: Need,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<bool, Error> {
        let is_shown = matches!(need, Need::InAdvance);
        loop {
            let turn = self.turn.take(need, &Deadline::default());
            // It may be wanted no more when it is given back.
            let gave_way = AtomicBool::new(false);
            let is_wanted = || {
                gave_way.fetch_or(self.turn.is_wanted_before(need), Ordering::Relaxed);
                gave_way.load(Ordering::Relaxed) || stop()
            };
            let counted = match is_shown {
                true => self.count(git, tree),
                false => Ok(()),
            };
            let done = counted.and_then(|()| self.take_in(git, tree, 1, is_shown, &is_wanted));
            drop(turn);
            match done? {
                TakenIn::Stopped if gave_way.into_inner() && !stop() => {}
                done => return Ok(done == TakenIn::Whole),
            }
        }
    }

    /// Counts what there is to do for a tree.
    fn count(&self, git: &GitDir, tree: ObjectId) -> Result<(), Error> {
        let Some(store) = &self.store else {
            return Ok(());
        };
        let count = |reads: &SymbolReads<'_>| {
            let mut walk = Walk::new(git, tree)?;
            let mut left = 0;
            while let Some(step) = walk.next(reads)? {
                left += u32::from(matches!(step, Step::File { .. }));
            }
            Ok(left)
        };
        let counted = store.read(|reads| Failed::sort(count(reads))).transpose()?;
        self.progress.change(|now| {
            now.is_running = true;
            now.left = counted.unwrap_or(0);
            now.counts = Counts::default();
            now.is_whole = false;
        });
        Ok(())
    }

    /// Takes in what is new in a tree until it is to stop.
    fn take_in(
        &self,
        git: &GitDir,
        tree: ObjectId,
        threads: usize,
        is_shown: bool,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<TakenIn, Error> {
        let Some(writes) = self.store.as_ref().and_then(|store| store.write()) else {
            return Ok(TakenIn::Part);
        };
        let mut taking = Taking {
            index: self,
            git,
            writes: &writes,
            threads,
            is_shown,
            stop,
            files: Vec::new(),
            folders: Vec::new(),
            names: Vec::new(),
            is_whole: true,
        };
        match Failed::sort(taking.all_of(tree)) {
            // What was written may have been thrown away meanwhile.
            Ok(Ok(TakenIn::Whole)) if !self.has(tree) => Ok(TakenIn::Part),
            Ok(done) => done,
            Err(error) => {
                writes.failed(&error);
                Ok(TakenIn::Part)
            }
        }
    }
}

/// A tree that is being taken in.
struct Taking<'a> {
    index: &'a Index,
    git: &'a GitDir,
    writes: &'a SymbolWrites<'a>,
    threads: usize,
    is_shown: bool,
    stop: &'a (dyn Fn() -> bool + Sync),
    /// Files that are yet to be looked at.
    files: Vec<ToDo>,
    /// Folders whose files are all in, but for those.
    folders: Vec<Folder>,
    /// Names that are yet to be written, with their blobs.
    names: Vec<(i64, i64)>,
    /// Whether nothing came that cannot be read.
    is_whole: bool,
}

impl Taking<'_> {
    fn all_of(&mut self, tree: ObjectId) -> Result<TakenIn, Failed> {
        let mut walk = Walk::new(self.git, tree)?;
        let (mut goes_on, mut is_first) = (true, true);
        while goes_on && let Some(step) = walk.next(&self.writes.reads())? {
            match step {
                Step::Known(counts) => self.show(|now| now.counts.add(counts)),
                Step::Passed(became) => self.show(|now| now.counts.count(became)),
                Step::Done(folder) => self.folders.push(folder),
                Step::File {
                    path,
                    blob,
                    language,
                    tally,
                } => self.files.push(ToDo {
                    id: blob_id(language, blob),
                    path,
                    blob,
                    language,
                    tally,
                }),
            }
            if self.files.len() >= CHUNK {
                goes_on = self.look_at_files()?;
                // A disk that takes nothing is found now, and not after all was looked at.
                if is_first || self.names.len() >= NAMES_AT_ONCE {
                    self.commit()?;
                    self.writes.go_on()?;
                }
                is_first = false;
            }
        }
        goes_on = goes_on && self.look_at_files()?;
        self.commit()?;
        Ok(match goes_on {
            false => TakenIn::Stopped,
            true if self.is_whole => TakenIn::Whole,
            true => TakenIn::Part,
        })
    }

    /// Looks at the files that are yet to be; answers whether to go on.
    fn look_at_files(&mut self) -> Result<bool, Failed> {
        self.writes.check_room()?;
        let mut new = Vec::new();
        for file in std::mem::take(&mut self.files) {
            let reads = self.writes.reads();
            let mut known = reads.seen(file.id, &file.path)?;
            if known.is_none()
                && let Some(why) = reads.left_out(file.id)?
            {
                self.put_place(&file, why)?;
                known = Some(why);
            }
            match known {
                Some(why) => self.settle(&file, why.and_then(LeftOut::from_number).into()),
                None => new.push(file),
            }
        }
        let mut all_looked_at = true;
        for (file, looked) in new.iter().zip(self.look_at(&new)) {
            let (record, names) = match looked {
                Some(Some(looked)) => looked,
                Some(None) => {
                    self.settle(file, Became::Unreadable);
                    continue;
                }
                None => {
                    all_looked_at = false;
                    continue;
                }
            };
            self.index.progress.parsed();
            self.writes.put_blob(file.id, &record)?;
            let why = match record {
                BlobRecord::LeftOut(why) => Some(why),
                BlobRecord::Outline(_) => None,
            };
            self.put_place(file, why)?;
            self.names
                .extend(names.into_iter().map(|name| (name, file.id)));
            self.settle(file, why.and_then(LeftOut::from_number).into());
        }
        let folders = std::mem::take(&mut self.folders);
        for folder in folders.into_iter().filter(|_| all_looked_at) {
            let counts = folder.tally.get();
            // One with something that cannot be read is looked at again, as are those around it.
            match counts.unreadable {
                0 => self.writes.put_folder(folder.id, counts.into())?,
                _ => self.is_whole = false,
            }
            if let Some(around) = folder.around {
                add(&around, counts);
            }
        }
        Ok(all_looked_at && !(self.stop)())
    }

    fn put_place(&mut self, file: &ToDo, left_out: Option<u8>) -> Result<(), Failed> {
        self.writes.put_place(file.id, &file.path, left_out)?;
        if is_test_path(&file.path) {
            self.names.push((tests_id(file.language), file.id));
        }
        Ok(())
    }

    /// What is in files, or that they cannot be read; nothing of those that it is too late for.
    fn look_at(&self, files: &[ToDo]) -> Vec<Option<Option<Looked>>> {
        let asked: Vec<_> = files.iter().map(|it| (it.language, it.blob)).collect();
        let (git, stop, outlines) = (self.git, self.stop, &self.index.outlines);
        let next = AtomicUsize::new(0);
        let found = || {
            let mut found = Vec::new();
            // Where one is missing, packs are looked for anew, which is enough for those that follow.
            let as_it_is = git.as_it_is();
            let mut git = git;
            while let at = next.fetch_add(1, Ordering::Relaxed)
                && let Some((language, blob)) = asked.get(at)
                && !stop()
            {
                let looked = look_at(git, outlines, language, *blob);
                if looked.is_none() {
                    git = &as_it_is;
                }
                found.push((at, looked));
            }
            found
        };
        let helpers = self.threads.min(asked.len()).saturating_sub(1);
        let mut all = thread::scope(|scope| {
            let helpers: Vec<_> = (0..helpers).map(|_| scope.spawn(found)).collect();
            let own = found();
            let others = helpers
                .into_iter()
                .filter_map(|it| it.join().ok())
                .flatten();
            others.chain(own).collect::<Vec<_>>()
        });
        let mut looked: Vec<Option<Option<Looked>>> = asked.iter().map(|_| None).collect();
        for (at, found) in all.drain(..) {
            looked[at] = Some(found);
        }
        looked
    }

    fn settle(&self, file: &ToDo, became: Became) {
        count(&file.tally, became);
        self.show(|now| {
            now.counts.count(became);
            now.left = now.left.saturating_sub(1);
        });
    }

    fn show(&self, change: impl FnOnce(&mut IndexProgress)) {
        if self.is_shown {
            self.index.progress.change(change);
        }
    }

    fn commit(&mut self) -> Result<(), store::Error> {
        self.names.sort_unstable();
        self.writes.put_names(&self.names)?;
        self.names.clear();
        self.writes.commit()
    }
}

fn look_at(
    git: &GitDir,
    outlines: &Outlines,
    language: &Language,
    blob: ObjectId,
) -> Option<Looked> {
    let looked = match outlines.kept(language, blob) {
        Some(kept) => Ok(Ok(kept)),
        None => outlines::look_at(git, language, blob).map(|it| it.map(Arc::new)),
    };
    let looked = looked.map_err(|error| tracing::debug!("not in the index: {error}"));
    Some(match looked.ok()? {
        Ok(outline) => {
            let names = encode::last_names(&outline).map(|(name, used)| name_id(name, used));
            let qualified = encode::qualified(&outline);
            let qualified = qualified.map(|name| name_id(&name, Used::Referred));
            let mut marked = outline.definitions.iter();
            let tests = marked.any(|it| it.is_test).then(|| tests_id(language));
            let mut names: Vec<_> = names.chain(qualified).chain(tests).collect();
            names.sort_unstable();
            names.dedup();
            (BlobRecord::Outline(encode::encode(&outline)), names)
        }
        Err(why) => (BlobRecord::LeftOut(why.number()), Vec::new()),
    })
}
