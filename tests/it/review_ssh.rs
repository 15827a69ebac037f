//! SSH signatures: whose are accepted, and how `ssh-keygen` may fail. And a foreign client's library.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use heddle_agent::failure::Reason;
use nix::{sys::stat::Mode, unistd::mkfifo};
use tonic::{Request, Status, transport::Channel};

use crate::{
    foreign::Python,
    harness::{Daemon, HEDDLE, TestRepo, run, skip},
    review::repo_head,
    rpc::{assert_blames, assert_refused, hook_names},
    signing::{Draft, Key, reviews, sign, signatures, ssh_sign},
    states::hex,
};

/// Signs as somebody.
async fn sign_as(channel: &Channel, state: &[u8], key: &Key, email: &str) -> Result<(), Status> {
    let mut request = Request::new(Draft::read(state).signed(key));
    let metadata = request.metadata_mut();
    metadata.insert("heddle-actor-email", email.parse().unwrap());
    reviews(channel).sign_state(request).await.map(drop)
}

#[tokio::test]
async fn an_ssh_key_must_be_one_that_the_allowed_signers_have_for_who_acts() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let state = repo_head(&repo);
    let (ada, bea) = (
        Key::ssh(&repo.around(), "ada"),
        Key::ssh(&repo.around(), "bea"),
    );
    let email = "ada@example.com";
    sign_as(&channel, &state, &bea, email).await.unwrap();

    let line = |key: &Key| String::from_utf8(key.public()).unwrap();
    let signers = repo.around().join("signers");
    fs::write(
        &signers,
        format!(
            "{email} {}bea@example.com namespaces=\"git\" {}",
            line(&ada),
            line(&bea)
        ),
    )
    .unwrap();
    // From here on it counts, without a restart.
    repo.git(&[
        "config",
        "gpg.ssh.allowedSignersFile",
        signers.to_str().unwrap(),
    ]);
    sign_as(&channel, &state, &ada, email).await.unwrap();
    // Another's key; one's own in another's name; one for another namespace.
    for (key, email) in [
        (&bea, email),
        (&ada, "bea@example.com"),
        (&bea, "bea@example.com"),
        (&ada, "*"),
    ] {
        let status = sign_as(&channel, &state, key, email).await.unwrap_err();
        assert_blames(&status, Reason::SignerNotAllowed, "public_key");
    }
    // Other algorithms have no such file.
    sign(&channel, Draft::read(&state).signed(&Key::ed25519()))
        .await
        .unwrap();

    let revoked = repo.around().join("revoked");
    fs::write(&revoked, line(&ada)).unwrap();
    repo.git(&[
        "config",
        "gpg.ssh.revocationFile",
        revoked.to_str().unwrap(),
    ]);
    let status = sign_as(&channel, &state, &ada, email).await.unwrap_err();
    assert_blames(&status, Reason::SignerNotAllowed, "public_key");
    fs::write(&revoked, line(&bea)).unwrap();
    sign_as(&channel, &state, &ada, email).await.unwrap();

    let fifo = repo.around().join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    for path in ["/nowhere", fifo.to_str().unwrap(), "~nobody-of-that-name/x"] {
        repo.git(&["config", "gpg.ssh.allowedSignersFile", path]);
        let status = sign_as(&channel, &state, &ada, email).await.unwrap_err();
        let reason = Reason::SignersUnreadable;
        assert_refused(&status, heddle_agent::grpc_local_impl::code(reason), reason);
    }
    assert_eq!(signatures(&channel, &state).await.len(), 4);
}

#[tokio::test]
async fn an_ssh_signature_for_something_else_is_refused() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let state = repo_head(&repo);
    let key = Key::ssh(&repo.around(), "ada");
    let Key::Ssh { private, line } = &key else {
        panic!("another key");
    };
    let draft = Draft::read(&state);
    let mut asked = draft.signed(&key);
    asked.signature = ssh_sign(private, "git", &draft.payload());
    let status = sign(&channel, asked.clone()).await.unwrap_err();
    assert_blames(&status, Reason::SignatureInvalid, "signature");
    asked.signature = draft.signed(&Key::ssh(&repo.around(), "bea")).signature;
    let status = sign(&channel, asked).await.unwrap_err();
    assert_blames(&status, Reason::SignatureInvalid, "signature");
    // Only one line, and nothing before the key.
    for line in [
        format!("{line}{line}"),
        format!("cert-authority {line}"),
        line.replace("ssh-ed25519 ", "ssh-rsa "),
        line.replace("ssh-ed25519 ", ""),
        "ssh-ed25519".to_owned(),
        String::new(),
    ] {
        let mut asked = draft.signed(&key);
        asked.public_key = line.clone().into_bytes();
        let status = sign(&channel, asked).await.unwrap_err();
        assert_blames(&status, Reason::KeyInvalid, "public_key");
    }
    assert_eq!(signatures(&channel, &state).await, []);
}

