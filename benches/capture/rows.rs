//! What is measured: one function per group of rows.

use std::cell::Cell;

use crate::{
    Result,
    git::{self, Plumbing},
    shared::{
        bench::{Bench, Group},
        ours::Ours,
        table::{Table, Target, Unit},
        turns::{Side, compare, in_turns, medians},
        worktree::Worktree,
    },
};

/// What is measured, by name.
pub const GROUPS: &[Group] = &[("small", small), ("large", large), ("history", history)];

/// Files that are changed where many are.
const MANY: usize = 1_000;

fn small(bench: &Bench, table: &mut Table) -> Result {
    let worktree = Worktree::create(bench.path(), "small", 2_000)?;
    all(bench, table, &worktree, Target::UpTo(10_000.0))
}

fn large(bench: &Bench, table: &mut Table) -> Result {
    let worktree = Worktree::create(bench.path(), "large", 50_000)?;
    all(bench, table, &worktree, Target::RatioUpTo(0.6))
}

/// All rows of one worktree; `one` is asked of a capture of one change.
fn all(bench: &Bench, table: &mut Table, worktree: &Worktree, one: Target) -> Result {
    let ours = Ours::start(&worktree.repo)?;
    let what = format!("first capture of {}", worktree.shown());
    table.value(&what, Unit::Micros, ours.capture_nothing()?, Target::Told);
    let mut sides = Sides {
        turns: bench.turns(),
        table,
        worktree,
        ours,
    };
    sides.captures(0, Target::Told)?;
    sides.captures(1, one)?;
    sides.captures(MANY, Target::Told)?;
    sides.restores(1)?;
    sides.restores(MANY)
}

/// One worktree, and both sides of it.
struct Sides<'a> {
    turns: usize,
    table: &'a mut Table,
    worktree: &'a Worktree,
    ours: Ours,
}

impl Sides<'_> {
    fn captures(&mut self, changed: usize, asked: Target) -> Result {
        let Self {
            turns,
            table,
            worktree,
            ours,
        } = self;
        let repo = &worktree.repo;
        let warm = Plumbing::new(repo, &format!("index-{changed}"), false)?;
        let synced = Plumbing::new(repo, &format!("index-synced-{changed}"), true)?;
        let capture = || match changed {
            0 => ours.capture_nothing(),
            _ => ours.capture(),
        };
        let (stash, stashed) = (["stash", "create"], || git::run(repo, &["stash", "create"]));
        let processor = Cell::new(0.0);
        let sides: [Side; 4] = [
            ("", &capture),
            ("add, write-tree, commit-tree", &|| {
                let before = git::processor()?;
                let took = warm.commit()?;
                processor.set(processor.get() + git::processor()? - before);
                Ok(took)
            }),
            ("the same, synced", &|| synced.commit()),
            ("stash create", &stashed),
        ];
        let change = || worktree.change(changed);
        ours.daemon.forget_peak();
        let before = ours.daemon.processor();
        let taken = in_turns(*turns, change, &sides)?;
        let (most, after) = (ours.daemon.peak(), ours.daemon.processor());
        change()?;
        let theirs = [warm.peak()?, git::peak_of(repo, &stash)?];
        let what = format!("capture, {changed} of {}", worktree.shown());
        rows(table, &what, &sides.map(|side| side.0), taken, asked);
        if let (Some(before), Some(after)) = (before, after) {
            let each = |time: f64| time / *turns as f64;
            let times = (each(processor.get()), each(after - before));
            let (what, ratio) = (format!("{what}: processor time"), times.1 / times.0);
            table.ratio(&what, Unit::Micros, times, ratio, Target::Told);
        }
        peak(table, &what, theirs[0].max(theirs[1]), most);
        Ok(())
    }

    fn restores(&mut self, changed: usize) -> Result {
        let Self {
            turns,
            table,
            worktree,
            ours,
        } = self;
        let repo = &worktree.repo;
        let restore = ["restore", "--source=HEAD", "--worktree", "--", "."];
        let captured = Cell::new(false);
        let restored = || {
            if captured.get() {
                ours.capture()?;
            }
            ours.restore("HEAD", changed)
        };
        let git = || git::run(repo, &restore);
        let sides: [Side; 2] = [("", &restored), ("restore", &git)];
        // The user's index knows what is there, as after a commit.
        git()?;
        worktree.refresh()?;
        let change = || worktree.change(changed);
        for (before, how) in [(true, "captured before"), (false, "captured by it")] {
            captured.set(before);
            ours.daemon.forget_peak();
            let taken = in_turns(*turns, change, &sides)?;
            let most = ours.daemon.peak();
            change()?;
            let theirs = git::peak_of(repo, &restore)?;
            let what = format!("restore, {changed} of {}, {how}", worktree.shown());
            rows(table, &what, &sides.map(|side| side.0), taken, Target::Told);
            peak(table, &what, theirs, most);
        }
        Ok(())
    }
}

/// One row for each side but the first, which is ours; something is asked of the first row.
fn rows(table: &mut Table, what: &str, names: &[&str], mut taken: Vec<Vec<f64>>, asked: Target) {
    let ours = taken.remove(0);
    let mut asked = asked;
    for (name, theirs) in names[1..].iter().zip(taken) {
        let pairs: Vec<_> = theirs.into_iter().zip(ours.iter().copied()).collect();
        let (sides, ratio) = medians(&pairs);
        let what = format!("{what}, to {name}");
        table.ratio(&what, Unit::Micros, sides, ratio, asked);
        asked = Target::Told;
    }
}

fn peak(table: &mut Table, what: &str, theirs: f64, ours: Option<f64>) {
    let what = format!("{what}: peak memory");
    let Some(ours) = ours else {
        eprintln!("  skipped: {what}: the kernel does not tell");
        return;
    };
    let (unit, sides) = (Unit::Mebibytes, (theirs, ours));
    let ratio = ours / theirs;
    table.ratio(&what, unit, sides, ratio, Target::Told);
}

/// The same capture with many captures before it, and with none.
fn history(bench: &Bench, table: &mut Table) -> Result {
    let captures = bench.of(1_000);
    let without = Worktree::create(bench.path(), "without", 2_000)?;
    let with = Worktree::create(bench.path(), "with", 2_000)?;
    let (fresh, used) = (Ours::start(&without.repo)?, Ours::start(&with.repo)?);
    let capture = |ours: &Ours, worktree: &Worktree| {
        worktree.change(1)?;
        ours.capture()
    };
    capture(&fresh, &without)?;
    for _ in 0..captures {
        capture(&used, &with)?;
    }
    let (sides, ratio) = compare(
        bench.turns() * 2,
        || capture(&fresh, &without),
        || capture(&used, &with),
    )?;
    let what = format!("capture, 1 of 2,000, {captures} captures before, to none");
    table.ratio(&what, Unit::Micros, sides, ratio, Target::RatioUpTo(1.2));
    Ok(())
}
