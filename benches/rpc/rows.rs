//! What is measured: one function per group of rows.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use uuid::Uuid;

use crate::{
    Result,
    client::{Call, Caller, Crowd},
    served::Repo,
    shared::{
        bare::Bare,
        bench::{Bench, Group},
        floor::{Appended, ping_pong},
        repo::HEDDLE,
        samples::{Samples, median},
        table::{Table, Target, Unit},
        turns::{alternate, compare},
    },
};

/// What is measured, by name.
pub const GROUPS: &[Group] = &[
    ("reads", reads),
    ("writes", writes),
    ("slow-disk", slow_disk),
    ("beside", beside),
    ("rows", rows),
    ("start", start),
    ("memory", memory),
    ("size", size),
];

/// A repository that is served, with so many rows.
fn repo(bench: &Bench, name: &str, rows: usize) -> Result<Repo> {
    let repo = Repo::create(bench.path(), name, 50)?;
    repo.fill(rows)?;
    Ok(repo)
}

fn bare(bench: &Bench) -> Result<(Bare, Caller)> {
    let bare = Bare::spawn(bench.path())?;
    let caller = Caller::as_soon_as_ready(&bare.socket)?;
    Ok((bare, caller))
}

fn reads(bench: &Bench, table: &mut Table) -> Result {
    let (bare, floor) = bare(bench)?;
    let served = repo(bench, "reads", 1_000)?.serve(None)?;
    let calls = bench.of(2_000);
    let ours = &served.caller;

    table.floor(
        "(a) 16 bytes there and back",
        Unit::Micros,
        ping_pong(bench.of(20_000))?.p50(),
    );
    let compared = |call| {
        compare(
            bench.turns(),
            || Ok(floor.latencies(Call::Status, calls)?.p50()),
            || Ok(ours.latencies(call, calls)?.p50()),
        )
    };
    let (sides, ratio) = compared(Call::ListHooks)?;
    table.floor(
        "(b) empty call of a bare server, p50",
        Unit::Micros,
        sides.0,
    );
    let target = Target::RatioUpTo(1.15);
    table.ratio("ListHooks, p50", Unit::Micros, sides, ratio, target);
    // Nothing is asked of these: they tell what of the next row is the size of its answer.
    let canned = || {
        floor
            .latencies(Call::Query, calls)
            .map(|samples| samples.p50())
    };
    let canned = (0..bench.turns())
        .map(|_| canned())
        .collect::<Result<Vec<_>>>()?;
    table.floor(
        "50 entries of a bare server, p50",
        Unit::Micros,
        median(canned),
    );
    let (sides, ratio) = compared(Call::Query)?;
    let (what, target) = ("QueryOperations 50, p50", Target::RatioUpTo(1.5));
    table.ratio(what, Unit::Micros, sides, ratio, target);

    let floor = Crowd::connect(&bare.socket, 16, 8)?;
    let ours = Crowd::connect(&served.socket, 16, 8)?;
    let lasting = Duration::from_millis(bench.of(500) as u64);
    let what = "50 entries of a bare server, rate of 16 × 8";
    table.floor(what, Unit::PerSecond, floor.rate(Call::Query, lasting * 4)?);
    for (name, call, limit) in [
        ("ListHooks, rate of 16 × 8", Call::ListHooks, 0.9),
        ("QueryOperations 50, rate of 16 × 8", Call::Query, 0.5),
    ] {
        let (sides, ratio) = compare(
            bench.turns(),
            || floor.rate(Call::Status, lasting),
            || ours.rate(call, lasting),
        )?;
        let target = Target::RatioFrom(limit);
        table.ratio(name, Unit::PerSecond, sides, ratio, target);
    }
    Ok(())
}

