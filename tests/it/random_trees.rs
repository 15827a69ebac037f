//! Random histories: a restore gives back names, contents, modes and links, and undo and redo walk as a
//! plain list of contents says. The seeds are fixed; what fails is made as small as it gets.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use heddle_agent::{
    failure::Reason,
    grpc_local_impl::proto::local::{RestoreStateResponse, restore_target::Target},
};
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner},
};
use tonic::Status;

use crate::{
    harness::TestRepo,
    rpc::assert_ours,
    states::{GitView, captured, content, hex, restore, to, to_state},
};

type Content = BTreeMap<String, (u32, Vec<u8>)>;

/// Names that get in each other's way: files where folders were, and the other way round.
const PATHS: [&str; 12] = [
    "a",
    "a/x",
    "a/y/z",
    "a/y",
    "b",
    "a-b",
    "a.b",
    "dir/one",
    "dir/two",
    "Dir",
    "new\nline",
    "ümlaut/ß",
];

#[derive(Debug, Clone)]
enum Edit {
    File(usize, Vec<u8>, bool),
    Link(usize, usize),
    Remove(usize),
}

#[derive(Debug, Clone)]
enum Act {
    Edit(Vec<Edit>),
    Capture,
    Undo(u32),
    Redo(u32),
    /// To one of the states so far.
    Go(prop::sample::Index),
    /// The same, of one path.
    GoAt(prop::sample::Index, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let path = 0..PATHS.len();
    prop_oneof![
        4 => (path.clone(), prop::collection::vec(any::<u8>(), 0..4), any::<bool>())
            .prop_map(|(path, bytes, run)| Edit::File(path, bytes, run)),
        1 => (path.clone(), path.clone()).prop_map(|(path, to)| Edit::Link(path, to)),
        2 => path.prop_map(Edit::Remove),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => prop::collection::vec(edit(), 1..6).prop_map(Act::Edit),
        3 => Just(Act::Capture),
        3 => (1..4_u32).prop_map(Act::Undo),
        2 => (1..4_u32).prop_map(Act::Redo),
        2 => any::<prop::sample::Index>().prop_map(Act::Go),
        1 => (any::<prop::sample::Index>(), 0..PATHS.len()).prop_map(|(state, path)| Act::GoAt(state, path)),
    ]
}

fn remove(path: &Path) {
    if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
        fs::remove_dir_all(path).unwrap();
    } else {
        fs::remove_file(path).ok();
    }
}

fn make(root: &Path, edit: &Edit) {
    let (Edit::File(at, ..) | Edit::Link(at, _) | Edit::Remove(at)) = edit;
    let path = root.join(PATHS[*at]);
    for above in path.ancestors().skip(1).take_while(|above| *above != root) {
        if above.symlink_metadata().is_ok_and(|found| !found.is_dir()) {
            fs::remove_file(above).unwrap();
        }
    }
    remove(&path);
    if !matches!(edit, Edit::Remove(_)) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
    }
    match edit {
        Edit::File(_, bytes, run) => {
            fs::write(&path, bytes).unwrap();
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            let mode = if *run {
                mode | ((mode & 0o444) >> 2)
            } else {
                mode
            };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        Edit::Link(_, to) => symlink(PATHS[*to], &path).unwrap(),
        Edit::Remove(_) => {}
    }
}

/// What must come of it: steps of contents, and where among them the worktree stands.
struct Model {
    steps: Vec<Content>,
    at: usize,
    /// Every state that was heard of.
    states: Vec<(String, Content)>,
}

impl Model {
    fn is_dirty(&self, now: &Content) -> bool {
        *now != self.steps[self.at]
    }

    fn take(&mut self, content: Content) {
        self.steps.truncate(self.at + 1);
        self.steps.push(content);
        self.at += 1;
    }

    fn keep(&mut self, now: &Content) {
        if self.is_dirty(now) {
            self.take(now.clone());
        }
    }

    /// Where so many steps back lead; `None` if nowhere.
    fn undone(&self, steps: u32, now: &Content) -> Option<usize> {
        (self.at + usize::from(self.is_dirty(now))).checked_sub(steps as usize)
    }

    fn redone(&self, steps: u32, now: &Content) -> Option<usize> {
        let to = self.at + steps as usize;
        (!self.is_dirty(now) && to < self.steps.len()).then_some(to)
    }
}

