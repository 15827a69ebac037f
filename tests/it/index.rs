//! The index of a tree's symbols: what it answers is what a look at every file would, whatever it has
//! taken in besides, and whatever became of its database.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use heddle_agent::{
    deadline::Deadline,
    git::{GitDir, ObjectId},
    symbol::{Found, Index, language_of, last_name, outline},
};

use crate::{
    harness::TestRepo,
    left_out::{commit, write},
};

/// A repository and its index, without a daemon.
struct Indexed {
    repo: TestRepo,
    git: GitDir,
    index: Index,
}

impl Indexed {
    fn new() -> Self {
        let repo = TestRepo::new();
        let git = GitDir::open(&repo.path(".git")).unwrap();
        fs::create_dir_all(repo.store_dir()).unwrap();
        let index = Index::new(&repo.store_dir());
        Self { repo, git, index }
    }

    /// As after a start of another process.
    fn again(self) -> Self {
        self.index.close();
        let index = Index::new(&self.repo.store_dir());
        Self { index, ..self }
    }

    fn cover(&self, tree: ObjectId) {
        assert!(
            self.index
                .cover(&self.git, tree, &Deadline::default())
                .unwrap()
        );
    }

    fn using(&self, tree: ObjectId, name: &str, limit: usize) -> Found {
        self.index.at(&self.git, tree).using(name, limit).unwrap()
    }

    fn parsed(&self) -> u64 {
        self.index.progress().parsed
    }

    fn database(&self) -> PathBuf {
        self.repo.store_dir().join("symbols.db")
    }

    /// A commit with one file for each of these names, which defines it and uses the next.
    fn commit_names(&self, names: &[&str]) -> ObjectId {
        for pair in names.windows(2) {
            let text = format!("fn {}() {{ {}() }}\n", pair[0], pair[1]);
            write(&self.repo, &format!("src/{}.rs", pair[0]), text);
        }
        commit(&self.repo)
    }
}

fn paths(found: &Found) -> Vec<String> {
    let paths = found.files.iter().map(|it| it.path.to_string());
    paths.collect()
}

/// The paths of files that define or use a name, by a look at every file that lies in the worktree.
fn naive(root: &Path, name: &str, defines: bool) -> Vec<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.extend((!path.ends_with(".git")).then_some(path));
                continue;
            }
            let relative = path.strip_prefix(root).unwrap();
            let Some(language) = language_of(relative.as_os_str().as_bytes()) else {
                continue;
            };
            let outline = outline(language, &fs::read(&path).unwrap());
            let mut definitions = outline.definitions.iter();
            let mut references = outline.references.iter();
            let has_it = match defines {
                true => definitions.any(|it| last_name(&it.name) == name),
                false => references.any(|it| it.name == name),
            };
            if has_it && !relative.starts_with("vendor") {
                found.insert(relative.to_str().unwrap().to_owned());
            }
        }
    }
    found.into_iter().collect()
}

/// Random edits, renames, copies and removals, and after each the answers of a look at every file.
#[test]
fn answers_are_those_of_a_look_at_every_file_whatever_was_taken_in_before() {
    let mut it = Indexed::new();
    let repo_root = it.repo.root().to_owned();
    let mut state = 20_261_127_u64;
    let mut random = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    write(&it.repo, ".gitattributes", "vendor/** linguist-vendored\n");
    let folders = ["", "a/", "a/b/", "c/", "vendor/"];
    let mut trees = Vec::new();
    for round in 0..40 {
        for _ in 0..1 + random(4) {
            let folder = folders[random(5) as usize];
            let ending = ["rs", "py", "txt"][random(3) as usize];
            let path = format!("{folder}f{}.{ending}", random(5));
            let (one, other) = (random(6), random(6));
            let text = match (random(5), ending) {
                (0, _) => {
                    let _ = fs::remove_file(it.repo.path(&path));
                    continue;
                }
                (_, "py") => format!("def n{one}():\n    return n{other}()\n"),
                _ => format!("fn n{one}() {{ n{other}() }}\n"),
            };
            write(&it.repo, &path, text);
        }
        let tree = commit(&it.repo);
        // Some are passed over, and some are asked about that were taken in long ago.
        if random(4) > 0 {
            it.cover(tree);
            for name in 0..6 {
                let name = format!("n{name}");
                let view = it.index.at(&it.git, tree);
                let (using, defining) = (view.using(&name, 99), view.defining(&name, 99));
                let (using, defining) = (using.unwrap(), defining.unwrap());
                assert_eq!(
                    paths(&using),
                    naive(&repo_root, &name, false),
                    "{round} {name}"
                );
                assert_eq!(
                    paths(&defining),
                    naive(&repo_root, &name, true),
                    "{round} {name}"
                );
                assert!(!using.truncated && !defining.truncated);
                trees.push((tree, name, paths(&using)));
            }
        }
        if random(8) == 0 {
            it = it.again();
        }
    }
    for (tree, name, known) in trees {
        assert_eq!(paths(&it.using(tree, &name, 99)), known);
        let some = it.using(tree, &name, 2);
        assert_eq!(some.files.len(), known.len().min(2));
        assert_eq!(some.truncated, known.len() > 2);
        assert_eq!(paths(&some), paths(&it.using(tree, &name, 2)));
    }
}

