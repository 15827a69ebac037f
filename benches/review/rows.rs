//! What is measured: one function per group of rows.

use std::time::Instant;

use crate::{
    Result,
    ctags::{self, Ctags},
    reviewed::{Asked, Reviewed},
    shared::{
        bench::{Bench, Group},
        samples::{median, micros},
        table::{Table, Target, Unit},
        turns::{alternate, medians},
    },
};

/// What is measured, by name.
pub const GROUPS: &[Group] = &[("cold", cold), ("warm", warm)];

/// Files of the small repository, and of the large one.
const SMALL: usize = 1_000;
const LARGE: usize = 50_000;
/// Turns of the large one without an index: each takes long.
const LONG_TURNS: usize = 3;

/// A daemon that finds no index: how fast it makes one, and how long a call waits meanwhile.
fn cold(bench: &Bench, table: &mut Table) -> Result {
    let has_ctags = ctags::is_there();
    if !has_ctags {
        eprintln!("  skipped: to ctags: install universal-ctags to compare with it");
    }
    for (files, turns) in [(SMALL, bench.turns()), (bench.of(LARGE), LONG_TURNS)] {
        let reviewed = Reviewed::create(bench.path(), &format!("cold-{files}"), files)?;
        let ctags = Ctags::new(&reviewed.worktree)?;
        reviewed.start()?;
        reviewed.capture()?;
        let mut waited = Asked::ALL.map(|_| Vec::new());
        let mut turn = 0;
        let theirs = || match has_ctags {
            true => ctags.run(),
            false => Ok(f64::NAN),
        };
        let ours = || {
            let asked = turn % Asked::ALL.len();
            turn += 1;
            reviewed.forget()?;
            let began = Instant::now();
            reviewed.start()?;
            waited[asked].push(reviewed.ask(Asked::ALL[asked])?);
            reviewed.wait_for_index()?;
            Ok(micros(began.elapsed()))
        };
        let taken = alternate(turns, theirs, ours)?;
        let rate = |took: f64| reviewed.bytes / took;
        let rates: Vec<_> = taken.iter().map(|it| (rate(it.0), rate(it.1))).collect();
        let ((theirs, ours), ratio) = medians(&rates);
        let (shown, unit) = (reviewed.worktree.shown(), Unit::MegabytesPerSecond);
        let megabytes = reviewed.bytes / 1e6;
        let what = format!("index of {shown} files, {megabytes:.0} MB");
        if has_ctags {
            let what = format!("{what}, to ctags");
            table.ratio(&what, unit, (theirs, ours), ratio, Target::Told);
        } else {
            table.value(&what, unit, ours, Target::Told);
        }
        let size = reviewed.index_size()?;
        table.value(
            &format!("{what}: its size"),
            Unit::Megabytes,
            size,
            Target::Told,
        );
        if let Some(peak) = reviewed.peak()? {
            let what = format!("{what}: peak memory");
            table.value(&what, Unit::Mebibytes, peak, Target::Told);
        }
        for (asked, waited) in Asked::ALL.iter().zip(waited) {
            let what = format!("{}, 1 of {shown}, without an index", asked.name());
            table.value(&what, Unit::Micros, median(waited), Target::Told);
        }
    }
    Ok(())
}

/// A call on a change of one file that was just captured, with everything else indexed.
fn warm(bench: &Bench, table: &mut Table) -> Result {
    let small = Reviewed::create(bench.path(), "small", SMALL)?;
    let large = Reviewed::create(bench.path(), "large", bench.of(LARGE))?;
    let both = [&small, &large];
    for reviewed in both {
        reviewed.start()?;
        reviewed.wait_for_index()?;
    }
    let ask = |reviewed: &Reviewed, asked| {
        reviewed.capture()?;
        reviewed.ask(asked)
    };
    for asked in Asked::ALL {
        for reviewed in both {
            ask(reviewed, asked)?;
        }
        let turns = bench.turns() * 2;
        let taken = alternate(turns, || ask(&small, asked), || ask(&large, asked))?;
        let (sides, ratio) = medians(&taken);
        let name = asked.name();
        for (reviewed, took) in both.iter().zip([sides.0, sides.1]) {
            let what = format!("{name}, 1 of {}, p50", reviewed.worktree.shown());
            table.value(&what, Unit::Micros, took, Target::UpTo(10_000.0));
        }
        let (small, large) = (small.worktree.shown(), large.worktree.shown());
        let what = format!("{name}, 1 of {large}, to 1 of {small}");
        table.ratio(&what, Unit::Micros, sides, ratio, Target::RatioUpTo(1.2));
    }
    Ok(())
}
