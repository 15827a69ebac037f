//! Restores, undo and redo through the socket: the worktree becomes exactly the state, nothing is
//! lost, and HEAD, branches and index stay (G9).

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use heddle_agent::{
    failure::Reason,
    grpc_local_impl::proto::local::{
        DiffStatesRequest, PreviewRestoreRequest, RestoreStateRequest, RestoreTarget,
        file_change::Kind, restore_target::Target,
    },
};
use tonic::Code;

use crate::{
    harness::TestRepo,
    rpc::{assert_ours, assert_refused, operations},
    states::{
        GitView, capture, captured, content, current_thread, diff, hex, preview, restore, to,
        to_state, worktrees,
    },
};

#[tokio::test]
async fn a_restore_gives_back_names_contents_modes_and_links() {
    let repo = TestRepo::new();
    fs::write(repo.path(".gitignore"), "*.o\n").unwrap();
    repo.git(&["add", "-A"]);
    repo.git(&["commit", "-qm", "ignore"]);
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    fs::create_dir_all(repo.path("src/deep")).unwrap();
    fs::write(repo.path("src/deep/a"), "a").unwrap();
    fs::write(repo.path("run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(repo.path("run"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("src/deep/a", repo.path("link")).unwrap();
    let before = content(repo.root());
    let first = captured(&channel, "first").await;

    fs::remove_dir_all(repo.path("src")).unwrap();
    fs::write(repo.path("src"), "a file where a folder was").unwrap();
    fs::remove_file(repo.path("link")).unwrap();
    fs::create_dir(repo.path("link")).unwrap();
    fs::write(repo.path("link/inside"), "x").unwrap();
    fs::write(repo.path("run"), "changed").unwrap();
    fs::set_permissions(repo.path("run"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(repo.path("later"), "made since").unwrap();
    fs::write(repo.path("ignored.o"), "left").unwrap();
    let changed = content(repo.root());
    let git = GitView::of(&repo);

    let done = restore(&channel, to_state(&first)).await.unwrap();
    assert_eq!(hex(&done.state_id), first);
    let mut expected = before.clone();
    expected.insert("ignored.o".into(), changed["ignored.o"].clone());
    assert_eq!(content(repo.root()), expected);
    assert_eq!(hex(current_thread(&channel).await.current_state()), first);
    // What was there is in the rescue, and can be had back.
    let rescue = hex(&done.rescue_state_id);
    assert_ne!(rescue, first);
    restore(&channel, to_state(&rescue)).await.unwrap();
    assert_eq!(content(repo.root()), changed);
    assert_eq!(GitView::of(&repo), git);
    let log = operations(&channel, Default::default()).await;
    let verbs: Vec<_> = log.iter().map(|o| o.verb.as_str()).collect();
    assert_eq!(verbs, ["snapshot", "snapshot", "goto", "goto"]);
}

#[tokio::test]
async fn undo_and_redo_go_back_and_forth_and_lose_nothing() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let read = || fs::read_to_string(repo.path("a")).ok();
    let mut states = vec![repo.git(&["rev-parse", "HEAD"]).trim().to_owned()];
    for step in ["1", "2", "3"] {
        fs::write(repo.path("a"), step).unwrap();
        states.push(captured(&channel, step).await);
    }
    let undo = |n| to(Target::Undo(n));
    let redo = |n| to(Target::Redo(n));
    let done = restore(&channel, undo(1)).await.unwrap();
    assert_eq!(
        (read().as_deref(), hex(&done.state_id)),
        (Some("2"), states[2].clone())
    );
    assert_eq!((done.undo_left, done.redo_left), (2, 1));
    let done = restore(&channel, undo(2)).await.unwrap();
    assert_eq!((read(), hex(&done.state_id)), (None, states[0].clone()));
    let refused = restore(&channel, undo(1)).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, Reason::NothingToUndo);
    restore(&channel, redo(3)).await.unwrap();
    assert_eq!(read().as_deref(), Some("3"));
    // What is not captured yet is a step of its own.
    fs::write(repo.path("a"), "not captured").unwrap();
    let done = restore(&channel, undo(1)).await.unwrap();
    assert_eq!(
        (read().as_deref(), hex(&done.state_id)),
        (Some("3"), states[3].clone())
    );
    restore(&channel, redo(1)).await.unwrap();
    assert_eq!(read().as_deref(), Some("not captured"));
    // A change after an undo is a new way; the old one is still there by its id.
    let done = restore(&channel, undo(2)).await.unwrap();
    assert_eq!(read().as_deref(), Some("2"));
    fs::write(repo.path("a"), "another way").unwrap();
    let refused = restore(&channel, redo(1)).await.unwrap_err();
    assert_eq!(assert_ours(&refused), "NOTHING_TO_UNDO");
    captured(&channel, "").await;
    restore(&channel, to_state(&hex(&done.rescue_state_id)))
        .await
        .unwrap();
    assert_eq!(read().as_deref(), Some("not captured"));
}

#[tokio::test]
async fn some_paths_are_restored_and_no_others() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    for path in ["a", "b"] {
        fs::create_dir_all(repo.path("dir")).unwrap();
        fs::write(repo.path(path), "before").unwrap();
        fs::write(repo.path("dir").join(path), "before").unwrap();
    }
    let first = captured(&channel, "").await;
    for path in ["a", "b", "dir/a", "dir/b", "dir/new"] {
        fs::write(repo.path(path), "after").unwrap();
    }
    let some = |paths: &[&str]| RestoreStateRequest {
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        ..to_state(&first)
    };
    let told = preview(&channel, some(&["a", "dir/"])).await.unwrap();
    let paths: Vec<_> = told
        .changes
        .iter()
        .map(|change| change.path.as_str())
        .collect();
    assert_eq!(paths, ["a", "dir/a", "dir/b", "dir/new"]);
    assert_eq!(fs::read_to_string(repo.path("a")).unwrap(), "after");
    let done = restore(&channel, some(&["a", "dir/"])).await.unwrap();
    assert_eq!((done.written, done.removed), (3, 1));
    let read = |path: &str| fs::read_to_string(repo.path(path)).unwrap();
    assert_eq!(
        (read("a"), read("b"), read("dir/a")),
        ("before".into(), "after".into(), "before".into())
    );
    assert!(!repo.path("dir/new").exists());
    // The mixture is a state of its own, on the chain.
    let state = hex(&done.state_id);
    assert_ne!(state, first);
    let parent = repo.git(&["rev-parse", &format!("{state}^")]);
    assert_eq!(parent.trim(), hex(&done.rescue_state_id));
    let now = capture(&channel, "").await.unwrap();
    assert!(now.unchanged);
    assert_eq!(hex(&now.state_id), state);
    for path in [
        "../outside",
        "/etc/passwd",
        ".git/config",
        ".heddle/x",
        "dir/../../x",
    ] {
        let refused = restore(&channel, some(&[path])).await.unwrap_err();
        assert_refused(&refused, Code::InvalidArgument, Reason::PathInvalid);
    }
    let refused = restore(&channel, some(&["nowhere"])).await.unwrap_err();
    assert_refused(&refused, Code::NotFound, Reason::PathUnknown);
}

#[tokio::test]
async fn a_long_preview_goes_on_without_another_look_at_the_worktree() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let state = captured(&channel, "first").await;
    // More than one answer can hold.
    let folder = "a-long-name-of-a-folder-".repeat(10);
    fs::create_dir(repo.path(&folder)).unwrap();
    let all: BTreeSet<String> = (0..15_000).map(|n| format!("{folder}/{n}")).collect();
    for path in &all {
        fs::write(repo.path(path), "").unwrap();
    }
    let ask = async |from_tree: &[u8], after_path: &str, target| {
        let request = PreviewRestoreRequest {
            from_tree: from_tree.to_vec(),
            after_path: after_path.to_owned(),
            target: Some(RestoreTarget { target }),
            ..Default::default()
        };
        worktrees(&channel).preview_restore(request).await
    };
    let to_first = || Some(Target::State(state.clone()));
    let first = ask(&[], "", to_first()).await.unwrap().into_inner();
    assert!(first.truncated && first.changes.len() < all.len());
    // What becomes of the worktree meanwhile does not matter.
    fs::write(repo.path("zzz"), "").unwrap();
    let second = ask(&first.from_tree, &first.next_path, to_first()).await;
    let second = second.unwrap().into_inner();
    assert!(!second.truncated);
    assert_eq!(second.change_count, first.change_count);
    let pages = [&first, &second];
    let told = pages.iter().flat_map(|page| &page.changes);
    let told: BTreeSet<String> = told.map(|change| change.path.clone()).collect();
    assert!(told == all, "{} of {}", told.len(), all.len());

    for (from_tree, target) in [
        (&first.from_tree, Some(Target::Undo(1))),
        (&first.from_tree, None),
        (&vec![7; 20], to_first()),
        (&vec![7; 3], to_first()),
    ] {
        let refused = ask(from_tree, "", target).await.unwrap_err();
        assert_refused(&refused, Code::InvalidArgument, Reason::InvalidField);
    }
}