#[test]
fn a_language_has_tests_where_a_file_of_the_tree_is_one_by_its_path_or_its_source() {
    let it = Indexed::new();
    let has_tests = |path: &[u8]| {
        let tree = commit(&it.repo);
        it.cover(tree);
        let view = it.index.at(&it.git, tree);
        view.has_tests(language_of(path).unwrap()).unwrap().unwrap()
    };
    let text = "fn checks() { all() }\n";
    write(&it.repo, ".gitattributes", "vendor/** linguist-vendored\n");
    write(&it.repo, "src/a.rs", text);
    assert!(!has_tests(b"a.rs"));
    // The same blob is known already.
    write(&it.repo, "tests/a.rs", text);
    assert!(has_tests(b"a.rs"));
    assert!(!has_tests(b"a.py"));
    fs::remove_file(it.repo.path("tests/a.rs")).unwrap();
    assert!(!has_tests(b"a.rs"));
    write(&it.repo, "vendor/tests/a.rs", text);
    assert!(!has_tests(b"a.rs"));
    write(&it.repo, "src/b.rs", "#[test]\nfn checks_all() {}\n");
    assert!(has_tests(b"a.rs"));
}

#[test]
fn each_blob_is_parsed_once_in_whatever_tree_and_process() {
    let mut it = Indexed::new();
    let first = it.commit_names(&["a", "b", "c", "d"]);
    it.cover(first);
    assert_eq!(it.parsed(), 3);
    write(&it.repo, "src/a.rs", "fn a() { changed() }\n");
    fs::copy(it.repo.path("src/b.rs"), it.repo.path("copy.rs")).unwrap();
    let second = commit(&it.repo);
    it.cover(second);
    assert_eq!(it.parsed(), 4);
    assert_eq!(paths(&it.using(second, "c", 9)), ["copy.rs", "src/b.rs"]);
    it = it.again();
    it.cover(first);
    it.cover(second);
    assert_eq!(paths(&it.using(first, "b", 9)), ["src/a.rs"]);
    assert_eq!(paths(&it.using(second, "b", 9)), [""; 0]);
    assert_eq!(it.parsed(), 0);
}

#[test]
fn a_database_that_is_lost_or_damaged_is_made_anew() {
    let mut it = Indexed::new();
    let tree = it.commit_names(&["a", "b", "c"]);
    it.cover(tree);
    // While it is open, and while it is not.
    for round in 0..6 {
        let database = it.database();
        match round % 3 {
            0 => fs::remove_file(&database).unwrap(),
            1 => fs::write(&database, b"no database").unwrap(),
            _ => {
                let size = fs::metadata(&database).unwrap().len() as usize;
                let mut bytes = fs::read(&database).unwrap();
                bytes[4_096..].fill(0xa5);
                assert_eq!(bytes.len(), size);
                fs::write(&database, bytes).unwrap();
            }
        }
        if round >= 3 || round == 1 || round == 2 {
            it = it.again();
        }
        // What is damaged may be found so only by a question.
        let answers = |it: &Indexed| {
            let _ = it.index.cover(&it.git, tree, &Deadline::default()).unwrap();
            paths(&it.using(tree, "b", 9)) == ["src/a.rs"]
        };
        assert!(answers(&it) || answers(&it), "{round}");
        it.cover(tree);
    }
    // What is known to be in is so of the database that is there, and of no earlier one.
    let other = it.commit_names(&["a", "b", "d"]);
    it.cover(other);
    fs::remove_file(it.database()).unwrap();
    it.cover(other);
    it.cover(tree);
    assert_eq!(paths(&it.using(tree, "c", 9)), ["src/b.rs"]);
    // One that other rules made.
    it.index.close();
    let database = rusqlite::Connection::open(it.database()).unwrap();
    database
        .execute_batch("DELETE FROM name; PRAGMA user_version = 7;")
        .unwrap();
    drop(database);
    it.cover(tree);
    assert_eq!(paths(&it.using(tree, "b", 9)), ["src/a.rs"]);
}

#[test]
fn where_nothing_can_be_kept_a_tree_is_not_whole_and_files_are_looked_at_all_the_same() {
    let it = Indexed::new();
    let tree = it.commit_names(&["a", "b", "c"]);
    // A folder is where the database would be, also for root.
    fs::create_dir(it.database()).unwrap();
    assert!(!it.index.cover(&it.git, tree, &Deadline::default()).unwrap());
    let view = it.index.at(&it.git, tree);
    assert!(view.using("b", 9).unwrap().truncated);
    let outline = view.outline(b"src/a.rs").unwrap().unwrap();
    assert_eq!(outline.definitions[0].name, "a");
    fs::remove_dir(it.database()).unwrap();
    it.cover(tree);
    assert_eq!(paths(&it.using(tree, "b", 9)), ["src/a.rs"]);
}