fn writes(bench: &Bench, table: &mut Table) -> Result {
    let (_bare, floor) = bare(bench)?;
    let served = repo(bench, "writes", 1_000)?.serve(None)?;
    let mut appended = Appended::create(bench.path())?;
    let count = bench.of(60);
    let pairs = alternate(
        bench.turns() * 2,
        || {
            let call = floor.latencies(Call::Status, count * 4)?;
            Ok((call, appended.syncs(count)?))
        },
        || served.caller.latencies(Call::Register, count),
    )?;
    let mut all = (Samples::default(), Samples::default());
    for ((_, synced), written) in &pairs {
        all.0.extend(synced);
        all.1.extend(written);
    }
    table.floor("(c) fdatasync of 4 KiB, p50", Unit::Micros, all.0.p50());
    table.floor("(c) fdatasync of 4 KiB, p99", Unit::Micros, all.0.p99());
    let floor_of = |(call, synced): &(Samples, Samples)| call.p50() + synced.p50();
    let sides = (
        median(pairs.iter().map(|(floor, _)| floor_of(floor))),
        all.1.p50(),
    );
    let ratio = median(
        pairs
            .iter()
            .map(|(floor, ours)| ours.p50() / floor_of(floor)),
    );
    let (what, target) = ("RegisterHook, p50, to (b) + (c)", Target::RatioUpTo(1.5));
    table.ratio(what, Unit::Micros, sides, ratio, target);
    let sides = (all.1.p50(), all.1.p99());
    let (what, target) = ("RegisterHook, p99, to its p50", Target::RatioUpTo(4.0));
    table.ratio(what, Unit::Micros, sides, sides.1 / sides.0, target);

    let crowd = (&*served.socket, &served.caller);
    crowds(
        bench,
        table,
        crowd,
        "64 writers, rate, to one writer's",
        2.0,
    )?;
    Ok(())
}

/// One writer against 64, and how many writes share a sync.
fn crowds(
    bench: &Bench,
    table: &mut Table,
    (socket, caller): (&Path, &Caller),
    what: &str,
    limit: f64,
) -> Result {
    let one = Crowd::connect(socket, 1, 1)?;
    let many = Crowd::connect(socket, 8, 8)?;
    let lasting = Duration::from_millis(bench.of(1_000) as u64);
    let mut shared = Vec::new();
    let (sides, ratio) = compare(
        bench.turns() / 2 + 1,
        || one.rate(Call::Register, lasting),
        || {
            let before = caller.store()?;
            let rate = many.rate(Call::Register, lasting)?;
            let after = caller.store()?;
            let commits = after.commits - before.commits;
            shared.push((after.writes - before.writes) as f64 / commits as f64);
            Ok(rate)
        },
    )?;
    let target = Target::RatioFrom(limit);
    table.ratio(what, Unit::PerSecond, sides, ratio, target);
    let (what, target) = (format!("{what}: writes for one sync"), Target::From(10.0));
    table.value(&what, Unit::Times, median(shared), target);
    Ok(())
}

fn slow_disk(bench: &Bench, table: &mut Table) -> Result {
    let Some(library) = slow_syncs(bench.path())? else {
        eprintln!("  skipped: no C compiler for the library that delays syncs");
        return Ok(());
    };
    let served = repo(bench, "slow", 1_000)?.serve(Some(&library))?;
    let crowd = (&*served.socket, &served.caller);
    crowds(bench, table, crowd, "64 writers, 2 ms more a sync", 8.0)
}

/// A library that makes each sync 2 ms longer; `None` without a C compiler.
fn slow_syncs(folder: &Path) -> Result<Option<PathBuf>> {
    let (source, library) = (folder.join("slow.c"), folder.join("slow.so"));
    fs::write(
        &source,
        "#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static void wait_a_bit(void) { struct timespec t = {0, 2000000}; nanosleep(&t, 0); }
int fdatasync(int fd) { wait_a_bit(); return syscall(SYS_fdatasync, fd); }
int fsync(int fd) { wait_a_bit(); return syscall(SYS_fsync, fd); }
",
    )?;
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .status();
    Ok(made.is_ok_and(|status| status.success()).then_some(library))
}

fn beside(bench: &Bench, table: &mut Table) -> Result {
    let served = repo(bench, "beside", 1_000)?.serve(None)?;
    let writers = Crowd::connect(&served.socket, 4, 1)?;
    let count = bench.of(2_000);
    for (what, call) in [
        ("QueryOperations 50, p99, beside 4 writers", Call::Query),
        ("ListHooks, p99, beside 4 writers", Call::ListHooks),
    ] {
        let read = || Ok(served.caller.latencies(call, count)?.p99());
        let (sides, ratio) = compare(bench.turns(), read, || {
            let stop = Arc::new(AtomicBool::new(false));
            thread::scope(|scope| {
                let writing = scope.spawn(|| {
                    let written = writers.calls_until(Call::Register, Arc::clone(&stop));
                    written.map_err(|failed| failed.to_string())
                });
                let beside = read();
                stop.store(true, Ordering::Relaxed);
                writing.join().map_err(|_| "a writer panicked")??;
                beside
            })
        })?;
        table.ratio(what, Unit::Micros, sides, ratio, Target::RatioUpTo(3.0));
    }
    Ok(())
}

