//! Calls on a worktree, with all that must hold when they are cut short: what the crash, power-loss
//! and failure tests walk through. Each step of a walk begins with the same copy of a repository.

mod asked;
mod open;
mod traces;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use heddle_agent::grpc_local_impl::proto::local::RestoreStateRequest;
use tonic::{Status, transport::Channel};
use uuid::Uuid;

pub use asked::{
    Asked, begin, capture, commit, marked, rewind, some, start, undo, whole, with_index,
};
use open::Open;
use traces::leftovers;
pub use traces::{query, refs_by_git, refs_by_store};

use crate::{
    fault::{database, stored},
    harness::{TestRepo, eventually, run},
    states::{captured, content, to_state},
};

/// Modes and contents by path.
pub type Content = BTreeMap<String, (u32, Vec<u8>)>;

/// A repository just before a call, and what the call is to make of it.
pub struct Scene {
    pub repo: TestRepo,
    pub asked: Asked,
    pub before: Content,
    pub after: Content,
    first: Content,
    prepared: PathBuf,
    git: Git,
    /// The transaction that is open.
    open: Option<Open>,
    /// The index once it followed.
    followed: Option<String>,
}

/// What Git says of everything that is not ours.
#[derive(Debug, PartialEq, Eq)]
struct Git {
    head: String,
    refs: String,
    index: String,
    worktrees: String,
}

impl Git {
    fn of(repo: &TestRepo) -> Self {
        let refs = repo.git(&["for-each-ref", "--format=%(refname) %(objectname)"]);
        let refs = refs
            .lines()
            .filter(|line| !line.starts_with("refs/heddle/"));
        Self {
            head: fs::read_to_string(repo.path(".git/HEAD")).unwrap(),
            refs: refs.collect::<Vec<_>>().join("\n"),
            index: repo.git(&["ls-files", "--stage"]),
            worktrees: repo.git(&["worktree", "list", "--porcelain"]),
        }
    }
}

