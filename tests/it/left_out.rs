//! Files that are not looked into: by the tree's own attributes, as Git itself reads them, by size and
//! by content.

use std::fs;

use heddle_agent::{
    deadline::Deadline,
    git::{GitDir, ObjectId, TreeFiles},
    symbol::{ChangedFile, Changes, LeftOut, Outlines, SIZE_LIMIT},
};

use crate::harness::{DEADLINE, TestRepo, run};

/// Commits all that is in the worktree; answers its tree.
pub fn commit(repo: &TestRepo) -> ObjectId {
    repo.git(&["add", "-A"]);
    repo.git(&["commit", "-q", "--allow-empty", "-m", "All"]);
    let tree = repo.git(&["rev-parse", "HEAD^{tree}"]);
    ObjectId::from_hex(tree.trim().as_bytes()).unwrap()
}

pub fn write(repo: &TestRepo, path: &str, content: impl AsRef<[u8]>) {
    let path = repo.path(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn changes(repo: &TestRepo, from: ObjectId, to: ObjectId) -> Changes {
    let git = GitDir::open(&repo.path(".git")).unwrap();
    Changes::between(&git, &Outlines::default(), from, to, &Deadline::default()).unwrap()
}

fn file<'a>(changes: &'a Changes, path: &str) -> &'a ChangedFile {
    let found = changes.files.iter().find(|file| file.path == path);
    found.unwrap_or_else(|| panic!("no {path} in {changes:?}"))
}

/// Git itself takes days to match such a rule, so it is put into the tree without asking it to.
#[test]
fn a_rule_that_takes_for_ever_to_match_is_passed_over_and_others_hold() {
    let repo = TestRepo::new();
    let hostile = format!("{}z linguist-generated", "**/".repeat(30));
    let rules = format!("*.gen.rs linguist-generated\n{hostile}\nb.rs linguist-vendored\n");
    write(&repo, "rules", rules);
    let blob = repo.git(&["hash-object", "-w", "--no-filters", "rules"]);
    let folder = "deep/".repeat(30);
    let paths = ["a.gen.rs", "b.rs", "c.rs"].map(|name| format!("{folder}{name}"));
    for path in paths.iter().map(String::as_str).chain([".gitattributes"]) {
        let entry = format!("100644,{},{path}", blob.trim());
        repo.git(&["update-index", "--add", "--cacheinfo", &entry]);
    }
    let tree = repo.git(&["write-tree"]);
    let tree = ObjectId::from_hex(tree.trim().as_bytes()).unwrap();
    let (done, answer) = std::sync::mpsc::channel();
    let git = GitDir::open(&repo.path(".git")).unwrap();
    // If it hangs, it does so beside the test.
    std::thread::spawn(move || {
        let names = ["linguist-generated", "linguist-vendored"];
        let mut files = TreeFiles::new(&git, tree, &names).unwrap();
        let set = paths.map(|path| files.first_set(path.as_bytes()));
        done.send(set.map(Result::unwrap)).unwrap();
    });
    let set = answer.recv_timeout(DEADLINE).expect("it hangs");
    assert_eq!(set, [Some(0), Some(1), None]);
}

