//! SSH signatures: whose are accepted, how `ssh-keygen` may fail, and `heddle review` with the keys of
//! people. And a foreign client's library.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use heddle_agent::failure::Reason;
use nix::{sys::stat::Mode, unistd::mkfifo};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair},
};
use serde_json::Value;
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

fn program(folder: &Path, name: &str, script: &str) -> PathBuf {
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

fn review(repo: &TestRepo, args: &[&str]) -> Value {
    let args = ["review"].iter().chain(args).chain(&["--output", "json"]);
    repo.heddle(args).json()
}

fn listed(repo: &TestRepo, state: &str) -> Value {
    review(repo, &["signatures", state])
}

#[test]
fn people_sign_with_the_key_that_git_signs_with() {
    let repo = TestRepo::new();
    let head = hex(&repo_head(&repo));
    let none = repo.heddle(["review", "sign"]).fails_with(1);
    assert!(
        none.contains("gpg.format") && none.contains("--key"),
        "{none}"
    );
    repo.git(&["config", "gpg.format", "ssh"]);
    let none = repo.heddle(["review", "sign"]).fails_with(1);
    assert!(none.contains("user.signingKey"), "{none}");
    let none = repo.heddle(["review", "signatures"]).ok();
    assert!(none.starts_with("nobody has signed"), "{none}");

    let key = Key::ssh(&repo.around().join("home"), "id");
    repo.git(&["config", "user.signingKey", "~/id.pub"]);
    let signed = review(
        &repo,
        &[
            "sign",
            "-m",
            "read it all",
            "--symbol",
            "src/a.rs:Cache::get",
        ],
    );
    assert_eq!(signed["state_id"], head.as_str());
    let said = repo
        .heddle(["review", "sign", "HEAD", "--kind", "agent_co_review"])
        .ok();
    assert_eq!(said, format!("signed {} as agent_co_review\n", &head[..10]));
    review(&repo, &["verdict", "hold", "-m", "not yet"]);
    let checked = review(&repo, &["check", "README"]);
    assert_eq!(
        (&checked["check_ref"], &checked["acked"]),
        (&"README".into(), &true.into())
    );
    review(&repo, &["check", "novelty src/a.rs", "--signal"]);
    let said = repo
        .heddle(["review", "check", "README", "main", "--undo"])
        .ok();
    assert_eq!(said, format!("took back README in {}\n", &head[..10]));

    let all = listed(&repo, "main");
    assert_eq!(all["state_id"], head.as_str());
    let first = &all["signatures"][0];
    assert_eq!(first["signature_id"], signed["signature_id"]);
    assert_eq!(first["kind"], "read");
    assert_eq!(first["symbols"][0], "src/a.rs:Cache::get");
    assert_eq!(first["justification"], "read it all");
    assert_eq!(first["actor_email"], "ada@example.com");
    assert_eq!(all["signatures"][2]["verdict"], "hold");
    assert_eq!(all["checks"][0]["acked"], false);
    assert_eq!(all["checks"][1]["check_kind"], "risk_signal_ack");
    let text = repo.heddle(["review", "signatures"]).ok();
    for word in [
        "agent_co_review",
        "hold",
        "not yet",
        "of src/a.rs:Cache::get",
        "sshsig SHA256:",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    drop(key);

    let failed = repo
        .heddle(["review", "sign", "no-such-thing"])
        .fails_with(1);
    assert!(failed.contains("STATE_UNKNOWN"), "{failed}");
    let failed = repo
        .heddle(["review", "sign", "--key", "/nowhere/id"])
        .fails_with(1);
    assert!(failed.contains("did not sign"), "{failed}");
    let failed = repo
        .heddle(["review", "sign", "-m", &"x".repeat(70_000)])
        .fails_with(1);
    assert!(failed.contains("justification"), "{failed}");
}

#[test]
fn people_sign_with_a_key_of_the_agent_or_in_a_file_and_any_thread() {
    let repo = TestRepo::new();
    repo.git(&["config", "gpg.format", "ssh"]);
    let key = Key::ssh(&repo.around(), "id");
    let Key::Ssh { private, line } = &key else {
        panic!("another key");
    };
    repo.heddle(["thread", "start", "work"]).ok();
    let signed = review(&repo, &["sign", "work", "--key", private.to_str().unwrap()]);
    assert_eq!(signed["state_id"], hex(&repo_head(&repo)).as_str());

    let agent = repo.around().join("agent");
    let mut ssh_agent = repo.command("ssh-agent");
    let mut agent_runs = ssh_agent.args(["-D", "-a"]).arg(&agent).spawn().unwrap();
    crate::harness::eventually("the agent listens", || agent.exists().then_some(()));
    run(repo
        .command("ssh-add")
        .env("SSH_AUTH_SOCK", &agent)
        .arg(private))
    .ok();
    fs::remove_file(private).unwrap();
    for named in [
        format!("key::{}", line.trim()),
        line.trim().to_owned(),
        format!("{}.pub", private.display()),
    ] {
        repo.git(&["config", "user.signingKey", &named]);
        let mut heddle = repo.command(HEDDLE);
        heddle.args(["review", "sign"]).env("SSH_AUTH_SOCK", &agent);
        run(&mut heddle).ok();
    }
    // Whatever program signs for Git signs for us.
    let log = repo.around().join("log");
    let script = format!("echo \"$@\" >{}; exec ssh-keygen \"$@\"", log.display());
    let signs = program(&repo.around().join("bin"), "signs", &script);
    repo.git(&["config", "gpg.ssh.program", signs.to_str().unwrap()]);
    let mut heddle = repo.command(HEDDLE);
    heddle
        .args(["review", "verdict", "sign"])
        .env("SSH_AUTH_SOCK", &agent);
    run(&mut heddle).ok();
    assert!(
        fs::read_to_string(log)
            .unwrap()
            .starts_with("-Y sign -n heddle-review -f ")
    );
    agent_runs.kill().unwrap();
    agent_runs.wait().unwrap();
    let count = listed(&repo, "HEAD")["signatures"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(count, 5);
}

#[test]
fn people_sign_with_a_pkcs8_file_in_der_or_pem() {
    let repo = TestRepo::new();
    let random = SystemRandom::new();
    let ed25519 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
    let by = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let p256 = EcdsaKeyPair::generate_pkcs8(by, &random).unwrap();
    let write = |name: &str, content: &[u8]| {
        fs::write(repo.around().join(name), content).unwrap();
    };
    let pem = |der: &[u8]| {
        let encoded = BASE64_STANDARD.encode(der);
        format!("-----BEGIN PRIVATE KEY-----\n{encoded}\n-----END PRIVATE KEY-----\n")
    };
    write("ed25519.der", ed25519.as_ref());
    write("ed25519.pem", pem(ed25519.as_ref()).as_bytes());
    write("p256.der", p256.as_ref());
    write("p256.pem", pem(p256.as_ref()).as_bytes());
    Key::rsa(&repo.around(), 3072);
    for name in [
        "ed25519.der",
        "ed25519.pem",
        "p256.der",
        "p256.pem",
        "rsa3072",
    ] {
        let file = repo.around().join(name);
        let said = repo.heddle(["review", "sign", "--key", file.to_str().unwrap()]);
        assert!(said.ok().starts_with("signed "), "{name}");
    }
    let all = listed(&repo, "HEAD");
    let used = all["signatures"].as_array().unwrap().iter();
    let used: Vec<_> = used.map(|one| one["algorithm"].as_str().unwrap()).collect();
    assert_eq!(used, ["ed25519", "ed25519", "p256", "p256", "rsa"]);

    write("damaged.pem", pem(&ed25519.as_ref()[..40]).as_bytes());
    let file = repo.around().join("damaged.pem");
    let failed = repo.heddle(["review", "sign", "--key", file.to_str().unwrap()]);
    let failed = failed.fails_with(1);
    assert!(failed.contains("PKCS#8"), "{failed}");
}

#[test]
fn signing_in_a_transaction_of_the_command_line_is_buffered() {
    let repo = TestRepo::new();
    let key = Key::ssh(&repo.around(), "id");
    let Key::Ssh { private, .. } = &key else {
        panic!("another key");
    };
    let sign = format!("{HEDDLE} review sign HEAD --key {}", private.display());
    let mut failed = repo.command(HEDDLE);
    failed.args(["txn", "run", "--", "sh", "-c", &format!("{sign} && exit 3")]);
    run(&mut failed).fails_with(3);
    assert_eq!(listed(&repo, "HEAD")["signatures"], serde_json::json!([]));
    repo.heddle(["txn", "run", "--", "sh", "-c", &sign]).ok();
    assert_eq!(
        listed(&repo, "HEAD")["signatures"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
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