/// A daemon that finds only these programs.
fn serve_with_programs(repo: &TestRepo, programs: &Path) -> Daemon {
    let mut command = repo.command(HEDDLE);
    command.args(["agent", "serve"]).env("PATH", programs);
    let daemon = Daemon::spawn(command);
    daemon.wait_for_line("serving");
    daemon
}

pub fn program(folder: &Path, name: &str, script: &str) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test]
async fn g10_without_ssh_keygen_it_is_said_and_the_other_algorithms_go_on() {
    let repo = TestRepo::new();
    let programs = repo.around().join("programs");
    fs::create_dir(&programs).unwrap();
    let _daemon = serve_with_programs(&repo, &programs);
    let channel = repo.channel().await;
    let state = repo_head(&repo);
    let key = Key::ssh(&repo.around(), "ada");
    let reason = Reason::VerifierUnavailable;
    let code = heddle_agent::grpc_local_impl::code(reason);
    let status = sign(&channel, Draft::read(&state).signed(&key))
        .await
        .unwrap_err();
    assert_refused(&status, code, reason);
    program(&programs, "ssh-keygen", "echo out of order >&2; exit 255");
    let status = sign(&channel, Draft::read(&state).signed(&key))
        .await
        .unwrap_err();
    assert_refused(&status, code, reason);
    assert!(status.message().contains("out of order"), "{status:?}");
    sign(&channel, Draft::read(&state).signed(&Key::ed25519()))
        .await
        .unwrap();
}

#[tokio::test]
async fn g8_an_ssh_keygen_that_hangs_holds_up_no_other_call_and_is_ended() {
    let repo = TestRepo::new();
    let programs = repo.around().join("programs");
    let fifo = repo.around().join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    // It says that it has begun, and waits for what never comes.
    let script = format!(
        "echo >{}; while :; do /bin/sleep 1000; done",
        fifo.display()
    );
    program(&programs, "ssh-keygen", &script);
    let _daemon = serve_with_programs(&repo, &programs);
    let channel = repo.channel().await;
    let state = repo_head(&repo);
    let key = Key::ssh(&repo.around(), "ada");
    let asked = Draft::read(&state).signed(&key);
    let hung = tokio::spawn({
        let channel = channel.clone();
        async move { sign(&channel, asked).await }
    });
    tokio::task::spawn_blocking(move || fs::read(fifo).unwrap())
        .await
        .unwrap();
    for _ in 0..20 {
        sign(&channel, Draft::read(&state).signed(&Key::ed25519()))
            .await
            .unwrap();
        assert!(hook_names(&channel).await.is_empty());
    }
    assert!(!hung.is_finished());
    let status = hung.await.unwrap().unwrap_err();
    let reason = Reason::VerifierUnavailable;
    assert_refused(&status, heddle_agent::grpc_local_impl::code(reason), reason);
}

/// What the repository names is run by its user, and never by the daemon (G5).
#[tokio::test]
async fn g5_the_daemon_runs_no_program_that_the_repository_names() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let state = repo_head(&repo);
    let was_run = repo.around().join("was-run");
    let script = format!("touch {}; exit 0", was_run.display());
    let named = program(&repo.around().join("bad"), "keygen", &script);
    repo.git(&["config", "gpg.ssh.program", named.to_str().unwrap()]);
    let key = Key::ssh(&repo.around(), "ada");
    let mut asked = Draft::read(&state).signed(&key);
    asked.justification = "not signed".into();
    let status = sign(&channel, asked).await.unwrap_err();
    assert_blames(&status, Reason::SignatureInvalid, "signature");
    assert!(!was_run.exists());
}

#[test]
fn a_python_library_signs_what_the_daemon_verifies() {
    let test = "review_ssh::a_python_library_signs_what_the_daemon_verifies";
    let Some(python) = Python::find(test) else {
        return;
    };
    let mut imports: Command = python.command();
    if !run(imports.args(["-c", "import cryptography"]))
        .status
        .success()
    {
        skip(test, "Python cannot import cryptography");
        return;
    }
    let repo = TestRepo::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/review.py");
    let mut client = python.command();
    client
        .arg(script)
        .arg(repo.address())
        .arg(hex(&repo_head(&repo)));
    let said = run(&mut client).ok();
    assert_eq!(said, "verified 5, refused 5\n");
}