#[test]
fn the_trees_own_attributes_are_read_as_git_reads_them() {
    let repo = TestRepo::new();
    let rules = "[attr]made linguist-generated\n\
        [attr]hand-made -linguist-generated\n\
        /vendor/** linguist-vendored\n\
        *.pb.rs made\n\
        kept.pb.rs -linguist-generated\n\
        by_hand.pb.rs hand-made\n\
        no.pb.rs linguist-generated=false\n\
        yes.rs linguist-generated=true\n\
        again.pb.rs !linguist-generated\n\
        \"with space.rs\" made\n\
        /only/top.rs made\n";
    write(&repo, ".gitattributes", rules);
    write(
        &repo,
        "inner/.gitattributes",
        "*.pb.rs -made\ndeep/** made\n[attr]made diff\n",
    );
    write(
        &repo,
        "inner/deep/.gitattributes",
        "b.rs -linguist-generated\n",
    );
    write(
        &repo,
        "vendor/kept/.gitattributes",
        "* -linguist-vendored\n",
    );
    let paths = [
        "a.rs",
        "a.pb.rs",
        "kept.pb.rs",
        "by_hand.pb.rs",
        "no.pb.rs",
        "yes.rs",
        "again.pb.rs",
        "with space.rs",
        "only/top.rs",
        "x/only/top.rs",
        "vendor/a.rs",
        "vendor/b/c/a.rs",
        "vendor/kept/a.rs",
        "x/vendor/a.rs",
        "inner/a.pb.rs",
        "inner/a.rs",
        "inner/deep/a.rs",
        "inner/deep/b.rs",
        "inner/deep/c/b.rs",
        "inner.pb.rs",
        "z/a.pb.rs",
    ];
    for path in paths {
        write(&repo, path, "fn a() {}\n");
    }
    let tree = commit(&repo);
    // None of these is the tree's.
    write(&repo, ".gitattributes", "*.rs linguist-vendored\n");
    let names = ["linguist-generated", "linguist-vendored"];
    let git = GitDir::open(&repo.path(".git")).unwrap();
    let mut files = TreeFiles::new(&git, tree, &names).unwrap();
    let mut there_and_back = paths.to_vec();
    there_and_back.extend(paths.iter().rev());
    for path in there_and_back {
        let mut command = repo.command("git");
        command.args([
            "check-attr",
            "--source=HEAD",
            names[0],
            names[1],
            "--",
            path,
        ]);
        let said = run(&mut command).ok();
        let is_set = |line: &str| {
            let value = line.rsplit(": ").next().unwrap();
            !matches!(value, "unspecified" | "unset" | "false")
        };
        let gits = said.lines().position(is_set);
        assert_eq!(
            files.first_set(path.as_bytes()).unwrap(),
            gits,
            "{path}: {said}"
        );
        let blob = repo.git(&["rev-parse", &format!("HEAD:{path}")]);
        let blob = ObjectId::from_hex(blob.trim().as_bytes()).unwrap();
        assert_eq!(files.file(path.as_bytes()).unwrap(), Some(blob));
    }
    for path in ["inner", "none", "none/a.rs", "a.rs/b", ""] {
        assert_eq!(files.file(path.as_bytes()).unwrap(), None, "{path}");
    }
}

#[test]
fn a_change_tells_why_a_file_is_not_looked_into() {
    let repo = TestRepo::new();
    write(
        &repo,
        ".gitattributes",
        "*.gen.rs linguist-generated\n/v/** linguist-vendored\n",
    );
    write(&repo, "gone.gen.rs", "fn gone() {}\n");
    write(&repo, "grows.rs", "fn grows() {}\n");
    write(&repo, "freed.lock.rs", "fn freed() {}\n");
    write(&repo, "moved.gen.rs", "fn moved() {}\n");
    let before = commit(&repo);
    fs::remove_file(repo.path("gone.gen.rs")).unwrap();
    let large = ["fn grows() {}\n//", &"x".repeat(SIZE_LIMIT)].concat();
    write(&repo, "grows.rs", large);
    write(&repo, "a.gen.rs", "fn a() {}\n");
    write(&repo, "v/a.rs", "fn v() {}\n");
    write(&repo, "v/a.json", "{}\n");
    write(&repo, "a.rs", "fn a() {}\n");
    write(&repo, "nul.rs", "fn a() {}\0\n");
    write(&repo, "nul.unknown", "\0\n");
    write(
        &repo,
        "one_line.rs",
        format!("fn a() {{ \"{}\" }}\n", "y".repeat(50 << 20)),
    );
    let after = commit(&repo);
    let found = changes(&repo, before, after);
    for (path, why) in [
        ("a.gen.rs", Some(LeftOut::Generated)),
        ("gone.gen.rs", Some(LeftOut::Generated)),
        ("v/a.rs", Some(LeftOut::Vendored)),
        ("v/a.json", Some(LeftOut::Vendored)),
        ("grows.rs", Some(LeftOut::TooLarge)),
        ("one_line.rs", Some(LeftOut::TooLarge)),
        ("nul.rs", Some(LeftOut::Binary)),
        ("nul.unknown", None),
        ("a.rs", None),
    ] {
        let file = file(&found, path);
        assert_eq!(file.left_out, why, "{path}");
        let mut sides = file.before.iter().chain(&file.after);
        assert_eq!(
            sides.any(|side| side.outline.is_some()),
            path == "a.rs",
            "{path}"
        );
        assert_eq!(file.symbols.len(), usize::from(path == "a.rs"), "{path}");
    }
    // The attributes count at once for the state that has them, and for no other.
    write(
        &repo,
        ".gitattributes",
        "freed.lock.rs linguist-generated\n",
    );
    write(&repo, "freed.lock.rs", "fn freed() { 1 }\n");
    write(&repo, "moved.gen.rs", "fn moved() { 1 }\n");
    let last = commit(&repo);
    let found = changes(&repo, after, last);
    assert_eq!(
        file(&found, "freed.lock.rs").left_out,
        Some(LeftOut::Generated)
    );
    assert_eq!(file(&found, "moved.gen.rs").left_out, None);
    assert_eq!(file(&found, "moved.gen.rs").symbols.len(), 1);
}