#[tokio::test]
async fn the_index_follows_only_when_asked() {
    let repo = TestRepo::new();
    fs::write(repo.path("a"), "1").unwrap();
    repo.git(&["add", "a"]);
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let first = captured(&channel, "").await;
    fs::write(repo.path("a"), "2").unwrap();
    fs::write(repo.path("b"), "b").unwrap();
    repo.git(&["add", "-A"]);
    let index = fs::read(repo.path(".git/index")).unwrap();
    restore(&channel, to_state(&first)).await.unwrap();
    assert_eq!(fs::read(repo.path(".git/index")).unwrap(), index);
    restore(&channel, to(Target::Undo(1))).await.unwrap();
    let follow = RestoreStateRequest {
        update_index: true,
        ..to_state(&first)
    };
    fs::write(repo.path(".git/index.lock"), "").unwrap();
    let refused = restore(&channel, follow.clone()).await.unwrap_err();
    assert_refused(&refused, Code::Aborted, Reason::IndexLocked);
    assert_eq!(fs::read_to_string(repo.path("a")).unwrap(), "2");
    fs::remove_file(repo.path(".git/index.lock")).unwrap();
    restore(&channel, follow).await.unwrap();
    assert_eq!(repo.git(&["status", "--porcelain"]), "A  a\n");
    assert_eq!(
        repo.git(&["write-tree"]),
        repo.git(&["rev-parse", &format!("{first}^{{tree}}")])
    );
}

