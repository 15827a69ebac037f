//! Checks through the socket: what is found, in words, and what is mended.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
};

use heddle_agent::grpc_local_impl::proto::{
    local::{
        CheckRepositoryRequest, finding::Severity, upkeep_service_client::UpkeepServiceClient,
    },
    v1::ThreadSummary,
};
use rusqlite::Connection;

use crate::{
    harness::TestRepo,
    upkeep::{amiss, assert_told, chains, check, kept, listed, with_chains},
};

#[tokio::test]
async fn doctor_tells_of_damage_in_an_open_database_and_the_command_mends_it() {
    let (repo, _) = with_chains(1).await;
    let database = Connection::open(repo.store_dir().join("heddle.db")).unwrap();
    let (page, size): (u64, u64) = database
        .query_row(
            "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_schema
             WHERE name = 'operation_actor'",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    drop(database);
    let path = repo.store_dir().join("heddle.db");
    let mut bytes = fs::read(&path).unwrap();
    let at = ((page - 1) * size) as usize;
    bytes[at + 100..at + size as usize].fill(0xff);
    fs::write(&path, bytes).unwrap();
    let mut daemon = repo.serve();
    let before = listed(&repo.channel().await).await;
    let found = check(&repo.channel().await, true).await;
    assert_told(&found, "database", Severity::Bad, "heddle doctor --repair");
    // The command ends the daemon, which has it open.
    let said = repo.heddle(["doctor", "--repair"]).ok();
    assert!(said.contains("a new one was made"), "{said}");
    assert!(daemon.wait().success());
    let channel = repo.channel().await;
    let after = listed(&channel).await;
    let tips = |threads: &[ThreadSummary]| -> Vec<_> {
        let tips = threads.iter();
        tips.map(|t| (t.name.clone(), t.current_state.clone()))
            .collect()
    };
    assert_eq!(tips(&after), tips(&before));
    assert_eq!(amiss(&check(&channel, false).await), [""; 0]);
}

#[tokio::test]
async fn doctor_finds_captures_of_which_something_is_gone() {
    let (repo, made) = with_chains(2).await;
    let file = repo.git(&["rev-parse", &format!("{}:work", made[0][1])]);
    let tip = &made[1][1];
    for id in [file.trim(), tip.as_str()] {
        let (first, rest) = id.split_at(2);
        fs::remove_file(repo.path(format!(".git/objects/{first}/{rest}"))).unwrap();
    }
    repo.git(&["update-ref", "-d", "refs/heddle/kept/main/2"]);
    let _daemon = repo.serve();
    let found = check(&repo.channel().await, true).await;
    let bad = Severity::Bad;
    let lost_file = format!("{} cannot be restored in full: the file work", made[0][1]);
    assert_told(&found, "objects", bad, &lost_file);
    assert_told(
        &found,
        "objects",
        bad,
        &format!("{tip} cannot be restored in full: its commit"),
    );
    // No ref is made to what is not there: Git could not collect its garbage any more.
    assert_told(&found, "refs", bad, "kept/main/2 is missing");
    assert_eq!(kept(&repo), [1]);
    assert_eq!(amiss(&found).len(), 3, "{found:#?}");
}

#[tokio::test]
async fn doctor_mends_folders_and_links() {
    let repo = TestRepo::new();
    let linked = repo.around().join("linked");
    let linked = linked.to_str().unwrap();
    repo.git(&["worktree", "add", "-q", "--detach", linked]);
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    assert_eq!(amiss(&check(&channel, false).await), [""; 0]);
    let mode = |path: PathBuf, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(repo.path(".heddle"), 0o755);
    mode(repo.store_dir(), 0o770);
    let exclude = repo.path(".git/info/exclude");
    fs::write(&exclude, "# nothing\n").unwrap();
    let link = repo.around().join("linked/.heddle/sockets/grpc.sock");
    fs::remove_file(&link).unwrap();
    symlink("/nowhere", &link).unwrap();

    let found = check(&channel, false).await;
    let (bad, repaired) = (Severity::Bad, Severity::Repaired);
    assert_told(&found, "folders", bad, ".heddle has the mode 755");
    assert_told(&found, "folders", bad, "heddle has the mode 770");
    assert_told(&found, "folders", bad, "lacks the line /.heddle/");
    assert_told(&found, "links", bad, "does not lead to");
    assert_eq!(amiss(&found).len(), 4, "{found:#?}");
    assert!(fs::read_link(&link).unwrap().starts_with("/nowhere"));

    let mended = check(&channel, true).await;
    assert_told(&mended, "folders", repaired, ".heddle has the mode 755");
    assert_told(&mended, "links", repaired, "does not lead to");
    assert_eq!(amiss(&mended).len(), 4, "{mended:#?}");
    assert_eq!(amiss(&check(&channel, false).await), [""; 0]);
}

#[tokio::test]
async fn doctor_warns_where_a_push_would_publish_captures() {
    let repo = TestRepo::new();
    let daemon = repo.serve();
    let channel = repo.channel().await;
    chains(&repo, &channel, 1).await;
    let server = repo.around().join("server.git");
    repo.git(&["init", "-q", "--bare", server.to_str().unwrap()]);
    let there = |repo: &TestRepo| {
        let there = [
            "--git-dir",
            server.to_str().unwrap(),
            "for-each-ref",
            "refs/heddle",
        ];
        repo.git(&there).lines().count()
    };
    repo.git(&["remote", "add", "server", server.to_str().unwrap()]);
    assert_eq!(amiss(&check(&channel, false).await), [""; 0]);
    repo.git(&["config", "remote.server.mirror", "true"]);
    let found = check(&channel, true).await;
    assert_told(&found, "remotes", Severity::Warning, "git push server");
    assert_told(&found, "remotes", Severity::Warning, "remote.server.mirror");

    // The advice works, as Git sees it.
    repo.git(&["config", "--unset", "remote.server.mirror"]);
    repo.git(&["config", "remote.server.push", "+refs/*:refs/*"]);
    let found = check(&channel, false).await;
    assert_told(&found, "remotes", Severity::Warning, "'^refs/heddle/*'");
    repo.git(&["config", "--add", "remote.server.push", "^refs/heddle/*"]);
    assert_eq!(amiss(&check(&channel, false).await), [""; 0]);
    repo.git(&["push", "-q", "server"]);
    assert_eq!(there(&repo), 0);
    drop(daemon);
}

#[tokio::test]
async fn doctor_compares_the_versions() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let mut client = UpkeepServiceClient::new(repo.channel().await);
    let request = CheckRepositoryRequest {
        client_version: "0.0.1".into(),
        ..Default::default()
    };
    let found = client.check_repository(request).await.unwrap();
    let found = found.into_inner().findings;
    assert_told(
        &found,
        "versions",
        Severity::Warning,
        "the client is heddle 0.0.1",
    );
    assert_told(&found, "versions", Severity::Good, "git version");
    assert_told(&found, "database", Severity::Good, "schema");
}
