//! Real repositories: this one, and the sources of crates that everybody who builds it has. Each is put
//! under Git, goes through a series of changes, and every capture's tree is Git's own; then it goes to
//! each of the states again.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use crate::{
    harness::{TestRepo, run, skip},
    states::content,
    trees::Served,
};

/// A crate's sources as Cargo unpacked them; `None`, and said so, where they are not.
fn sources_of(test: &str, name: &str) -> Option<PathBuf> {
    let found = find_sources(name);
    if found.is_none() {
        skip(
            test,
            &format!("the sources of {name} are not in Cargo's home"),
        );
    }
    found
}

fn find_sources(name: &str) -> Option<PathBuf> {
    let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).ok()?;
    let lock: toml::Table = lock.parse().ok()?;
    let mut packages = lock["package"].as_array()?.iter();
    let package = packages.find(|package| package["name"].as_str() == Some(name))?;
    let folder = format!("{name}-{}", package["version"].as_str()?);
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))?;
    let registries = fs::read_dir(home.join("registry/src")).ok()?;
    let mut places = registries.flatten().map(|entry| entry.path().join(&folder));
    places.find(|place| place.is_dir())
}

/// The files in a worktree that Git tracks and that are no links, in order.
fn tracked(at: &Served) -> Vec<String> {
    let names = at.git(&["ls-files", "-z"]);
    let names = names.split_terminator('\0').map(str::to_owned);
    names
        .filter(|name| {
            at.path(name)
                .symlink_metadata()
                .is_ok_and(|found| found.is_file())
        })
        .collect()
}

/// Every `n`th of the files, from the `from`th on.
fn some(files: &[String], n: usize, from: usize) -> impl Iterator<Item = &String> {
    files
        .iter()
        .skip(from % files.len())
        .step_by(n.min(files.len()))
        .filter(|path| !path.starts_with(".git"))
}

type Change = fn(&Served, &[String]);

/// One after the other, what people and their agents do to a repository.
const CHANGES: [(&str, Change); 12] = [
    ("edits", |at, files| {
        for path in some(files, 7, 0) {
            let mut bytes = fs::read(at.path(path)).unwrap();
            bytes.extend_from_slice(b"\nand a line more");
            fs::write(at.path(path), bytes).unwrap();
        }
        for path in some(files, 11, 3) {
            let bytes = fs::read(at.path(path)).unwrap();
            fs::write(at.path(path), &bytes[bytes.len() / 2..]).unwrap();
        }
    }),
    ("deletions", |at, files| {
        for path in some(files, 5, 1) {
            fs::remove_file(at.path(path)).unwrap();
        }
    }),
    ("additions", |at, files| {
        for (n, path) in some(files, 6, 2).enumerate() {
            at.write(format!("{path}.d/new-{n}"), format!("{n}\r\n").repeat(n));
            at.write(format!("new/deep/{n}/bytes"), [0, 159, 146, n as u8]);
            at.write(format!("{path}-"), "beside it");
        }
    }),
    ("half of it committed", |at, _| {
        at.git(&["add", "-A"]);
        at.git(&["reset", "-q", "--", "new"]);
        at.git(&["commit", "-qm", "half"]);
    }),
    ("renames", |at, files| {
        for path in some(files, 9, 4) {
            fs::rename(at.path(path), at.path(format!("{path}.moved"))).unwrap();
        }
        fs::rename(at.path("new/deep"), at.path("new/DEEP")).unwrap();
        fs::rename(at.path("new"), at.path("older")).unwrap();
    }),
    ("modes", |at, files| {
        for path in some(files, 4, 1) {
            fs::set_permissions(at.path(path), fs::Permissions::from_mode(0o755)).unwrap();
        }
    }),
    ("links", |at, files| {
        for path in some(files, 13, 2) {
            fs::remove_file(at.path(path)).unwrap();
            symlink("nowhere/at all", at.path(path)).unwrap();
        }
        symlink(".", at.path("loop")).unwrap();
        fs::rename(at.path("older"), at.path("aside")).unwrap();
        symlink("aside", at.path("older")).unwrap();
    }),
    ("rules within", |at, files| {
        for path in some(files, 10, 5) {
            let folder = Path::new(path).parent().unwrap();
            at.write(folder.join(".gitignore"), "*.rs\n!lib.rs\n/*.moved\n*-\n");
        }
        at.write(".gitignore", "target/\n*.d/\n!new-1\naside/**/bytes\n");
        at.write("target/debug/out", "ignored");
    }),
    ("files and folders change places", |at, files| {
        for path in some(files, 8, 0) {
            fs::remove_file(at.path(path)).unwrap();
            at.write(format!("{path}/inside/it"), "x");
        }
        fs::remove_dir_all(at.path("aside")).unwrap();
        at.write("aside", "a file");
    }),
    ("all committed", |at, _| {
        at.git(&["add", "-A"]);
        at.git(&["commit", "-qm", "all"]);
    }),
    ("attributes and filters", |at, files| {
        at.git(&["config", "filter.upper.clean", "tr a-z A-Z"]);
        at.git(&["config", "filter.upper.smudge", "tr A-Z a-z"]);
        at.write(
            ".gitattributes",
            "* text=auto\n*.rs text eol=crlf\n*.up filter=upper\n*.md ident\n*.c -text\n",
        );
        for (n, path) in some(files, 6, 3).enumerate() {
            at.write(format!("{path}.up"), format!("loud {n}\n"));
        }
        at.write("marked.md", "$Id$\r\nwith a mark\r\n");
        for path in some(files, 3, 0) {
            let mut bytes = fs::read(at.path(path)).unwrap();
            bytes.extend_from_slice(b"// more\r\n");
            fs::write(at.path(path), bytes).unwrap();
        }
    }),
    ("attributes within", |at, files| {
        for path in some(files, 6, 1) {
            let folder = Path::new(path).parent().unwrap();
            at.write(
                folder.join(".gitattributes"),
                "[x]* -text\n*.rs !eol text=auto\n*.up -filter\n",
            );
            at.write(folder.join("dos.rs"), "fn dos() {}\r\n");
        }
    }),
];