fn rows(bench: &Bench, table: &mut Table) -> Result {
    let many = bench.of(1_000_000);
    let few = repo(bench, "few", 1_000)?.serve(None)?;
    let many = repo(bench, "many", many)?.serve(None)?;
    let key = Uuid::new_v4();
    for served in [&few, &many] {
        served.caller.latencies(Call::Retry(key), 1)?;
    }
    let (writes, reads) = (bench.of(60), bench.of(1_000));
    for (what, call, count) in [
        (
            "RegisterHook, p50, 1,000,000 rows to 1,000",
            Call::Register,
            writes,
        ),
        (
            "a retry, p50, 1,000,000 rows to 1,000",
            Call::Retry(key),
            reads,
        ),
        (
            "QueryOperations 50, p50, 1,000,000 rows to 1,000",
            Call::Query,
            reads,
        ),
    ] {
        let p50 = |caller: &Caller| Ok(caller.latencies(call, count)?.p50());
        let (sides, ratio) = compare(bench.turns() * 2, || p50(&few.caller), || p50(&many.caller))?;
        table.ratio(what, Unit::Micros, sides, ratio, Target::RatioUpTo(1.2));
    }
    Ok(())
}

fn start(bench: &Bench, table: &mut Table) -> Result {
    let repo = Repo::create(bench.path(), "start", 1_000)?;
    repo.fill(1_000)?;
    repo.serve(None)?.daemon.stop()?;
    let mut row = |what, repo: &Repo| {
        let (sides, ratio) = starts(bench, repo)?;
        let target = Target::UpTo(6_000.0);
        table.ratio(what, Unit::Micros, sides, ratio, target);
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    row("start to first answer, 1,000 refs", &repo)?;
    repo.keep_chains(1_000)?;
    row("start to first answer, 1,000 chains, loose refs", &repo)?;
    repo.pack_refs()?;
    row("start to first answer, 1,000 chains, packed refs", &repo)
}

/// Starts a bare server and the daemon in turns, up to the first answer.
fn starts(bench: &Bench, repo: &Repo) -> Result<((f64, f64), f64)> {
    let socket = repo.socket()?;
    let took = |began: Instant| began.elapsed().as_secs_f64() * 1e6;
    compare(
        bench.turns() * 2,
        || {
            let began = Instant::now();
            let bare = Bare::spawn(bench.path())?;
            Caller::as_soon_as_ready(&bare.socket)?;
            Ok(took(began))
        },
        || {
            let began = Instant::now();
            let daemon = repo.spawn(None)?;
            let caller = Caller::as_soon_as_ready(&socket)?;
            let took = took(began);
            drop(caller);
            daemon.stop()?;
            Ok(took)
        },
    )
}

fn memory(bench: &Bench, table: &mut Table) -> Result {
    let repo = repo(bench, "memory", 1_000)?;
    let daemon = repo.spawn(None)?;
    let socket = repo.socket()?;
    let caller = Caller::as_soon_as_ready(&socket)?;
    let mut row = |what: &str, limit| {
        // The callers have gone, and the daemon has noticed.
        while caller.status()?.connections > 1 {
            thread::sleep(Duration::from_millis(5));
        }
        match daemon.pss() {
            Some(pss) => table.value(what, Unit::Mebibytes, pss, Target::UpTo(limit)),
            None => eprintln!("  skipped: {what}: the kernel does not tell"),
        }
        if let Some(own) = daemon.own() {
            let what = format!("{what}: without the program's own pages");
            table.value(&what, Unit::Mebibytes, own, Target::Told);
        }
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    row("PSS idle after the first call", 8.0)?;
    let crowd = Crowd::connect(&socket, 16, 8)?;
    let calls = bench.of(100_000) / 2;
    crowd.calls(Call::ListHooks, calls)?;
    crowd.calls(Call::Query, calls)?;
    drop(crowd);
    row("PSS idle after 100,000 reads", 12.0)?;

    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let silent = (0..3_000)
        .map(|_| UnixStream::connect(&socket))
        .collect::<std::io::Result<Vec<_>>>()?;
    // All have been accepted once a later connection is served.
    Caller::as_soon_as_ready(&socket)?;
    if let Some(pss) = daemon.pss() {
        let what = "PSS with 3,000 silent connections tried";
        table.value(what, Unit::Mebibytes, pss, Target::UpTo(20.0));
    }
    drop(silent);
    Ok(())
}

fn size(_: &Bench, table: &mut Table) -> Result {
    let bytes = fs::metadata(HEDDLE)?.len() as f64;
    let what = "the binary";
    table.value(what, Unit::Megabytes, bytes / 1e6, Target::UpTo(15.0));
    Ok(())
}
