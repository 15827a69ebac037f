//! Where things live: worktrees, bare repositories, submodules, awkward and deep paths, addresses;
//! and what is refused, with the reason.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::Command,
};

use heddle_agent::local_daemon::activation::SUN_PATH_MAX;
use serde_json::Value;

use crate::harness::{Daemon, HEDDLE, Ran, TestRepo, is_root, run, skip};

/// A user who is nobody's account here.
const STRANGER: u32 = 54_321;

// ---- one daemon for all that belongs together ----

#[test]
fn every_path_inside_a_repository_reaches_its_one_daemon() {
    let repo = TestRepo::new();
    let deep = repo.path("src/deep");
    fs::create_dir_all(&deep).unwrap();
    let mut daemon = serve_at(&repo, &deep);
    assert!(repo.socket().exists() && !deep.join(".heddle").exists());

    let link = repo.around().join("link");
    symlink(repo.root(), &link).unwrap();
    for path in [
        repo.root(),
        &deep,
        &link,
        &link.join("src"),
        &repo.path(".git"),
    ] {
        let status = heddle_at(&repo, path, &["agent", "status", "--output", "json"]).json();
        assert_eq!(status["pid"], daemon.pid(), "from {}", path.display());
        assert_eq!(status["repository"], repo.root().to_str().unwrap());
    }
    let status = repo.heddle([
        "--repo".as_ref(),
        deep.as_os_str(),
        "agent".as_ref(),
        "status".as_ref(),
    ]);
    status.ok();
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn a_linked_worktree_has_a_link_to_the_one_socket() {
    let repo = TestRepo::new();
    let linked = repo.around().join("linked");
    repo.git(&["worktree", "add", "-q", linked.to_str().unwrap()]);
    let mut daemon = serve_at(&repo, &linked);

    let status = heddle_at(&repo, &linked, &["agent", "status", "--output", "json"]).json();
    assert_eq!(status["pid"], daemon.pid());
    assert_eq!(status["repository"], repo.root().to_str().unwrap());
    for (name, target) in [("grpc.sock", repo.socket()), ("grpc.pid", repo.pidfile())] {
        let link = linked.join(".heddle/sockets").join(name);
        assert_eq!(fs::read_link(link).unwrap(), target);
    }
    assert_eq!(address(&repo, &linked), address(&repo, repo.root()));
    for worktree in [repo.root(), &linked] {
        let mut git = repo.command("git");
        git.current_dir(worktree).args(["status", "--porcelain"]);
        assert_eq!(run(&mut git).ok(), "");
    }

    // One that is added under a running daemon is served too, and prepared when asked for.
    let later = repo.around().join("later");
    repo.git(&["worktree", "add", "-q", later.to_str().unwrap()]);
    let status = heddle_at(&repo, &later, &["agent", "status", "--output", "json"]).json();
    assert_eq!(status["pid"], daemon.pid());
    heddle_at(&repo, &later, &["init"]).ok();
    assert_eq!(
        fs::read_link(later.join(".heddle/sockets/grpc.sock")).unwrap(),
        repo.socket()
    );
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn a_linked_worktree_whose_heddle_folder_is_foreign_is_refused_and_the_others_are_served() {
    let repo = TestRepo::new();
    let linked = repo.around().join("linked");
    repo.git(&["worktree", "add", "-q", linked.to_str().unwrap()]);
    fs::write(linked.join(".heddle"), "mine").unwrap();
    let why = heddle_at(&repo, &linked, &["init"]).fails_with(1);
    assert!(why.contains("is not a folder"), "{why}");
    repo.serve();
    assert_eq!(fs::read_to_string(linked.join(".heddle")).unwrap(), "mine");
}

#[test]
fn a_bare_repository_and_its_worktrees_have_one_daemon() {
    let repo = TestRepo::new();
    let bare = repo.around().join("bare.git");
    repo.git(&["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    let mut daemon = serve_at(&repo, &bare);
    assert!(bare.join(".heddle/sockets/grpc.sock").exists());
    assert!(bare.join("heddle/heddle.db").exists());
    let exclude = fs::read_to_string(bare.join("info/exclude")).unwrap_or_default();
    assert!(!exclude.contains("heddle"), "{exclude}");

    let linked = repo.around().join("of-bare");
    let mut git = repo.command("git");
    git.current_dir(&bare)
        .args(["worktree", "add", "-q"])
        .arg(&linked);
    run(&mut git).ok();
    for path in [&bare, &bare.join("objects"), &linked] {
        let status = heddle_at(&repo, path, &["agent", "status", "--output", "json"]).json();
        assert_eq!(status["pid"], daemon.pid(), "from {}", path.display());
        assert_eq!(status["repository"], bare.to_str().unwrap());
    }
    heddle_at(&repo, &linked, &["init"]).ok();
    let mut git = repo.command("git");
    git.current_dir(&linked).args(["status", "--porcelain"]);
    assert_eq!(run(&mut git).ok(), "");
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn a_submodule_has_a_daemon_of_its_own() {
    let (repo, library) = (TestRepo::new(), TestRepo::new());
    repo.git(&[
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        library.root().to_str().unwrap(),
        "sub",
    ]);
    repo.git(&["commit", "-qm", "with a submodule"]);
    let sub = repo.path("sub");
    let outer = repo.serve();
    let mut inner = serve_at(&repo, &sub);
    let status = heddle_at(&repo, &sub, &["agent", "status", "--output", "json"]).json();
    assert_eq!(status["pid"], inner.pid());
    assert_eq!(status["repository"], sub.to_str().unwrap());
    assert!(repo.path(".git/modules/sub/heddle/heddle.db").exists());
    assert_ne!(inner.pid(), outer.pid());
    assert_eq!(repo.git(&["status", "--porcelain"]), "");
    assert_eq!(inner.stop().code(), Some(0));
}

// ---- awkward and deep paths ----

#[test]
fn awkward_paths_work_and_their_address_is_percent_encoded() {
    let names = [
        OsStr::new("with space"),
        OsStr::new("Weberschiffchen-ü"),
        OsStr::new("100%41'\"$(x)`*?"),
        OsStr::new("-rf"),
        OsStr::from_bytes(b"not-utf8-\xff\xfe"),
    ];
    for name in names {
        let repo = TestRepo::at(name);
        let started = repo.heddle(["agent", "address", "--start"]).ok();
        let socket = repo.socket().canonicalize().unwrap();
        assert_eq!(
            path_of(&started).canonicalize().unwrap(),
            socket,
            "{started}"
        );
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/%@".contains(c);
        let path = started.trim().strip_prefix("unix:").unwrap();
        assert!(path.chars().all(plain), "{path}");

        repo.heddle(["hook", "add", "lint", "true", "--event", "pre_capture"])
            .ok();
        let mut by_option = repo.command(HEDDLE);
        by_option
            .current_dir("/")
            .args(["hook", "list", "--repo"])
            .arg(repo.root());
        assert!(run(&mut by_option).ok().contains("lint"));
        repo.heddle(["agent", "stop"]).ok();
        assert_eq!(repo.git(&["status", "--porcelain"]), "");
    }
}

#[test]
fn a_deep_repository_has_a_short_socket_with_a_link_at_the_usual_place() {
    let repo = deep_repo();
    let before = repo.heddle(["agent", "address"]).ok();
    let mut daemon = repo.serve();
    let bound = fs::read_link(repo.socket()).unwrap();
    assert_eq!(
        bound.parent().unwrap(),
        repo.around().join("run/heddle"),
        "under the runtime folder"
    );
    let after = repo.heddle(["agent", "address"]).ok();
    assert_eq!(before, after);
    assert_eq!(path_of(&after).canonicalize().unwrap(), bound);
    assert!(path_of(&after).as_os_str().len() <= SUN_PATH_MAX);
    assert!(bound.as_os_str().len() <= SUN_PATH_MAX);
    assert!(
        fs::symlink_metadata(&bound)
            .unwrap()
            .file_type()
            .is_socket()
    );
    assert_eq!(mode(bound.parent().unwrap()), 0o700);
    assert_eq!(mode(&bound), 0o600);

    let status = repo.heddle(["agent", "status", "--output", "json"]).json();
    assert_eq!(status["pid"], daemon.pid());
    assert_eq!(status["listener"]["path"], bound.to_str().unwrap());
    repo.heddle(["agent", "serve"]).fails_with(4);
    repo.heddle(["agent", "stop"]).ok();
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(!bound.exists() && repo.socket().symlink_metadata().is_err());
    // And a client starts it there by itself.
    repo.heddle(["hook", "list"]).ok();
}

#[test]
fn at_the_length_limit_the_socket_lies_in_the_repository() {
    for (spare, direct) in [(0, true), (1, false)] {
        let probe = TestRepo::new();
        let fixed = probe.socket().as_os_str().len() - "repo".len();
        let repo = TestRepo::at("r".repeat(SUN_PATH_MAX - fixed + spare));
        assert_eq!(repo.socket().as_os_str().len(), SUN_PATH_MAX + spare);
        let _daemon = repo.serve();
        let found = fs::symlink_metadata(repo.socket()).unwrap().file_type();
        assert_eq!(found.is_socket(), direct);
        assert_eq!(found.is_symlink(), !direct);
        repo.heddle(["agent", "status"]).ok();
    }
}

#[test]
fn without_a_runtime_folder_the_socket_lies_in_a_private_temporary_one() {
    let repo = deep_repo();
    let temporary = repo.around().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let uid = nix::unistd::Uid::effective();
    let private = temporary.join(format!("heddle-{uid}"));
    let serve = |runtime: Option<&Path>| {
        let mut command = repo.command(HEDDLE);
        command
            .args(["agent", "serve"])
            .env("TMPDIR", &temporary)
            .env_remove("XDG_RUNTIME_DIR");
        if let Some(runtime) = runtime {
            command.env("XDG_RUNTIME_DIR", runtime);
        }
        command
    };
    // A runtime folder that others may enter is none.
    let open = repo.around().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
    for runtime in [None, Some(open.as_path())] {
        let mut daemon = Daemon::spawn(serve(runtime));
        daemon.wait_for_line("serving");
        let bound = fs::read_link(repo.socket()).unwrap();
        assert_eq!(bound.parent().unwrap(), private);
        assert_eq!(mode(&private), 0o700);
        assert_eq!(daemon.stop().code(), Some(0));
    }
    // Nor is a temporary one that somebody else could have made.
    fs::set_permissions(&private, fs::Permissions::from_mode(0o777)).unwrap();
    let why = run(&mut serve(None)).fails_with(1);
    assert!(why.contains("set XDG_RUNTIME_DIR"), "{why}");
    fs::remove_dir(&private).unwrap();
    symlink(repo.around().join("run"), &private).unwrap();
    run(&mut serve(None)).fails_with(1);
}

#[test]
fn g2_a_deep_daemon_is_reachable_again_after_git_clean() {
    let repo = deep_repo();
    let daemon = repo.serve();
    for _ in 0..3 {
        repo.git(&["clean", "-fdxq"]);
        crate::harness::eventually("the pidfile is written again", || {
            repo.pidfile().exists().then_some(())
        });
        let status = repo.heddle(["agent", "status", "--output", "json"]).json();
        assert_eq!(status["pid"], daemon.pid());
    }
}

/// A repository whose usual socket path no socket can have.
fn deep_repo() -> TestRepo {
    let deep: PathBuf = (0..8)
        .map(|n| format!("a-rather-deep-folder-{n}"))
        .collect();
    let repo = TestRepo::at(deep);
    assert!(repo.socket().as_os_str().len() > SUN_PATH_MAX);
    repo
}

// ---- --socket ----

#[test]
fn a_socket_elsewhere_is_found_through_a_link_at_the_usual_place() {
    let repo = TestRepo::new();
    let socket = repo.around().join("else where.sock");
    let mut daemon = repo.serve_with(&["--socket", socket.to_str().unwrap()]);
    assert_eq!(fs::read_link(repo.socket()).unwrap(), socket);
    assert_eq!(mode(&socket), 0o600);
    let address = address(&repo, repo.root());
    assert_eq!(path_of(&address).canonicalize().unwrap(), socket);
    assert_eq!(
        repo.heddle(["agent", "status", "--output", "json"]).json()["pid"],
        daemon.pid()
    );
    assert_eq!(daemon.stop().code(), Some(0));
    assert!(!socket.exists() && repo.socket().symlink_metadata().is_err());

    // A relative one is taken from where the command runs.
    let mut daemon = repo.serve_with(&["--socket", "../relative.sock"]);
    repo.heddle(["agent", "status"]).ok();
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn g6_a_socket_path_that_is_taken_is_refused_and_left_as_it_was() {
    let repo = TestRepo::new();
    let file = repo.around().join("precious.txt");
    fs::write(&file, "precious").unwrap();
    let link = repo.around().join("link");
    symlink(&file, &link).unwrap();
    let foreign = repo.around().join("foreign.sock");
    let listener = UnixListener::bind(&foreign).unwrap();
    let inode = fs::metadata(&foreign).unwrap().ino();

    for path in [&file, &link, &foreign, &repo.around().join("home")] {
        let why = repo
            .heddle([
                "agent".as_ref(),
                "serve".as_ref(),
                "--socket".as_ref(),
                path.as_os_str(),
            ])
            .fails_with(1);
        assert!(why.contains("name another --socket"), "{why}");
        assert!(why.contains(path.to_str().unwrap()), "{why}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    assert_eq!(fs::read_link(&link).unwrap(), file);
    assert_eq!(fs::metadata(&foreign).unwrap().ino(), inode);
    drop(listener);

    // A socket that nobody listens at any more is a leftover.
    let path = foreign.to_str().unwrap();
    repo.serve_with(&["--socket", path]);
}

#[test]
fn what_a_crash_left_behind_does_not_hinder_the_next_daemon() {
    let repo = TestRepo::new();
    for _ in 0..2 {
        let mut daemon = repo.serve();
        daemon.crash();
        assert!(repo.socket().exists() && repo.pidfile().exists());
        fs::write(repo.path(".heddle/sockets/.grpc.new"), "half made").unwrap();
        assert_eq!(repo.heddle(["agent", "status"]).status.code(), Some(3));
    }
    repo.heddle(["hook", "list"]).ok();
}

// ---- what is refused, with the reason ----

#[test]
fn what_is_no_repository_is_refused_and_nothing_is_made() {
    let repo = TestRepo::new();
    let folder = repo.around().join("home");
    for args in [&["init"][..], &["agent", "serve"], &["hook", "list"]] {
        let why = heddle_at(&repo, &folder, args).fails_with(1);
        assert!(
            why.contains("is not inside a Git repository") && why.contains("git init"),
            "{why}"
        );
        assert!(why.contains(folder.to_str().unwrap()), "{why}");
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    let why = repo.heddle(["hook", "list", "--repo", "/no/such/place"]);
    let why = why.fails_with(1);
    assert!(why.contains("/no/such/place"), "{why}");
}

#[test]
fn a_heddle_folder_that_git_tracks_is_refused() {
    let repo = TestRepo::new();
    fs::create_dir(repo.path(".heddle")).unwrap();
    fs::write(repo.path(".heddle/config"), "evil").unwrap();
    repo.git(&["add", "-f", ".heddle/config"]);
    repo.git(&["commit", "-qm", "a gift"]);
    refused(&repo, "is tracked by Git");

    // That is what a clone would bring.
    let clone = repo.around().join("clone");
    repo.git(&["clone", "-q", ".", clone.to_str().unwrap()]);
    let why = heddle_at(&repo, &clone, &["hook", "list"]).fails_with(1);
    assert!(why.contains("is tracked by Git"), "{why}");
    assert!(!clone.join(".heddle/sockets").exists());

    repo.git(&["rm", "-rq", "--cached", ".heddle"]);
    repo.heddle(["init"]).ok();
}

#[test]
fn a_heddle_folder_that_is_a_link_or_a_file_is_refused_and_left_as_it_was() {
    let repo = TestRepo::new();
    let elsewhere = repo.around().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    for heddle in [repo.store_dir(), repo.path(".heddle")] {
        symlink(&elsewhere, &heddle).unwrap();
        refused(&repo, "is a symbolic link");
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
        fs::remove_file(&heddle).unwrap();

        fs::write(&heddle, "mine").unwrap();
        refused(&repo, "is not a folder");
        assert_eq!(fs::read_to_string(&heddle).unwrap(), "mine");
        fs::remove_file(&heddle).unwrap();
    }
    fs::create_dir_all(repo.path(".heddle")).unwrap();
    symlink(&elsewhere, repo.path(".heddle/sockets")).unwrap();
    refused(&repo, "is a symbolic link");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[test]
fn a_heddle_folder_of_another_user_is_refused() {
    if !is_root() {
        return skip(
            "a_heddle_folder_of_another_user_is_refused",
            "chown needs root",
        );
    }
    for folder in [".heddle", ".heddle/sockets", ".git/heddle"] {
        let repo = TestRepo::new();
        repo.heddle(["init"]).ok();
        std::os::unix::fs::chown(repo.path(folder), Some(STRANGER), None).unwrap();
        refused(&repo, "belongs to another user");
    }
}

#[test]
fn a_repository_of_another_user_is_refused_until_git_trusts_it() {
    if !is_root() {
        return skip(
            "a_repository_of_another_user_is_refused_until_git_trusts_it",
            "chown needs root",
        );
    }
    let repo = TestRepo::new();
    let chown = |path: &Path| std::os::unix::fs::chown(path, Some(STRANGER), None).unwrap();
    chown(repo.root());
    chown(&repo.path(".git"));
    let git = run(repo.command("git").arg("status"));
    assert!(git.stderr.contains("dubious ownership"), "{git:?}");
    let why = repo.heddle(["hook", "list"]).fails_with(1);
    assert!(
        why.contains("safe.directory") && why.contains(repo.root().to_str().unwrap()),
        "{why}"
    );
    assert!(!repo.path(".heddle").exists() && !repo.store_dir().exists());

    let trust = ["config", "--global", "--add", "safe.directory"];
    let mut git = repo.command("git");
    git.current_dir("/").args(trust).arg(repo.root());
    run(&mut git).ok();
    repo.git(&["status"]);
    repo.heddle(["hook", "list"]).ok();
}

#[track_caller]
fn refused(repo: &TestRepo, reason: &str) {
    for args in [&["init"][..], &["agent", "serve"], &["hook", "list"]] {
        let why = repo.heddle(args).fails_with(1);
        assert!(why.contains(reason), "{args:?}: {why}");
    }
}

// ---- what is made ----

#[test]
fn g9_the_exclude_line_is_added_once_and_the_other_lines_stay() {
    let repo = TestRepo::new();
    let exclude = repo.path(".git/info/exclude");
    for present in [Some("*.o\n# mine"), Some("*.o\n"), Some(""), None] {
        match present {
            Some(text) => fs::write(&exclude, text).unwrap(),
            None => fs::remove_dir_all(repo.path(".git/info")).unwrap(),
        }
        if present.is_some() {
            fs::set_permissions(&exclude, fs::Permissions::from_mode(0o640)).unwrap();
        }
        for _ in 0..3 {
            repo.heddle(["init"]).ok();
        }
        let lines = fs::read_to_string(&exclude).unwrap();
        let mut expected = present.unwrap_or_default().to_owned();
        if !expected.is_empty() && !expected.ends_with('\n') {
            expected.push('\n');
        }
        assert_eq!(lines, format!("{expected}/.heddle/\n"));
        if present.is_some() {
            assert_eq!(mode(&exclude), 0o640);
        }
        assert_eq!(repo.git(&["status", "--porcelain"]), "");
    }
}

#[test]
fn g5_everything_is_private_whatever_the_umask() {
    let repo = TestRepo::new();
    for umask in ["000", "022"] {
        let mut command = repo.command("sh");
        command.args([
            "-c",
            &format!("umask {umask}; exec \"$0\" hook add lint true --event pre_capture"),
            HEDDLE,
        ]);
        run(&mut command).ok();
        let mut seen = 0;
        for folder in [repo.path(".heddle"), repo.store_dir()] {
            seen += assert_private(&folder);
        }
        // Both folders, the sockets' folder, socket, pidfile, log, lock, database, its two logs.
        assert!(seen >= 10, "only {seen} files");
        repo.heddle(["agent", "stop"]).ok();
        fs::remove_dir_all(repo.path(".heddle")).unwrap();
        fs::remove_dir_all(repo.store_dir()).unwrap();
    }
    // Folders that others could enter are closed again.
    repo.heddle(["init"]).ok();
    for folder in [".heddle", ".heddle/sockets", ".git/heddle"] {
        fs::set_permissions(repo.path(folder), fs::Permissions::from_mode(0o755)).unwrap();
    }
    repo.heddle(["init"]).ok();
    for folder in [".heddle", ".heddle/sockets", ".git/heddle"] {
        assert_eq!(mode(&repo.path(folder)), 0o700, "{folder}");
    }
}

/// Checks a folder and what is in it; answers how many files that were.
fn assert_private(path: &Path) -> usize {
    let found = fs::symlink_metadata(path).unwrap();
    if found.is_symlink() {
        // A link has no mode of its own (symlink(7)).
        return 1;
    }
    let expected = if found.is_dir() { 0o700 } else { 0o600 };
    assert_eq!(mode(path), expected, "{}", path.display());
    if !found.is_dir() {
        return 1;
    }
    let below = fs::read_dir(path).unwrap();
    1 + below
        .map(|entry| assert_private(&entry.unwrap().path()))
        .sum::<usize>()
}

#[test]
fn init_prepares_a_repository_once_from_wherever_it_is_asked() {
    let repo = TestRepo::new();
    fs::create_dir_all(repo.path("a/b")).unwrap();
    let first = heddle_at(&repo, &repo.path("a/b"), &["init", "--output", "json"]).json();
    assert_eq!(first["created"], true);
    assert_eq!(first["repository"], repo.root().to_str().unwrap());
    assert_eq!(first["heddle_dir"], repo.path(".heddle").to_str().unwrap());
    assert_eq!(first["store_dir"], repo.store_dir().to_str().unwrap());
    assert!(repo.path(".heddle").is_dir() && repo.store_dir().is_dir());
    assert!(!repo.path("a/b/.heddle").exists());

    let again = repo.heddle(["init", "--output", "json"]).json();
    assert_eq!(again["created"], false);
    assert!(repo.heddle(["init"]).ok().contains("prepared already"));
    assert!(repo.holder().is_none(), "it starts no daemon");

    // With a path, from somewhere else altogether.
    let other = TestRepo::empty_at("other");
    let mut command: Command = repo.command(HEDDLE);
    command.arg("init").arg(other.root());
    let said: Ran = run(&mut command);
    assert!(said.ok().contains(other.root().to_str().unwrap()));
    assert!(other.path(".heddle").is_dir() && other.store_dir().is_dir());
    assert_eq!(other.git(&["status", "--porcelain"]), "");
}

// ---- what these tests share ----

/// Runs heddle in a folder that need not be the repository's root.
fn heddle_at(repo: &TestRepo, folder: &Path, args: &[&str]) -> Ran {
    run(repo.command(HEDDLE).current_dir(folder).args(args))
}

/// Starts a daemon from a folder that need not be the repository's root.
fn serve_at(repo: &TestRepo, folder: &Path) -> Daemon {
    let mut command = repo.command(HEDDLE);
    command.current_dir(folder).args(["agent", "serve"]);
    let daemon = Daemon::spawn(command);
    daemon.wait_for_line("serving");
    daemon
}

fn address(repo: &TestRepo, folder: &Path) -> String {
    let printed: Value = heddle_at(repo, folder, &["agent", "address", "--output", "json"]).json();
    printed["address"].as_str().unwrap().to_owned()
}

/// The path in a `unix:` address, as a client reads it (gRPC's naming document).
fn path_of(address: &str) -> PathBuf {
    let text = address.trim().strip_prefix("unix:").unwrap();
    let mut bytes = text.bytes();
    let mut path = Vec::new();
    while let Some(byte) = bytes.next() {
        path.push(match byte {
            b'%' => {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            other => other,
        });
    }
    PathBuf::from(OsStr::from_bytes(&path))
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o777
}
