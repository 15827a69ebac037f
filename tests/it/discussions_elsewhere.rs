//! Discussions where histories, names and answers are not the usual ones.

use std::fs;

use crate::{
    discussions::{at, commit, open, opening, seen},
    harness::TestRepo,
    states::captured,
};

fn prune(repo: &TestRepo) {
    repo.git(&["reflog", "expire", "--expire=now", "--all"]);
    repo.git(&["gc", "-q", "--prune=now"]);
}

#[tokio::test]
async fn a_discussion_is_followed_where_a_shallow_clone_ends() {
    let repo = TestRepo::new();
    fs::write(repo.path("a.py"), "def f():\n    return 1\n").unwrap();
    commit(&repo, "a");
    let head = repo.git(&["rev-parse", "HEAD"]);
    fs::write(repo.path(".git/shallow"), head).unwrap();
    prune(&repo);
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let id = open(&channel, opening("a.py", "f")).await.unwrap().id;
    for number in 2..5 {
        let text = format!("def f():\n    return {number}\n");
        fs::write(repo.path("a.py"), text).unwrap();
        captured(&channel, "").await;
    }
    assert_eq!(seen(&at(&channel, &id, &[]).await), "a.py f changed");
}

#[tokio::test]
async fn a_discussion_of_a_branch_is_followed_into_its_merge() {
    let repo = TestRepo::new();
    let write = |text: &str| fs::write(repo.path("a.py"), text).unwrap();
    write("def f():\n    return 1\n");
    commit(&repo, "base");
    repo.git(&["branch", "-m", "trunk"]);
    repo.git(&["checkout", "-qb", "topic"]);
    write("def f():\n    return 1 + 1\n");
    commit(&repo, "edit");
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let id = open(&channel, opening("a.py", "f")).await.unwrap().id;
    write("def g():\n    return 1 + 1\n");
    commit(&repo, "rename");
    write("def g():\n    return 1 + 1 + 1\n");
    let topic = commit(&repo, "edit again");
    assert_eq!(seen(&at(&channel, &id, &topic).await), "a.py g changed");
    repo.git(&["checkout", "-q", "trunk"]);
    fs::write(repo.path("b.py"), "").unwrap();
    let beside = commit(&repo, "beside");
    assert_eq!(seen(&at(&channel, &id, &beside).await), "a.py f changed");
    repo.git(&["merge", "-q", "--no-edit", "topic"]);
    fs::write(repo.path("b.py"), "\n").unwrap();
    let merged = commit(&repo, "after the merge");
    assert_eq!(seen(&at(&channel, &id, &merged).await), "a.py g changed");
}