fn write(repo: &TestRepo, path: &str, mode: u32, text: &str) {
    let path = repo.path(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

/// What the first state of every scene has.
fn first(repo: &TestRepo) {
    write(repo, "README", 0o644, "hello\n");
    write(repo, "same", 0o644, "not touched\n");
    write(repo, "private", 0o600, "a secret\n");
    write(repo, "run", 0o755, "#!/bin/sh\n");
    write(repo, "lines.txt", 0o644, "one\ntwo\n");
    write(repo, "more.txt", 0o644, "three\nfour\n");
    write(repo, "turns/into/a-file", 0o644, "deep\n");
    write(repo, "into-a-folder", 0o644, "flat\n");
    symlink("README", repo.path("link")).unwrap();
    symlink("nowhere", repo.path("gone-link")).unwrap();
    write(repo, "was/here/only", 0o640, "removed later\n");
}

/// And what is made of it.
fn second(repo: &TestRepo) {
    write(repo, "README", 0o644, "hello again\n");
    write(repo, "private", 0o600, "another secret\n");
    write(repo, "run", 0o644, "#!/bin/sh\n");
    // The same lines are others to Git by these rules.
    write(repo, ".gitattributes", 0o644, "*.txt -text\n");
    write(repo, "lines.txt", 0o644, "one\r\ntwo\r\n");
    fs::remove_dir_all(repo.path("turns")).unwrap();
    write(repo, "turns", 0o644, "a file\n");
    fs::remove_file(repo.path("into-a-folder")).unwrap();
    write(repo, "into-a-folder/with/a-file", 0o644, "in it\n");
    fs::remove_file(repo.path("link")).unwrap();
    write(repo, "link", 0o644, "a file\n");
    fs::remove_file(repo.path("gone-link")).unwrap();
    symlink("README", repo.path("new-link")).unwrap();
    fs::remove_dir_all(repo.path("was")).unwrap();
    write(repo, "made/since/then", 0o600, "new and private\n");
    write(repo, "known-blob", 0o644, "known to Git\n");
}

/// A repository where a sync costs nothing: a kill loses nothing of what was not synced.
pub fn in_memory() -> TestRepo {
    let memory = Path::new("/dev/shm");
    if fs::metadata(memory).is_ok_and(|found| found.permissions().mode() & 0o7777 == 0o1777) {
        return TestRepo::empty_in(memory, "repo");
    }
    TestRepo::empty_at("repo")
}

impl Scene {
    /// A repository with two states, the first captured, the second only in the worktree.
    pub async fn new(repo: TestRepo, ask: impl FnOnce(&TestRepo, &str) -> Asked) -> Self {
        let hooks = repo.path(".git/hooks");
        let _ = fs::remove_dir_all(hooks);
        repo.git(&["config", "core.fsync", "none"]);
        write(&repo, ".gitignore", 0o644, "*.o\n");
        write(&repo, ".gitattributes", 0o644, "*.txt text eol=lf\n");
        write(&repo, "base", 0o644, "base\n");
        repo.git(&["add", "-A"]);
        repo.git(&["commit", "-qm", "base"]);
        write(&repo, "ignored.o", 0o600, "left alone");
        first(&repo);
        let mut daemon = repo.serve();
        let channel = repo.channel().await;
        let state = captured(&channel, "first").await;
        let one = content(repo.root());
        let mut asked = ask(&repo, &state);
        let mut open = None;
        if let Some(id) = asked.open() {
            let begun = open.insert(Open::begin(&channel).await);
            id.clone_from(&begun.id);
            second(&repo);
            begun.fill(&repo, &channel).await;
        } else {
            second(&repo);
        }
        daemon.stop();
        let before = content(repo.root());
        let prepared = repo.around().join("prepared");
        let mut scene = Self {
            git: Git::of(&repo),
            after: match &asked {
                Asked::Restore(request) => expected(request, &one, &before),
                Asked::Rewind(_) => expected(&to_state(&state), &one, &before),
                Asked::Capture | Asked::Start(_) | Asked::Begin | Asked::Commit(_) => {
                    before.clone()
                }
            },
            first: one,
            followed: None,
            open,
            asked,
            before,
            prepared,
            repo,
        };
        run(Command::new("cp")
            .arg("-a")
            .args([scene.repo.root(), &scene.prepared]))
        .ok();
        scene.rehearse().await;
        scene
    }

    /// Carries it out once, undisturbed: the call must do what the scene expects of it.
    async fn rehearse(&mut self) {
        let mut daemon = self.repo.serve();
        let channel = self.repo.channel().await;
        let key = Uuid::new_v4();
        self.call(&channel, key).await.unwrap();
        if matches!(&self.asked, Asked::Restore(request) if request.update_index) {
            self.followed = Some(self.repo.git(&["ls-files", "--stage"]));
        }
        daemon.stop();
        self.check(self.repo.root(), key, "undisturbed");
        assert_eq!(self.effects(self.repo.root(), key), 1);
    }

    /// Everything is as it was before the call, again; on the disk, too.
    pub fn reset(&self) {
        fs::remove_dir_all(self.repo.root()).unwrap();
        if let Asked::Start(path) = &self.asked {
            let _ = fs::remove_dir_all(path);
        }
        run(Command::new("cp")
            .arg("-a")
            .arg(&self.prepared)
            .arg(self.repo.root()))
        .ok();
        // A capture refers to it, and does not write it.
        self.repo.git(&["hash-object", "-w", "known-blob"]);
        run(Command::new("sync").arg("-f").arg(self.repo.root())).ok();
    }

    /// Makes the call; answers the encoded response.
    pub async fn call(&self, channel: &Channel, key: Uuid) -> Result<Vec<u8>, Status> {
        self.asked.call(channel, key).await
    }

    /// What is asked, for another task.
    pub fn clone_asked(&self) -> Asked {
        self.asked.clone()
    }

    /// The place of a path among those in which the two states differ.
    pub fn number_of(&self, path: &str) -> usize {
        let differ = |path: &&String| self.before.get(*path) != self.first.get(*path);
        let all: BTreeSet<&String> = self.before.keys().chain(self.first.keys()).collect();
        let mut all = all.into_iter().filter(differ);
        all.position(|other| other == path).unwrap()
    }

    /// How often the call's effect is there, by log and answers; a rescue is none.
    pub fn effects(&self, root: &Path, key: Uuid) -> u32 {
        let found = stored(&root.join(".git/heddle"));
        let verb = self.asked.verb();
        let logged = found.verbs.get(&(key.to_string(), verb.to_owned()));
        let logged = logged.copied().unwrap_or(0);
        let answers = found.answers.get(&key).copied().unwrap_or(0);
        assert_eq!(logged, answers, "{key} is there in part");
        logged
    }

    /// Checks, of a repository at `root` that has recovered, that all of the call is there or nothing,
    /// that Git is content, and that nothing is left over.
    #[track_caller]
    pub fn check(&self, root: &Path, key: Uuid, when: &str) {
        let done = self.effects(root, key) > 0;
        let expected = if done { &self.after } else { &self.before };
        let found = content(root);
        assert!(
            found == *expected,
            "{when}: done {done}, differs in {:?}",
            differences(&found, expected)
        );
        self.check_transaction(root, done, when);
        let git = |args: &[&str]| run(self.repo.command("git").current_dir(root).args(args)).ok();
        assert_eq!(git(&["fsck", "--strict", "--no-dangling"]), "", "{when}");
        if let Asked::Start(path) = &self.asked {
            assert_eq!(path.exists(), done, "{when}");
            if done {
                let mut names: Vec<_> = self.first.keys().collect();
                names.retain(|name| *name != "ignored.o");
                assert!(names.into_iter().eq(content(path).keys()), "{when}");
                let status = run(self
                    .repo
                    .command("git")
                    .current_dir(path)
                    .args(["status", "--porcelain"]));
                assert_eq!(status.ok(), "", "{when}");
            }
        }
        if root == self.repo.root() {
            let mut now = Git::of(&self.repo);
            if done && let Some(followed) = &self.followed {
                assert_eq!(now.index, *followed, "{when}");
                now.index.clone_from(&self.git.index);
            }
            if done && let Asked::Start(path) = &self.asked {
                assert!(
                    now.worktrees.contains(path.to_str().unwrap()),
                    "{when}: {now:?}"
                );
                now.worktrees.clone_from(&self.git.worktrees);
            }
            assert_eq!(now, self.git, "{when}");
        }
        assert_eq!(refs_by_git(&git), refs_by_store(root), "{when}");
        eventually(&format!("{when}: {:?} are gone", leftovers(root)), || {
            leftovers(root).is_empty().then_some(())
        });
    }
}

impl Scene {
    /// Checks that the transaction stands as it must, with all of its calls or none.
    #[track_caller]
    pub fn check_transaction(&self, root: &Path, done: bool, when: &str) {
        let state = match self.asked {
            Asked::Commit(_) if done => "committed",
            Asked::Rewind(_) if done => "aborted",
            _ => "active",
        };
        if let Some(open) = &self.open {
            open.check(root, state, when);
        }
        if let Asked::Begin = self.asked {
            let (_copy, database) = database(&root.join(".git/heddle")).unwrap();
            let begun = query(&database, "SELECT 1 FROM txn", |_| Ok(()));
            assert_eq!(begun.len(), usize::from(done), "{when}");
        }
    }
}

/// The worktree after a restore of the first state, or of some paths of it.
fn expected(request: &RestoreStateRequest, one: &Content, two: &Content) -> Content {
    let wanted = |path: &String| {
        request.paths.is_empty()
            || request
                .paths
                .iter()
                .any(|w| path == w || path.starts_with(&format!("{w}/")))
    };
    let kept = two.iter().filter(|(path, _)| !wanted(path));
    let taken = one.iter().filter(|(path, _)| wanted(path));
    let mut expected: Content = kept
        .chain(taken)
        .map(|(path, found)| (path.clone(), found.clone()))
        .collect();
    // Git keeps of a mode whether it is a program; what is made anew is as its folder allows, and
    // what is replaced keeps who may read it.
    for (path, (mode, _)) in &mut expected {
        let link = one.get(path).is_some_and(|(mode, _)| *mode == 0);
        if path == "was/here/only" && !link && wanted(path) {
            *mode = 0o644;
        }
    }
    expected
}

fn differences(a: &Content, b: &Content) -> Vec<String> {
    let paths = a.keys().chain(b.keys());
    let mut differ: Vec<_> = paths.filter(|path| a.get(*path) != b.get(*path)).collect();
    differ.sort();
    differ.dedup();
    let told = |path: &String| format!("{path}: {:?} and not {:?}", a.get(path), b.get(path));
    differ.into_iter().map(told).collect()
}
