//! A capture's tree is Git's own: byte for byte what `git add -A && git write-tree` makes on a
//! throw-away copy of the index.

use std::{
    fs::{self, FileTimes, OpenOptions},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use heddle_agent::git::{
    DEFAULT_SIZE_GUARD, GitDir, ObjectBatch, ScanError, Scanned, Scanner, Worktree,
};

use crate::harness::{TestRepo, run};

/// A scanner of the repository's worktree, with its cache at `cache`.
struct Taker {
    scanner: Scanner,
    git: GitDir,
}

impl Taker {
    fn of(root: &Path, git_dir: &Path, cache: PathBuf) -> Self {
        let worktree = Worktree {
            root: root.to_owned(),
            git_dir: git_dir.to_owned(),
        };
        Self {
            scanner: Scanner::new(worktree, cache).unwrap(),
            git: GitDir::open(git_dir).unwrap(),
        }
    }

    fn scan(&mut self) -> Result<Scanned, ScanError> {
        let objects = ObjectBatch::new(&self.git);
        let scanned = self.scanner.scan(&objects, DEFAULT_SIZE_GUARD)?;
        objects.finish()?;
        Ok(scanned)
    }

    fn tree(&mut self) -> String {
        let scanned = self.scan().unwrap();
        let tree = scanned.tree.to_string();
        self.scanner.settle(scanned);
        tree
    }
}

fn taker(repo: &TestRepo) -> Taker {
    fs::create_dir_all(repo.store_dir()).unwrap();
    Taker::of(
        repo.root(),
        &repo.path(".git"),
        repo.store_dir().join("index-main"),
    )
}

/// Copies an index, if there is one, with its time: by that Git tells whether a file may have changed
/// in the moment after it was added ("racy-git" in Git's technical documentation).
pub fn copy_index(index: &Path, copy: &Path) {
    let Ok(found) = index.metadata() else {
        return;
    };
    fs::copy(index, copy).unwrap();
    let times = FileTimes::new().set_modified(found.modified().unwrap());
    let copy = OpenOptions::new().append(true).open(copy).unwrap();
    copy.set_times(times).unwrap();
}

/// What Git makes of the worktree at `root`, on a copy of its index.
pub fn gits_tree_at(repo: &TestRepo, root: &Path, git_dir: &Path) -> String {
    let copy = repo.around().join("throw-away-index");
    let _ = fs::remove_file(&copy);
    copy_index(&git_dir.join("index"), &copy);
    let git = |args: &[&str]| {
        let mut git: Command = repo.command("git");
        run(git
            .current_dir(root)
            .env("GIT_INDEX_FILE", &copy)
            .args(["-c", "advice.addEmbeddedRepo=false"])
            .args(args))
    };
    let added = git(&["add", "-A"]);
    // It says so with a failure that it left out what lies outside of a sparse checkout.
    assert!(
        added.status.success() || added.stderr.contains("sparse-checkout definition"),
        "{added:#?}"
    );
    git(&["write-tree"]).ok().trim().to_owned()
}

/// The same, of the main worktree.
pub fn gits_tree(repo: &TestRepo) -> String {
    gits_tree_at(repo, repo.root(), &repo.path(".git"))
}

#[track_caller]
fn same(repo: &TestRepo, taker: &mut Taker) {
    let ours = taker.tree();
    let gits = gits_tree(repo);
    if ours != gits {
        let diff = repo.git(&["diff", "--raw", &gits, &ours]);
        panic!("Git's tree is {gits}, ours {ours}:\n{diff}");
    }
    // Once more with what is remembered, and by a scanner that has only the saved cache.
    assert_eq!(taker.tree(), gits, "the second time");
    taker.scanner.save();
    let mut fresh = self::taker(repo);
    assert_eq!(fresh.tree(), gits, "from the saved cache");
    fs::remove_file(repo.store_dir().join("index-main")).ok();
    assert_eq!(self::taker(repo).tree(), gits, "from nothing");
}

/// Writes a file, and the folders that it needs.
pub fn write(repo: &TestRepo, path: &str, content: impl AsRef<[u8]>) {
    let path = repo.path(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn what_is_tracked_changed_new_and_gone_is_as_git_has_it() {
    let repo = TestRepo::new();
    let mut taker = taker(&repo);
    same(&repo, &mut taker);
    write(&repo, "src/a.rs", "fn a() {}\n");
    write(&repo, "src-b", "sorts before the folder\n");
    write(&repo, "src/deep/er/b.rs", "fn b() {}\n");
    same(&repo, &mut taker);
    repo.git(&["add", "-A"]);
    repo.git(&["commit", "-qm", "second"]);
    write(&repo, "src/a.rs", "fn a() { 1 }\n");
    fs::remove_file(repo.path("src/deep/er/b.rs")).unwrap();
    fs::create_dir_all(repo.path("empty/folder")).unwrap();
    same(&repo, &mut taker);
    fs::set_permissions(repo.path("src/a.rs"), fs::Permissions::from_mode(0o755)).unwrap();
    same(&repo, &mut taker);
    symlink("../nowhere", repo.path("src/link")).unwrap();
    symlink("src", repo.path("folder-link")).unwrap();
    same(&repo, &mut taker);
    // A file becomes a folder, a folder a file.
    fs::remove_file(repo.path("src-b")).unwrap();
    write(&repo, "src-b/inside", "x");
    fs::remove_dir_all(repo.path("src/deep")).unwrap();
    write(&repo, "src/deep", "a file now");
    same(&repo, &mut taker);
    fs::rename(repo.path("README"), repo.path("readme")).unwrap();
    same(&repo, &mut taker);
}

#[test]
fn ignore_rules_of_all_levels_hold() {
    let repo = TestRepo::new();
    let home = repo.around().join("home");
    fs::create_dir_all(home.join(".config/git")).unwrap();
    fs::write(home.join(".config/git/ignore"), "*.global\n").unwrap();
    fs::write(repo.path(".git/info/exclude"), "*.excluded\n/.heddle/\n").unwrap();
    write(&repo, "tracked.log", "tracked though ignored\n");
    write(&repo, "build/kept.txt", "tracked in an ignored folder\n");
    repo.git(&["add", "-A"]);
    repo.git(&["commit", "-qm", "before it is ignored"]);
    write(
        &repo,
        ".gitignore",
        "*.log\nbuild/\n!important.log\nfoo/*\n!foo/bar\n",
    );
    write(&repo, "sub/.gitignore", "local\n!*.log\n");
    for path in [
        "a.log",
        "important.log",
        "tracked.log",
        "b.global",
        "c.excluded",
        "build/new.txt",
        "build/kept.txt",
        "sub/local",
        "sub/x.log",
        "sub/deep/y.log",
        "foo/bar",
        "foo/baz",
        "sub/build/z",
        "sub/deep/local",
    ] {
        write(&repo, path, format!("{path} changed\n"));
    }
    // gix reads the home of this process: the global file is named in the repository's own.
    repo.git(&[
        "config",
        "core.excludesFile",
        home.join(".config/git/ignore").to_str().unwrap(),
    ]);
    let mut taker = taker(&repo);
    same(&repo, &mut taker);
    write(&repo, ".gitignore", "nothing\n");
    same(&repo, &mut taker);
}

#[test]
fn attributes_and_filters_hold() {
    let repo = TestRepo::new();
    let mut taker = taker(&repo);
    write(&repo, "crlf.txt", "one\r\ntwo\r\n");
    write(&repo, "kept.txt", "in the index\r\nwith\r\n");
    repo.git(&["add", "kept.txt"]);
    repo.git(&["commit", "-qm", "with CRLF"]);
    same(&repo, &mut taker);
    write(&repo, ".gitattributes", "* text=auto\n");
    same(&repo, &mut taker);
    write(&repo, "kept.txt", "still\r\nwith CRLF\r\n");
    same(&repo, &mut taker);
    write(
        &repo,
        ".gitattributes",
        "[attr]ours text eol=crlf\n*.txt ours\n*.up filter=upper\n*.id ident\n*.u16 working-tree-encoding=UTF-16LE\n*.bin binary\n",
    );
    repo.git(&["config", "filter.upper.clean", "tr a-z A-Z"]);
    repo.git(&["config", "filter.upper.smudge", "tr A-Z a-z"]);
    repo.git(&["config", "filter.upper.required", "true"]);
    write(&repo, "shout.up", "make it loud\n");
    write(
        &repo,
        "mark.id",
        "$Id: 0123456789012345678901234567890123456789 $\n",
    );
    write(&repo, "data.bin", "a\r\nb\0\r\n");
    let utf16: Vec<u8> = "wide\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    write(&repo, "wide.u16", utf16);
    same(&repo, &mut taker);
    repo.git(&["config", "core.autocrlf", "true"]);
    write(&repo, "more.md", "x\r\n");
    same(&repo, &mut taker);
    repo.git(&["config", "filter.upper.clean", "false"]);
    write(&repo, "shout.up", "again\n");
    let error = taker.scan().unwrap_err().to_string();
    assert!(error.contains("shout.up"), "{error}");
}

#[test]
fn odd_names_and_modes_are_as_git_has_them() {
    let repo = TestRepo::new();
    let odd = [
        "new\nline",
        "quo\"te",
        "back\\slash",
        "-x",
        " leading",
        "tab\there",
        "ümlaut",
        "a b/c d",
        "*",
        "[x]",
        "..dots",
        "colon:name",
        ".gitmodules-not",
        "😀",
    ];
    for name in odd {
        write(&repo, name, name);
    }
    write(&repo, &"n".repeat(255), "long");
    use std::os::unix::ffi::OsStrExt;
    let raw = std::ffi::OsStr::from_bytes(b"not\xffutf8");
    fs::write(repo.path(raw), "raw").unwrap();
    let mut taker = taker(&repo);
    same(&repo, &mut taker);
    repo.git(&["add", "-A"]);
    repo.git(&["config", "core.fileMode", "false"]);
    fs::set_permissions(repo.path("*"), fs::Permissions::from_mode(0o755)).unwrap();
    write(&repo, "-x", "changed");
    same(&repo, &mut taker);
}

#[test]
fn repositories_within_are_links_to_their_commits() {
    let repo = TestRepo::new();
    let inner = |path: &str, commit: bool| {
        let root = repo.path(path);
        fs::create_dir_all(&root).unwrap();
        let git = |args: &[&str]| {
            run(repo.command("git").current_dir(&root).args(args)).ok();
        };
        git(&["init", "-q"]);
        if commit {
            fs::write(root.join("file"), "inside").unwrap();
            git(&["add", "."]);
            git(&[
                "-c",
                "user.name=Ada",
                "-c",
                "user.email=ada@example.com",
                "commit",
                "-qm",
                "x",
            ]);
        }
    };
    inner("nested", true);
    let mut taker = taker(&repo);
    same(&repo, &mut taker);
    repo.git(&["-c", "advice.addEmbeddedRepo=false", "add", "nested"]);
    repo.git(&["commit", "-qm", "a submodule"]);
    fs::write(repo.path("nested/more"), "not ours").unwrap();
    same(&repo, &mut taker);
    run(repo.command("git").current_dir(repo.path("nested")).args([
        "-c",
        "user.name=Ada",
        "-c",
        "user.email=ada@example.com",
        "commit",
        "-qam",
        "y",
        "--allow-empty",
    ]))
    .ok();
    same(&repo, &mut taker);
    fs::remove_dir_all(repo.path("nested/.git")).unwrap();
    same(&repo, &mut taker);
    fs::remove_dir_all(repo.path("nested")).unwrap();
    same(&repo, &mut taker);
    // Git refuses one without a commit; we leave it out and say so.
    inner("hollow", false);
    let scanned = taker.scan().unwrap();
    assert_eq!(scanned.left_out.len(), 1, "{:?}", scanned.left_out);
    assert_eq!(scanned.left_out[0].path, "hollow");
}

#[test]
fn what_git_cannot_keep_or_read_is_named() {
    let repo = TestRepo::new();
    let mut taker = taker(&repo);
    nix::unistd::mkfifo(&repo.path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(repo.path("sock")).unwrap();
    same(&repo, &mut taker);
    let scanned = taker.scan().unwrap();
    let left_out: Vec<_> = scanned
        .left_out
        .iter()
        .map(|l| l.path.to_string())
        .collect();
    assert_eq!(left_out, ["pipe", "sock"]);
    // A large file that is not tracked.
    let large = fs::File::create(repo.path("large")).unwrap();
    large.set_len(DEFAULT_SIZE_GUARD + 1).unwrap();
    let scanned = taker.scan().unwrap();
    assert!(scanned.left_out.iter().any(|l| l.path == "large"));
    fs::remove_file(repo.path("large")).unwrap();
}

#[test]
fn the_index_says_what_is_left_alone() {
    let repo = TestRepo::new();
    for name in ["assumed", "skipped", "wanted", "conflict"] {
        write(&repo, name, name);
    }
    repo.git(&["add", "-A"]);
    repo.git(&["commit", "-qm", "four"]);
    repo.git(&["update-index", "--assume-unchanged", "assumed"]);
    repo.git(&["update-index", "--skip-worktree", "skipped"]);
    for name in ["assumed", "skipped", "wanted"] {
        write(&repo, name, format!("{name} changed"));
    }
    write(&repo, "intended", "to be added");
    repo.git(&["add", "-N", "intended"]);
    let mut taker = taker(&repo);
    same(&repo, &mut taker);
    fs::remove_file(repo.path("skipped")).unwrap();
    fs::remove_file(repo.path("assumed")).unwrap();
    same(&repo, &mut taker);
    for version in ["2", "3", "4"] {
        repo.git(&["update-index", "--index-version", version]);
        same(&repo, &mut taker);
    }
    repo.git(&["update-index", "--split-index"]);
    write(&repo, "wanted", "once more");
    repo.git(&["add", "wanted"]);
    same(&repo, &mut taker);
}

#[test]
fn a_merge_under_way_gives_what_lies_in_the_worktree() {
    let repo = TestRepo::new();
    repo.git(&["checkout", "-qb", "other"]);
    write(&repo, "README", "theirs\n");
    write(&repo, "theirs", "x");
    repo.git(&["add", "-A"]);
    repo.git(&["commit", "-qm", "theirs"]);
    repo.git(&["checkout", "-q", "main"]);
    write(&repo, "README", "ours\n");
    repo.git(&["commit", "-qam", "ours"]);
    assert!(
        !run(repo.command("git").args(["merge", "-q", "other"]))
            .status
            .success()
    );
    let mut taker = taker(&repo);
    same(&repo, &mut taker);
    assert!(taker.scan().unwrap().unmerged);
    fs::remove_file(repo.path("README")).unwrap();
    same(&repo, &mut taker);
}

#[test]
fn sparse_checkouts_keep_what_lies_outside() {
    let repo = TestRepo::new();
    for path in ["in/a", "in/deep/b", "out/c", "out/deep/d", "top"] {
        write(&repo, path, path);
    }
    repo.git(&["add", "-A"]);
    repo.git(&["commit", "-qm", "all"]);
    let mut taker = taker(&repo);
    for sparse in [&["--cone", "in"][..], &["--no-cone", "/in/", "!/in/deep/"]] {
        let mut args = vec!["sparse-checkout", "set"];
        args.extend(sparse);
        repo.git(&args);
        same(&repo, &mut taker);
        write(&repo, "in/a", "changed");
        write(&repo, "in/new", "new");
        write(&repo, "out/new", "outside");
        same(&repo, &mut taker);
        fs::remove_dir_all(repo.path("out")).unwrap();
    }
    repo.git(&["sparse-checkout", "set", "--cone", "--sparse-index", "in"]);
    same(&repo, &mut taker);
}

#[test]
fn empty_sha256_and_linked_repositories_are_as_git_has_them() {
    let repo = TestRepo::empty_at("empty");
    let mut ours = taker(&repo);
    same(&repo, &mut ours);
    write(&repo, "first", "x");
    same(&repo, &mut ours);

    let repo = TestRepo::empty_at("sha256");
    fs::remove_dir_all(repo.path(".git")).unwrap();
    repo.git(&["init", "-q", "-b", "main", "--object-format=sha256"]);
    repo.git(&["config", "user.name", "Ada"]);
    repo.git(&["config", "user.email", "ada@example.com"]);
    write(&repo, "a/b", "x");
    let mut ours = taker(&repo);
    same(&repo, &mut ours);

    let repo = TestRepo::new();
    let linked = repo.around().join("linked");
    repo.git(&[
        "worktree",
        "add",
        "-q",
        "--detach",
        linked.to_str().unwrap(),
    ]);
    fs::write(linked.join("only-here"), "x").unwrap();
    let git_dir = repo.path(".git/worktrees/linked");
    let mut ours = Taker::of(&linked, &git_dir, repo.around().join("cache"));
    assert_eq!(ours.tree(), gits_tree_at(&repo, &linked, &git_dir));
}

#[test]
fn a_file_changed_within_one_tick_is_read_again() {
    let repo = TestRepo::new();
    let mut taker = taker(&repo);
    for round in 0..200 {
        write(&repo, "racy", format!("{round:04}"));
        let ours = taker.tree();
        assert_eq!(ours, gits_tree(&repo), "round {round}");
    }
}

#[test]
fn a_file_whose_stamps_do_not_tell_that_it_changed_is_read_again() {
    let repo = TestRepo::new();
    // Of the stamps that are left, one is of a clock that runs ahead.
    repo.git(&["config", "core.trustCtime", "false"]);
    let mut taker = taker(&repo);
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(3600);
    for round in 0..3 {
        write(&repo, "racy", format!("{round:04}"));
        let file = OpenOptions::new().append(true).open(repo.path("racy"));
        let times = FileTimes::new().set_modified(later);
        file.unwrap().set_times(times).unwrap();
        let ours = taker.tree();
        assert_eq!(ours, gits_tree(&repo), "round {round}");
    }
}