#[test]
fn two_at_once_share_the_work_and_a_late_one_does_not_wait() {
    let it = Indexed::new();
    for at in 0..600 {
        let text = format!("fn f{at}() {{ f{}() }}\n", at + 1).repeat(40);
        write(&it.repo, &format!("src/{}/f{at}.rs", at % 7), text);
    }
    let tree = commit(&it.repo);
    thread::scope(|scope| {
        let it = &it;
        let (begun, is_begun) = mpsc::channel();
        let (answered, is_answered) = mpsc::channel();
        let (begun, is_answered) = (Mutex::new(Some(begun)), Mutex::new(is_answered));
        // It has its turn, and waits in it until the late one is answered.
        let never = move || {
            if let Some(begun) = begun.lock().unwrap().take() {
                begun.send(()).unwrap();
                is_answered.lock().unwrap().recv().unwrap();
            }
            false
        };
        let warm = scope.spawn(move || it.index.warm(&it.git, tree, &never).unwrap());
        is_begun.recv().unwrap();
        let covers: Vec<_> = (0..3).map(|_| scope.spawn(|| it.cover(tree))).collect();
        let late = Deadline::within(Duration::from_millis(1));
        assert!(!it.index.cover(&it.git, tree, &late).unwrap());
        answered.send(()).unwrap();
        covers.into_iter().for_each(|it| it.join().unwrap());
        assert!(warm.join().unwrap());
    });
    assert_eq!(it.parsed(), 600);
    let progress = it.index.progress();
    assert!(progress.is_whole && !progress.is_running);
    assert_eq!((progress.counts.files, progress.left), (600, 0));
    assert_eq!(it.using(tree, "f7", 9).files.len(), 1);
}

#[test]
fn those_who_give_way_do_not_keep_one_another_from_getting_on() {
    let it = Indexed::new();
    for at in 0..300 {
        write(
            &it.repo,
            &format!("src/f{at}.rs"),
            format!("fn f{at}() {{}}\n"),
        );
    }
    let tree = commit(&it.repo);
    // It is asked for each file, and whenever somebody gave way.
    let asked = AtomicUsize::new(0);
    let never = || asked.fetch_add(1, Ordering::Relaxed) > 10_000;
    thread::scope(|scope| {
        let (it, never) = (&it, &never);
        let warm = scope.spawn(move || it.index.warm(&it.git, tree, never).unwrap());
        let unless = |_| scope.spawn(move || it.index.cover_unless(&it.git, tree, never).unwrap());
        let others: Vec<_> = (0..3).map(unless).collect();
        assert!(others.into_iter().all(|it| it.join().unwrap()));
        assert!(warm.join().unwrap());
    });
    assert_eq!(it.parsed(), 300);
    assert!(asked.into_inner() < 1_000);
}

#[test]
fn a_path_that_is_no_text_is_in_like_any_other() {
    use std::{ffi::OsStr, path::PathBuf};

    let it = Indexed::new();
    let name = PathBuf::from(OsStr::from_bytes(b"bad\xff.rs"));
    fs::write(it.repo.path(name), "fn a() { b() }\nfn a() { b() }\n").unwrap();
    let tree = commit(&it.repo);
    it.cover(tree);
    let found = it.using(tree, "b", 9);
    assert_eq!(found.files[0].path, b"bad\xff.rs"[..]);
    assert_eq!(found.files[0].outline.named("a").count(), 2);
}

#[test]
fn a_tree_with_a_blob_that_is_missing_is_given_up_by_all_who_give_way_to_one_another() {
    let it = Indexed::new();
    let tree = it.commit_names(&["a", "b", "c", "d"]);
    let blob = it.repo.git(&["rev-parse", "HEAD:src/b.rs"]);
    let (folder, name) = blob.trim().split_at(2);
    fs::remove_file(it.repo.path(format!(".git/objects/{folder}/{name}"))).unwrap();
    thread::scope(|scope| {
        let it = &it;
        let never = || false;
        let warm = scope.spawn(move || it.index.warm(&it.git, tree, &never).unwrap());
        let unless = |_| scope.spawn(move || it.index.cover_unless(&it.git, tree, &never).unwrap());
        let others: Vec<_> = (0..3).map(unless).collect();
        assert!(!warm.join().unwrap());
        assert!(others.into_iter().all(|it| !it.join().unwrap()));
    });
    assert!(!it.index.cover(&it.git, tree, &Deadline::default()).unwrap());
    assert_eq!(it.parsed(), 2);
}
