//! What is measured: one function per group of rows.

use std::time::Instant;

use crate::{
    Result,
    ctags::Ctags,
    reviewed::{Asked, Reviewed},
    shared::{
        bench::{Bench, Group},
        samples::{median, micros},
        table::{Table, Target, Unit},
        turns::{alternate, medians},
    },
};

/// What is measured, by name.
pub const GROUPS: &[Group] = &[("sources", sources)];

/// Files of the small repository, and of the large one.
const SMALL: usize = 1_000;
const LARGE: usize = 50_000;
/// Turns of the large one without an index: each takes long.
const LONG_TURNS: usize = 3;

fn sources(bench: &Bench, table: &mut Table) -> Result {
    let small = Reviewed::create(bench.path(), "small", SMALL)?;
    cold(table, &small, bench.turns())?;
    let large = Reviewed::create(bench.path(), "large", bench.of(LARGE))?;
    cold(table, &large, bench.of(LONG_TURNS))?;
    warm(table, &small, &large, bench.turns() * 2)
}

/// A daemon that finds no index: how fast it makes one, and how long a call waits meanwhile.
fn cold(table: &mut Table, reviewed: &Reviewed, turns: usize) -> Result {
    let ctags = Ctags::find(&reviewed.worktree)?;
    reviewed.start()?;
    reviewed.capture()?;
    let mut waited = Asked::ALL.map(|_| Vec::new());
    let mut turn = 0;
    let theirs = || ctags.as_ref().map_or(Ok(f64::NAN), Ctags::run);
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
    let (sides, ratio) = medians(&rates);
    let (shown, unit) = (reviewed.worktree.shown(), Unit::MegabytesPerSecond);
    let what = format!("index of {shown} files, {:.0} MB", reviewed.bytes / 1e6);
    match ctags {
        Some(_) => {
            let what = format!("{what}, to ctags");
            table.ratio(&what, unit, sides, ratio, Target::Told);
        }
        None => table.value(&what, unit, sides.1, Target::Told),
    }
    let mut told = |what: &str, unit, value| table.value(what, unit, value, Target::Told);
    let (size, unit) = (reviewed.index_size(), Unit::Megabytes);
    told(&format!("{what}: its size"), unit, size);
    if let Some(peak) = reviewed.peak()? {
        told(&format!("{what}: peak memory"), Unit::Mebibytes, peak);
    }
    for (asked, waited) in Asked::ALL.iter().zip(waited) {
        let what = format!("{}, 1 of {shown}, without an index", asked.name());
        told(&what, Unit::Micros, median(waited));
    }
    Ok(())
}

/// A call on a change of one file that was just captured, with everything else indexed.
fn warm(table: &mut Table, small: &Reviewed, large: &Reviewed, turns: usize) -> Result {
    let ask = |reviewed: &Reviewed, asked| {
        reviewed.capture()?;
        reviewed.ask(asked)
    };
    for asked in Asked::ALL {
        for reviewed in [small, large] {
            ask(reviewed, asked)?;
        }
        let taken = alternate(turns, || ask(small, asked), || ask(large, asked))?;
        let (sides, ratio) = medians(&taken);
        let name = asked.name();
        for (reviewed, took) in [(small, sides.0), (large, sides.1)] {
            let what = format!("{name}, 1 of {}, p50", reviewed.worktree.shown());
            table.value(&what, Unit::Micros, took, Target::UpTo(10_000.0));
        }
        let (small, large) = (small.worktree.shown(), large.worktree.shown());
        let what = format!("{name}, 1 of {large}, to 1 of {small}");
        table.ratio(&what, Unit::Micros, sides, ratio, Target::RatioUpTo(1.2));
    }
    Ok(())
}
