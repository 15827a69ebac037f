//! Nobody else (G5): the kernel says whose process is at the other end, and only our own user's is
//! served, or believed. The other user is a real one, made for the test and removed after it.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{
    fault::peer_program,
    harness::{Daemon, TestRepo, is_root, run, skip},
};

/// Another user of this machine.
struct Stranger {
    name: String,
    uid: u32,
    gid: u32,
}

impl Stranger {
    /// Makes an account; `None`, and said so, where that cannot be.
    fn new(test: &str) -> Option<Self> {
        if !is_root() || !cfg!(target_os = "linux") {
            skip(test, "only root on Linux may make another user");
            return None;
        }
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("hdl{}x{number}", std::process::id());
        // Another test, or another run, may have the list of users locked.
        for _ in 0..200 {
            let made = Command::new("useradd")
                .args([
                    "--system",
                    "--no-create-home",
                    "--shell",
                    "/bin/false",
                    &name,
                ])
                .output();
            match made {
                Err(error) => {
                    skip(test, &format!("no useradd: {error}"));
                    return None;
                }
                Ok(output) if output.status.success() => {
                    let id = |flag| run(Command::new("id").arg(flag).arg(&name)).ok();
                    let (uid, gid) = (id("-u"), id("-g"));
                    return Some(Self {
                        uid: uid.trim().parse().unwrap(),
                        gid: gid.trim().parse().unwrap(),
                        name,
                    });
                }
                Ok(_) => std::thread::sleep(std::time::Duration::from_millis(50)),
            }
        }
        panic!("useradd {name} does not succeed");
    }

    /// A command that runs as this user, in `folder`.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .current_dir("/")
            .uid(self.uid)
            .gid(self.gid);
        command
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        for _ in 0..200 {
            let removed = Command::new("userdel").arg(&self.name).output();
            if removed.is_ok_and(|output| output.status.success()) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        eprintln!("the user {} could not be removed", self.name);
    }
}

/// Ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Opens every door of the file system that leads to the socket, for everybody.
fn open_doors(repo: &TestRepo) {
    let around = repo.around();
    for folder in repo.socket().ancestors().skip(1) {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
        if folder == around {
            break;
        }
    }
    if repo.socket().exists() {
        fs::set_permissions(repo.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    }
}

/// The program of another user, where that user can run it.
fn program_beside(repo: &TestRepo, test: &str) -> Option<PathBuf> {
    match peer_program() {
        Ok(built) => {
            let program = repo.around().join("peer");
            fs::copy(built, &program).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            Some(program)
        }
        Err(why) => {
            skip(test, why);
            None
        }
    }
}

#[test]
fn g5_another_user_is_closed_before_a_byte_and_logged_although_the_modes_let_him_in() {
    let test = "g5_another_user_is_closed_before_a_byte";
    let Some(stranger) = Stranger::new(test) else {
        return;
    };
    let repo = TestRepo::new();
    let Some(program) = program_beside(&repo, test) else {
        return;
    };
    let daemon: Daemon = repo.serve();
    open_doors(&repo);

    let mut command = stranger.command(&program);
    let said = run(command.arg("client").arg(repo.socket())).ok();
    let (pid, bytes) = said.trim().split_once(' ').unwrap();
    assert_eq!(bytes, "0", "it was answered");
    let line = daemon.wait_for_line("refused another user's process");
    assert!(line.contains("WARN"), "{line}");
    assert!(line.contains(&format!("uid={}", stranger.uid)), "{line}");
    assert!(
        line.contains(&format!("pid={pid}")) || line.contains(&format!("pid=Some({pid})")),
        "{line}"
    );

    // The owner is served as before, and would have been answered with the same words.
    repo.heddle(["hook", "list"]).ok();
    let said = run(Command::new(&program)
        .arg("client")
        .arg(repo.socket())
        .env_clear())
    .ok();
    assert_ne!(
        said.trim().split_once(' ').unwrap().1,
        "0",
        "the check proves nothing"
    );
}

#[test]
fn g5_a_server_of_another_user_is_told_nothing_and_not_believed() {
    let test = "g5_a_server_of_another_user";
    let Some(stranger) = Stranger::new(test) else {
        return;
    };
    let repo = TestRepo::new();
    let Some(program) = program_beside(&repo, test) else {
        return;
    };
    repo.heddle(["init"]).ok();
    open_doors(&repo);
    let mut command = stranger.command(&program);
    command
        .arg("server")
        .arg(repo.socket())
        .stdout(Stdio::piped());
    let mut server = Program(command.spawn().unwrap());
    let mut lines = BufReader::new(server.0.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "listening");

    // Not a daemon of ours, so none is running.
    repo.heddle(["agent", "status"]).fails_with(3);
    assert_eq!(lines.next().unwrap().unwrap(), "0", "it was told something");

    // A client starts a daemon of its own, in the place of that socket.
    repo.heddle(["hook", "add", "lint", "true"]).ok();
    assert_eq!(lines.next().unwrap().unwrap(), "0", "it was told something");
    let status = repo.heddle(["agent", "status", "--output", "json"]).json();
    assert_eq!(status["state"], "serving");
    assert_eq!(status["pid"], repo.holder().unwrap());
    repo.heddle(["agent", "stop"]).ok();
}