#[tokio::test]
async fn what_is_no_state_is_refused_with_the_reason() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let blob = repo.git(&["rev-parse", "HEAD:README"]).trim().to_owned();
    repo.git(&["tag", "-am", "x", "v1"]);
    let tag = repo.git(&["rev-parse", "v1"]).trim().to_owned();
    for (state, code, reason) in [
        ("nothing-like-it", Code::NotFound, Reason::StateUnknown),
        (
            "0123456789012345678901234567890123456789",
            Code::NotFound,
            Reason::StateUnknown,
        ),
        (
            "012345678901234567890123456789012345678901",
            Code::NotFound,
            Reason::StateUnknown,
        ),
        (blob.as_str(), Code::InvalidArgument, Reason::NotAState),
        (tag.as_str(), Code::InvalidArgument, Reason::NotAState),
    ] {
        let refused = restore(&channel, to_state(state)).await.unwrap_err();
        assert_refused(&refused, code, reason);
    }
    let by_tag = restore(&channel, to_state("v1")).await.unwrap();
    assert_eq!(
        hex(&by_tag.state_id),
        repo.git(&["rev-parse", "HEAD"]).trim()
    );
}

#[tokio::test]
async fn a_diff_tells_changes_renames_lines_and_patches_page_by_page() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let long: String = (0..50).map(|n| format!("line {n}\n")).collect();
    fs::write(repo.path("moved"), &long).unwrap();
    fs::write(repo.path("binary"), b"\0\x01\x02").unwrap();
    let first = captured(&channel, "").await;
    fs::rename(repo.path("moved"), repo.path("renamed")).unwrap();
    fs::write(repo.path("renamed"), format!("{long}more\n")).unwrap();
    fs::write(repo.path("binary"), b"\0\x02").unwrap();
    fs::remove_file(repo.path("README")).unwrap();
    symlink("renamed", repo.path("README")).unwrap();
    let asked = DiffStatesRequest {
        from: first.clone(),
        patch: true,
        ..Default::default()
    };
    let told = diff(&channel, asked.clone()).await.unwrap();
    let kinds: Vec<_> = told
        .changes
        .iter()
        .map(|c| (c.path.as_str(), c.kind()))
        .collect();
    assert_eq!(
        kinds,
        [
            ("README", Kind::TypeChanged),
            ("binary", Kind::Modified),
            ("renamed", Kind::Renamed)
        ]
    );
    assert!(told.changes[1].binary);
    assert_eq!(
        (told.changes[2].added_lines, told.changes[2].removed_lines),
        (1, 0)
    );
    assert_eq!(told.changes[2].old_path, "moved");
    let gits = repo.git(&[
        "diff-tree",
        "-r",
        "-p",
        "-M",
        "--full-index",
        &format!("{first}^{{tree}}"),
        &hex(&told.to_tree),
    ]);
    let ours: String = told.changes.iter().map(|c| c.patch.as_str()).collect();
    assert_eq!(ours, gits);
    for n in 0..600 {
        fs::write(repo.path(format!("many-{n:04}")), "x\n").unwrap();
    }
    let mut asked = asked;
    let mut paths = Vec::new();
    loop {
        let page = diff(&channel, asked.clone()).await.unwrap();
        assert_eq!(page.change_count, 603);
        assert!(page.changes.iter().all(|change| !change.patch.is_empty()));
        paths.extend(page.changes.into_iter().map(|change| change.path));
        if !page.truncated {
            break;
        }
        asked.after_path = page.next_path;
    }
    assert_eq!(paths.len(), 603);
    assert!(paths.is_sorted());
}
