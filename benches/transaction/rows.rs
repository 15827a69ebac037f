//! What is measured: one function per group of rows.

use crate::{
    Result,
    calls::Calls,
    gates,
    shared::{
        bare::Bare,
        bench::{Bench, Group},
        floor::Appended,
        ours::{Caller, Ours},
        repo::Repo,
        samples::median,
        table::{Table, Target, Unit},
        turns::{Side, alternate, compare, in_turns, medians},
        worktree::Worktree,
    },
};

/// What is measured, by name.
pub const GROUPS: &[Group] = &[("floors", floors), ("calls", calls), ("gates", gates)];

/// Calls in a turn, of which the median is taken.
const EACH: usize = 10;

fn p50(mut one: impl FnMut() -> Result<f64>) -> Result<f64> {
    let each: Result<Vec<_>> = (0..EACH).map(|_| one()).collect();
    Ok(median(each?))
}

fn floors(bench: &Bench, table: &mut Table) -> Result {
    let bare = Bare::spawn(bench.path())?;
    let caller = Caller::connect(&bare.socket)?;
    let calls = Calls(&caller);
    let mut appended = Appended::create(bench.path())?;
    let pairs = alternate(
        bench.turns(),
        || p50(|| calls.empty()),
        || Ok(appended.syncs(EACH)?.p50()),
    )?;
    let ((empty, synced), _) = medians(&pairs);
    table.floor("(b) empty call of a bare server, p50", Unit::Micros, empty);
    table.floor("(c) fdatasync of 4 KiB, p50", Unit::Micros, synced);
    let shell = median(
        (0..bench.turns())
            .map(|_| p50(gates::shell))
            .collect::<Result<Vec<_>>>()?,
    );
    table.floor("sh -c true, p50", Unit::Micros, shell);
    Ok(())
}

/// Calls that a transaction can hold.
const MOST: usize = 256;

fn calls(bench: &Bench, table: &mut Table) -> Result {
    let repo = Repo::init(bench.path(), "calls")?;
    repo.git(&["commit", "-q", "--allow-empty", "-m", "c"], "")?;
    let ours = Ours::start(&repo)?;
    let calls = Calls(&ours.caller);
    calls.single(EACH)?;
    let (sides, ratio) = compare(
        bench.turns() * 2,
        || calls.single(10),
        || Ok(calls.together(10)?.0),
    )?;
    let what = "begin, 10 calls, commit, to 10 single calls";
    table.ratio(what, Unit::Micros, sides, ratio, Target::Told);

    let mut buffered = Vec::new();
    let (mut whole, mut alone) = (Vec::new(), Vec::new());
    let (mut commits, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..bench.turns() {
        alone.push(calls.single(MOST)?);
        let (all, commit, each) = calls.together(MOST)?;
        whole.push(all);
        commits.push((calls.single(1)?, commit));
        let (first, last) = (&each[..EACH], &each[MOST - EACH..]);
        ends.push((median(first.to_vec()), median(last.to_vec())));
        buffered.push((p50(|| calls.single(1))?, median(each.iter().copied())));
    }
    let mut row = |what, pairs: &[(f64, f64)]| {
        let (sides, ratio) = medians(pairs);
        table.ratio(what, Unit::Micros, sides, ratio, Target::Told);
    };
    row("a call in a transaction, to a single call", &buffered);
    row("its 256th call, to its first", &ends);
    row("a commit of 256 calls, to a single call", &commits);
    let whole: Vec<_> = alone.into_iter().zip(whole).collect();
    row("begin, 256 calls, commit, to 256 single calls", &whole);
    Ok(())
}

/// Events that no capture and no start of a thread fires.
const OTHERS: &[&str] = &["pre_merge", "pre_push", "post_merge", "post_push"];

fn gates(bench: &Bench, table: &mut Table) -> Result {
    let worktree = |name| Worktree::create(bench.path(), name, 2_000);
    let worktrees = [
        worktree("bare")?,
        worktree("others")?,
        worktree("live")?,
        worktree("command")?,
    ];
    let served: Vec<Ours> = worktrees
        .iter()
        .map(|worktree| Ours::start(&worktree.repo))
        .collect::<Result<_>>()?;
    let [bare, others, live, asked] = &served[..] else {
        return Err("not as many daemons as worktrees".into());
    };
    for n in 0..8 {
        gates::command(&others.caller, &format!("other-{n}"), "false", OTHERS)?;
    }
    gates::subscriber(worktrees[1].repo.socket()?, OTHERS)?;
    gates::subscriber(worktrees[2].repo.socket()?, &["pre_capture"])?;
    gates::command(&asked.caller, "gate", "true", &["pre_capture"])?;

    let capture = |ours: &Ours, worktree: &Worktree| {
        p50(|| {
            worktree.change(1)?;
            ours.capture()
        })
    };
    for (ours, worktree) in served.iter().zip(&worktrees) {
        ours.capture_nothing()?;
        capture(ours, worktree)?;
    }
    let sides: [Side; 4] = [
        ("nobody listens", &|| capture(bare, &worktrees[0])),
        ("hooks of other events", &|| capture(others, &worktrees[1])),
        ("a gate by subscriber", &|| capture(live, &worktrees[2])),
        ("a gate by command", &|| capture(asked, &worktrees[3])),
    ];
    let mut taken = in_turns(bench.turns(), || Ok(()), &sides)?;
    let alone = taken.remove(0);
    for ((name, _), taken) in sides[1..].iter().zip(taken) {
        let pairs: Vec<_> = alone.iter().copied().zip(taken).collect();
        let (sides, ratio) = medians(&pairs);
        let what = format!("capture, 1 of 2,000, {name}, to nobody who listens");
        table.ratio(&what, Unit::Micros, sides, ratio, Target::Told);
    }
    let started = |ours: &Ours| Ok(Calls(&ours.caller).threads(EACH)?.p50());
    let (sides, ratio) = compare(bench.turns() * 2, || started(bare), || started(others))?;
    let what = "StartThread, hooks of other events, to nobody who listens";
    table.ratio(what, Unit::Micros, sides, ratio, Target::Told);
    Ok(())
}