/// What is ignored and was not always is in the way of where it was not: it is nobody's to overwrite.
fn clear_what_is_ignored(at: &Served) {
    let names = at.git(&[
        "ls-files",
        "-z",
        "--others",
        "--ignored",
        "--exclude-standard",
    ]);
    for name in names
        .split_terminator('\0')
        .filter(|name| !name.starts_with(".heddle/"))
    {
        fs::remove_file(at.path(name)).unwrap();
    }
}

/// Puts it through all of that, and back.
async fn goes_through_it(repo: TestRepo) {
    let served = Served::as_a_service(repo).await;
    let first = (served.same("untouched").await, content(&served.root));
    let mut states = Vec::new();
    for (what, change) in CHANGES {
        let files = tracked(&served);
        change(&served, &files);
        states.push((what, served.same(what).await));
    }
    // Forth and back, in steps of all sizes.
    for at in [5, 0, 8, 11, 1, 10] {
        let (what, state) = &states[at];
        clear_what_is_ignored(&served);
        served.goes_to(what, state).await;
    }
    clear_what_is_ignored(&served);
    served.goes_to("untouched", &first.0).await;
    let now = content(&served.root);
    assert_eq!(
        now.keys().collect::<Vec<_>>(),
        first.1.keys().collect::<Vec<_>>()
    );
    assert!(now == first.1);
    served.assert_sound();
}

async fn a_crate(test: &str, name: &str) {
    let Some(sources) = sources_of(test, name) else {
        return;
    };
    let repo = TestRepo::empty_at(name);
    let mut copy = repo.command("cp");
    run(copy.arg("-R").arg(sources.join(".")).arg(repo.root())).ok();
    // Cargo's own marks: not of the sources.
    for mark in [".cargo-ok", ".cargo_vcs_info.json"] {
        fs::remove_file(repo.path(mark)).ok();
    }
    repo.git(&["add", "-A"]);
    repo.git(&["commit", "-qm", "as it was published"]);
    goes_through_it(repo).await;
}

#[tokio::test]
async fn this_repository_is_as_git_has_it() {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
    let repo = TestRepo::empty_at("ours");
    fs::remove_dir_all(repo.root()).unwrap();
    let mut clone = repo.command("git");
    clone
        .current_dir(repo.around())
        .args(["clone", "-q", "--no-local"])
        .arg(ours)
        .arg("ours");
    if !run(&mut clone).status.success() {
        return skip("this_repository_is_as_git_has_it", "it is not in Git here");
    }
    repo.git(&["config", "user.name", "Ada"]);
    repo.git(&["config", "user.email", "ada@example.com"]);
    goes_through_it(repo).await;
}

/// A few very large files.
#[tokio::test]
async fn libsqlite3_sys_is_as_git_has_it() {
    a_crate("libsqlite3_sys_is_as_git_has_it", "libsqlite3-sys").await;
}

/// Many files in deep folders.
#[tokio::test]
async fn tokio_is_as_git_has_it() {
    a_crate("tokio_is_as_git_has_it", "tokio").await;
}

/// Executable scripts and fixtures.
#[tokio::test]
async fn gix_is_as_git_has_it() {
    a_crate("gix_is_as_git_has_it", "gix").await;
}

/// Files with CRLF, and empty ones in hundreds of folders.
#[tokio::test]
async fn vcpkg_is_as_git_has_it() {
    a_crate("vcpkg_is_as_git_has_it", "vcpkg").await;
}

/// Binary test data, and texts that are hard to tell from it.
#[tokio::test]
async fn bstr_is_as_git_has_it() {
    a_crate("bstr_is_as_git_has_it", "bstr").await;
}

/// Text in every encoding.
#[tokio::test]
async fn encoding_rs_is_as_git_has_it() {
    a_crate("encoding_rs_is_as_git_has_it", "encoding_rs").await;
}

/// A handful of files.
#[tokio::test]
async fn prost_types_is_as_git_has_it() {
    a_crate("prost_types_is_as_git_has_it", "prost-types").await;
}
