//! `heddle review`: people sign with the key that Git signs with, with one that the agent has, or with
//! one in a file, and see what was signed.

use std::{fs, process::Stdio};

use base64::{Engine, prelude::BASE64_STANDARD};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair},
};
use serde_json::Value;

use crate::{
    harness::{HEDDLE, TestRepo, eventually, run},
    left_out::{commit, write},
    review::repo_head,
    review_ssh::program,
    signing::Key,
    states::hex,
};

fn review(repo: &TestRepo, args: &[&str]) -> Value {
    let args = ["review"].iter().chain(args).chain(&["--output", "json"]);
    repo.heddle(args).json()
}

fn listed(repo: &TestRepo, state: &str) -> Value {
    review(repo, &["signatures", state])
}

/// A repository whose newest commit has `Cache::get` in `src/a.rs`, and no `Cache::put` any more.
fn with_cache() -> TestRepo {
    let repo = TestRepo::new();
    write(&repo, "src/a.rs", "impl Cache {\n    fn put(self) {}\n}\n");
    commit(&repo);
    write(&repo, "src/a.rs", "impl Cache {\n    fn get(self) {}\n}\n");
    commit(&repo);
    repo
}

#[test]
fn what_is_signed_for_is_there_or_changed() {
    let repo = with_cache();
    let key = Key::ssh(&repo.around().join("home"), "id");
    let Key::Ssh { private, .. } = &key else {
        unreachable!()
    };
    let review = |args: &[&str]| {
        let args = ["review"].iter().chain(args).copied();
        let private = private.to_str().unwrap();
        repo.heddle(args.chain(["--key", private]))
    };
    let slip = review(&["sign", "--symbol", "src/b.rs:Cache::get"]).fails_with(1);
    assert!(slip.contains("there is no file `src/b.rs`"), "{slip}");
    let slip = review(&["verdict", "hold", "--symbol", "src/a.rs:got"]).fails_with(1);
    assert!(
        slip.contains("has no symbol `got`; it has `Cache::get`"),
        "{slip}"
    );
    let slip = review(&["check", "src/b.rs"]).fails_with(1);
    assert!(slip.contains("there is no file `src/b.rs`"), "{slip}");
    assert_eq!(listed(&repo, "HEAD")["signatures"], serde_json::json!([]));
    // What the change takes away is part of it, and what is ticked off can be taken back in any case.
    review(&["sign", "--symbol", "src/a.rs:Cache::put"]).ok();
    review(&["check", "src/b.rs", "--undo"]).ok();
    review(&["check", "src/a.rs"]).ok();
    // Whatever changed can be looked at, and is asked for by `every file reviewed`.
    std::os::unix::fs::symlink("src/a.rs", repo.path("link")).unwrap();
    commit(&repo);
    review(&["check", "link"]).ok();
}

#[test]
fn people_sign_with_the_key_that_git_signs_with() {
    let repo = with_cache();
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
    let mut agent_runs = ssh_agent
        .args(["-D", "-a"])
        .arg(&agent)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the agent listens", || agent.exists().then_some(()));
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
fn a_symbol_is_written_from_the_current_folder() {
    let repo = with_cache();
    fs::create_dir_all(repo.path("src/deep")).unwrap();
    let key = Key::ssh(&repo.around().join("home"), "id");
    let Key::Ssh { private, .. } = &key else {
        unreachable!()
    };
    let mut sign = repo.command(HEDDLE);
    sign.current_dir(repo.path("src/deep"));
    sign.args(["review", "sign", "--symbol", "../a.rs:Cache::get", "--key"]);
    run(sign.arg(private)).ok();
    let listed = listed(&repo, "HEAD");
    let symbols = &listed["signatures"][0]["symbols"];
    assert_eq!(symbols[0], "src/a.rs:Cache::get");
}