fn is_in(path: &str, place: &str) -> bool {
    path.strip_prefix(place)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `now`, but at `path` what `goal` has there; `None` if neither has anything.
fn mixed(now: &Content, goal: &Content, path: &str) -> Option<Content> {
    let there = |content: &Content| content.keys().any(|other| is_in(other, path));
    if !there(now) && !there(goal) {
        return None;
    }
    let wanted = goal.iter().filter(|(other, _)| is_in(other, path));
    let gives_way = |other: &str| is_in(other, path) || (there(goal) && is_in(path, other));
    let stays = now.iter().filter(|(other, _)| !gives_way(other));
    Some(
        stays
            .chain(wanted)
            .map(|(path, found)| (path.clone(), found.clone()))
            .collect(),
    )
}

fn refused(done: Result<RestoreStateResponse, Status>, reason: Reason) {
    assert_eq!(assert_ours(&done.unwrap_err()), reason.name());
}

async fn live(acts: &[Act]) {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let look = || content(repo.root());
    let head = repo.git(&["rev-parse", "HEAD"]).trim().to_owned();
    let view = GitView::of(&repo);
    let mut model = Model {
        steps: vec![look()],
        at: 0,
        states: vec![(head.clone(), look())],
    };
    for act in acts {
        let now = look();
        let expected = match act {
            Act::Edit(edits) => {
                edits.iter().for_each(|edit| make(repo.root(), edit));
                continue;
            }
            Act::Capture => {
                let state = captured(&channel, "").await;
                model.keep(&now);
                model.states.push((state, now.clone()));
                now
            }
            Act::Undo(steps) => {
                let done = restore(&channel, to(Target::Undo(*steps))).await;
                let Some(to) = model.undone(*steps, &now) else {
                    refused(done, Reason::NothingToUndo);
                    continue;
                };
                model.keep(&now);
                model
                    .states
                    .push((hex(&done.unwrap().rescue_state_id), now));
                model.at = to;
                model.steps[to].clone()
            }
            Act::Redo(steps) => {
                let done = restore(&channel, to(Target::Redo(*steps))).await;
                let Some(to) = model.redone(*steps, &now) else {
                    refused(done, Reason::NothingToUndo);
                    continue;
                };
                done.unwrap();
                model.at = to;
                model.steps[to].clone()
            }
            Act::Go(state) => {
                let (state, goal) = model.states[state.index(model.states.len())].clone();
                let done = restore(&channel, to_state(&state)).await.unwrap();
                assert_eq!(hex(&done.state_id), state);
                model.keep(&now);
                model.keep(&goal);
                model.states.push((hex(&done.rescue_state_id), now));
                goal
            }
            Act::GoAt(state, path) => {
                let (state, goal) = model.states[state.index(model.states.len())].clone();
                let mut request = to_state(&state);
                request.paths = vec![PATHS[*path].to_owned()];
                let done = restore(&channel, request).await;
                let Some(goal) = mixed(&now, &goal, PATHS[*path]) else {
                    refused(done, Reason::PathUnknown);
                    continue;
                };
                let done = done.unwrap();
                model.keep(&now);
                model.keep(&goal);
                model.states.push((hex(&done.rescue_state_id), now));
                model.states.push((hex(&done.state_id), goal.clone()));
                goal
            }
        };
        assert_eq!(look(), expected, "{act:?}");
    }
    let last = restore(&channel, to_state(&head)).await.unwrap();
    assert_eq!(GitView::of(&repo), view);
    // What was there last is not lost either.
    restore(&channel, to_state(&hex(&last.rescue_state_id)))
        .await
        .unwrap();
    assert_eq!(repo.git(&["fsck", "--strict", "--no-dangling"]), "");
}

#[test]
fn restores_give_back_everything_and_undo_and_redo_walk_a_list() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for seed in [1, 2, 3, 4] {
        let config = Config {
            cases: 5,
            failure_persistence: None,
            max_shrink_iters: 200,
            ..Config::default()
        };
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
        let mut runner = TestRunner::new_with_rng(config, rng);
        let acts = prop::collection::vec(act(), 8..24);
        let lived = runner.run(&acts, |acts| {
            let lived = std::panic::AssertUnwindSafe(|| runtime.block_on(live(&acts)));
            std::panic::catch_unwind(lived).map_err(|why| {
                let text = why.downcast_ref::<String>().cloned();
                TestCaseError::fail(text.unwrap_or_default())
            })
        });
        lived.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    }
}
