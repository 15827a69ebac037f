//! Pages of states that are not as usual: without a parent, with two, not there, enormous, or with
//! what is no text.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt};

use heddle_agent::{
    failure::Reason,
    grpc_local_impl::proto::v1::{GetReviewPayloadRequest, ListHooksRequest},
};
use tonic::Code;

use crate::{
    discussions::commit,
    harness::TestRepo,
    review::repo_head,
    review_page::{headline_of, numbers, of_git, order, page, page_of},
    rpc::{assert_blames, assert_refused, hooks},
    signing::reviews,
    states::hex,
};

#[tokio::test]
async fn the_first_state_is_all_new_and_a_merge_is_compared_with_its_first_parent() {
    let repo = TestRepo::new();
    fs::write(repo.path("a.py"), "def a():\n    pass\n").unwrap();
    repo.git(&["add", "-A"]);
    repo.git(&["commit", "-q", "--amend", "-m", "first"]);
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let first = page(&channel, &[]).await;
    assert_eq!(first.state_id, repo_head(&repo));
    assert!(first.parent_state.is_empty());
    assert_eq!(numbers(&first), (2, 3, 0));
    let wanted =
        "structural\n  a.py:a added function 1-2\nconsequence\ntests and docs\n  README added\n";
    assert_eq!(order(&first), wanted);

    repo.git(&["checkout", "-qb", "side"]);
    fs::write(repo.path("side.py"), "SIDE = 1\n").unwrap();
    commit(&repo, "side");
    repo.git(&["checkout", "-q", "main"]);
    fs::write(repo.path("main.py"), "MAIN = 1\n").unwrap();
    let parent = commit(&repo, "main");
    repo.git(&["merge", "-q", "--no-ff", "-m", "Merge side", "side"]);
    let merge = page(&channel, &[]).await;
    assert_eq!(merge.parent_state, parent);
    assert_eq!(headline_of(&merge), "Merge side");
    assert_eq!(numbers(&merge), of_git(&repo));
    assert!(order(&merge).contains("side.py"), "{}", order(&merge));
    assert!(!order(&merge).contains("main.py"), "{}", order(&merge));
}

#[tokio::test]
async fn a_state_that_is_none_has_no_page() {
    let repo = TestRepo::empty_at("repo");
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let refused = page_of(&channel, &[]).await.unwrap_err();
    assert_refused(&refused, Code::NotFound, Reason::StateUnknown);
    fs::write(repo.path("a"), "").unwrap();
    commit(&repo, "a");
    for (id, reason) in [
        (vec![7; 20], Reason::StateUnknown),
        (vec![7; 3], Reason::NotAState),
        (vec![7; 32], Reason::NotAState),
    ] {
        let refused = page_of(&channel, &id).await.unwrap_err();
        assert_blames(&refused, reason, "state_id");
    }
    let elsewhere = GetReviewPayloadRequest {
        repo_path: "/nowhere".into(),
        ..Default::default()
    };
    let refused = reviews(&channel).get_review_payload(elsewhere).await;
    assert_blames(
        &refused.unwrap_err(),
        Reason::RepositoryMismatch,
        "repo_path",
    );
}

#[tokio::test]
async fn a_worktree_has_a_current_state_of_its_own() {
    let repo = TestRepo::new();
    let linked = repo.around().join("linked");
    let path = linked.to_str().unwrap().to_owned();
    repo.git(&["worktree", "add", "-q", "-b", "side", &path]);
    repo.git(&["-C", &path, "commit", "-q", "--allow-empty", "-m", "there"]);
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let request = GetReviewPayloadRequest {
        repo_path: path,
        ..Default::default()
    };
    let there = reviews(&channel).get_review_payload(request).await.unwrap();
    let there = there.into_inner();
    assert_eq!((headline_of(&there), numbers(&there)), ("there", (0, 0, 0)));
    assert_eq!(headline_of(&page(&channel, &[]).await), "first");
}

#[tokio::test]
async fn g8_a_change_of_very_many_files_is_counted_whole_and_read_as_far_as_fits() {
    let repo = TestRepo::new();
    // Long names, so that what is to be read does not fit.
    let long = "n".repeat(200);
    for folder in 0..4 {
        let folder = repo.path(format!("{folder:02}-{long}/{long}"));
        fs::create_dir_all(&folder).unwrap();
        for file in 0..1_100 {
            fs::write(folder.join(format!("{file}.py")), "A = 1\n").unwrap();
        }
    }
    commit(&repo, "many");
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let page = page(&channel, &[]).await;
    assert_eq!(numbers(&page), (4_400, 4_400, 0));
    assert!(page.truncated);
    let partition = page.partition.as_ref().unwrap();
    let known = partition.structural.iter().filter(|at| at.symbol == "A");
    assert_eq!(known.count(), 1_000);
    assert!(partition.structural.len() < 4_400);
    assert!(prost::Message::encoded_len(&page) < 3_500 * 1024);
}

#[tokio::test]
async fn a_line_of_50_mb_and_what_is_no_utf8_have_pages_and_stall_nobody() {
    let repo = TestRepo::new();
    let line = vec![b'x'; 50_000_000];
    fs::write(repo.path("line.rs"), &line).unwrap();
    let name = OsStr::from_bytes(b"na\xffme.py");
    fs::write(repo.path(name), b"def a():\n    return '\xff\xfe'\n").unwrap();
    fs::write(
        repo.path("twice.c"),
        "int f(void) { return 1; }\nint f(void) { return 2; }\n",
    )
    .unwrap();
    let state = commit(&repo, "odd");
    fs::write(repo.path(name), b"def a():\n    return '\xff\xfd'\n").unwrap();
    fs::write(
        repo.path("twice.c"),
        "int f(void) { return 1; }\nint f(void) { return 3; }\n",
    )
    .unwrap();
    let changed = commit(&repo, "\u{1b}[31mred");
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let asked = page(&channel, &state);
    let list = async {
        for _ in 0..20 {
            let listed = hooks(&channel)
                .list_hooks(ListHooksRequest::default())
                .await;
            assert!(listed.is_ok());
        }
    };
    let (odd, ()) = tokio::join!(asked, list);
    assert_eq!(numbers(&odd), (3, 5, 0));
    let wanted = "\
structural
  \"na\\377me.py\":a added function 1-2
  line.rs added (too large)
  twice.c:f added function 1-1
consequence
tests and docs
";
    assert_eq!(order(&odd), wanted);
    let wanted = "\
structural
consequence
  \"na\\377me.py\":a body function 1-2
  twice.c:f body function 1-1
tests and docs
";
    assert_eq!(order(&page(&channel, &changed).await), wanted);
    let shown = repo.heddle(["review", "show", &hex(&changed)]).ok();
    assert!(
        !shown.contains('\u{1b}') && shown.contains("red"),
        "{shown}"
    );
}
