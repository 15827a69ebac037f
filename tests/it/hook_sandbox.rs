//! G5: whoever is more confined than the daemon cannot register a command with it, and is told why.

use std::process::Command;

use heddle_agent::failure::Reason;
use tonic::Code;
use uuid::Uuid;

use crate::{
    harness::{Daemon, HEDDLE, Ran, TestRepo, channel_at, is_root, run, skip},
    rpc::{assert_refused, hook_names, hooks, keyed},
};

/// Registers a hook from inside of what `confine` makes; `None` where that cannot be made here.
fn register_from(repo: &TestRepo, confine: &[&str]) -> Option<Ran> {
    let (program, args) = confine.split_first().unwrap();
    let inside = |what: &[&str]| {
        let mut command: Command = repo.command(program);
        command.args(args).args(what);
        command
    };
    // Where even `true` cannot be confined so, there is nothing to see.
    let possible = inside(&["true"])
        .output()
        .is_ok_and(|ran| ran.status.success());
    let add = [
        HEDDLE,
        "hook",
        "add",
        "way-out",
        "touch /tmp/out",
        "--event",
        "pre_push",
    ];
    possible.then(|| run(&mut inside(&add)))
}

#[tokio::test]
async fn g5_a_confined_peer_cannot_register_a_command_and_is_told_why() {
    const TEST: &str = "g5_a_confined_peer_cannot_register_a_command_and_is_told_why";
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let user: &[&str] = &["unshare", "--user", "--map-current-user"];
    let cases: [(&[&str], &str); 8] = [
        (user, "user namespace"),
        (&["unshare", "--mount"], "mount namespace"),
        (&["unshare", "--pid", "--fork"], "pid namespace"),
        (&["unshare", "--net"], "network namespace"),
        (&["unshare", "--ipc"], "ipc namespace"),
        (&["unshare", "--cgroup"], "cgroup namespace"),
        (&["setpriv", "--no-new-privs"], "no_new_privs"),
        (
            &["setpriv", "--bounding-set", "-sys_admin"],
            "lacks capabilities",
        ),
    ];
    for (confine, why) in cases {
        let Some(ran) = register_from(&repo, confine) else {
            skip(
                TEST,
                &format!("`{}` cannot be done here", confine.join(" ")),
            );
            continue;
        };
        let said = ran.fails_with(1);
        assert!(said.contains("HOOK_FROM_SANDBOX"), "{confine:?}: {said}");
        assert!(said.contains(why), "{confine:?}: {said}");
    }
    let channel = repo.channel().await;
    assert!(hook_names(&channel).await.is_empty());
    // What is no command is open to it, and so is everything to who is not confined.
    let listed = register_list(&repo);
    listed.ok();
    repo.heddle(["hook", "add", "fine", "true"]).ok();
    assert_eq!(hook_names(&channel).await, ["fine"]);
}

fn register_list(repo: &TestRepo) -> Ran {
    run(repo
        .command("setpriv")
        .args(["--no-new-privs", HEDDLE, "hook", "list"]))
}

/// A filter that lets everything pass is a filter all the same.
const WITH_FILTER: &str = "
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
program = ctypes.create_string_buffer(struct.pack('HBBI', 0x06, 0, 0, 0x7fff0000))
fprog = ctypes.create_string_buffer(struct.pack('HxxxxxxP', 1, ctypes.addressof(program)))
libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
if os.geteuid() != 0 and libc.prctl(38, 1, 0, 0, 0):
    sys.exit(77)
if libc.prctl(22, 2, ctypes.addressof(fprog), 0, 0):
    sys.exit(77)
os.execvp(sys.argv[1], sys.argv[1:])
";

#[tokio::test]
async fn g5_a_peer_with_a_seccomp_filter_cannot_register_a_command() {
    const TEST: &str = "g5_a_peer_with_a_seccomp_filter_cannot_register_a_command";
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let filtered = register_from(&repo, &["python3", "-c", WITH_FILTER]);
    let Some(ran) = filtered else {
        return skip(TEST, "python3 cannot set a seccomp filter here");
    };
    let said = ran.fails_with(1);
    assert!(said.contains("HOOK_FROM_SANDBOX"), "{said}");
    let why = if is_root() {
        "seccomp filter"
    } else {
        "no_new_privs"
    };
    assert!(said.contains(why), "{said}");
}

#[tokio::test]
async fn a_daemon_inside_of_a_sandbox_serves_those_who_are_in_it_with_it() {
    const TEST: &str = "a_daemon_inside_of_a_sandbox_serves_those_who_are_in_it_with_it";
    let repo = TestRepo::new();
    let script =
        format!("{HEDDLE} hook add inside true && {HEDDLE} hook list && {HEDDLE} agent stop");
    let mut command = repo.command("setpriv");
    command.args(["--no-new-privs", "sh", "-c", &script]);
    let possible = repo
        .command("setpriv")
        .args(["--no-new-privs", "true"])
        .output();
    if !possible.is_ok_and(|ran| ran.status.success()) {
        return skip(TEST, "setpriv cannot be run here");
    }
    let said = run(&mut command).ok();
    assert!(said.contains("inside"), "{said}");
}

/// Passes bytes on between a socket of its own and another: to the daemon it is the caller.
const GO_BETWEEN: &str = "
import socket, sys, threading
def pass_on(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
    except OSError:
        pass
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print('listening', file=sys.stderr, flush=True)
near = listener.accept()[0]
far = socket.socket(socket.AF_UNIX)
far.connect(sys.argv[2])
threading.Thread(target=pass_on, args=(far, near), daemon=True).start()
pass_on(near, far)
";

#[tokio::test]
async fn g3_a_retry_from_a_sandbox_is_given_the_recorded_answer_and_registers_nothing() {
    const TEST: &str =
        "g3_a_retry_from_a_sandbox_is_given_the_recorded_answer_and_registers_nothing";
    let repo = TestRepo::new();
    let confine = ["--no-new-privs", "python3", "-c"];
    let possible = repo.command("setpriv").args(confine).arg("").output();
    if !possible.is_ok_and(|ran| ran.status.success()) {
        return skip(TEST, "setpriv or python3 cannot be run here");
    }
    let _daemon = repo.serve();
    let outside = repo.channel().await;
    let request = keyed("one", &Uuid::new_v4().to_string());
    let first = hooks(&outside).register_hook(request.clone()).await;
    let first = first.unwrap().into_inner();

    let near = repo.around().join("near");
    let mut command = repo.command("setpriv");
    command
        .args(confine)
        .arg(GO_BETWEEN)
        .args([&near, &repo.socket()]);
    let between = Daemon::spawn(command);
    between.wait_for_line("listening");
    let inside = channel_at(&near).await.unwrap();
    let again = hooks(&inside).register_hook(request.clone()).await;
    assert_eq!(again.unwrap().into_inner(), first);
    // Neither a key of its own nor that key for something else opens a way out.
    let other = keyed("way-out", &Uuid::new_v4().to_string());
    let refused = hooks(&inside).register_hook(other).await.unwrap_err();
    assert_refused(&refused, Code::PermissionDenied, Reason::HookFromSandbox);
    let reused = keyed("way-out", &request.client_operation_id);
    let refused = hooks(&inside).register_hook(reused).await.unwrap_err();
    assert_refused(
        &refused,
        Code::FailedPrecondition,
        Reason::OperationIdReused,
    );
    assert_eq!(hook_names(&outside).await, ["one"]);
}
