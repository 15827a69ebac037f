//! Files that the user changes while a restore is under way are never lost (G9): not when the restore
//! notices, not when it is killed before it does, and not while a program still has them open.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::PathBuf,
};

use uuid::Uuid;

use crate::{
    fault::{Act, Fault, Hit, kinds, reason},
    harness::{Daemon, eventually},
    scenes::{self, Scene},
    states::content,
};

/// A restore that stops where something in `.heddle` is about to be made.
struct Stopped {
    scene: Scene,
    fault: Fault,
    daemon: Daemon,
    call: tokio::task::JoinHandle<Result<Vec<u8>, tonic::Status>>,
}

impl Stopped {
    /// Stops at the first call of these kinds on a path that ends so.
    async fn at(test: &str, end: &str, of: u32) -> Option<Self> {
        let scene = Scene::new(scenes::in_memory(), scenes::whole).await;
        let fault = Fault::new(test, &scene.repo)?;
        scene.reset();
        let daemon = Daemon::spawn(fault.serve(&scene.repo));
        daemon.wait_for_line("serving");
        let channel = scene.repo.channel().await;
        fault.only(end);
        fault.arm(Act::Hold, 1, of);
        let request = scene.clone_asked();
        let call = tokio::spawn(async move { request.call(&channel, Uuid::new_v4()).await });
        eventually("the restore is under way", || fault.hit());
        Some(Self {
            scene,
            fault,
            daemon,
            call,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scene.repo.path(name)
    }
}

/// The folders of kept files.
fn kept(scene: &Scene) -> Vec<PathBuf> {
    let names = fs::read_dir(scene.repo.path(".heddle")).unwrap();
    let kept = names.map(|entry| entry.unwrap().path());
    kept.filter(|path| path.to_string_lossy().contains("restore-kept-"))
        .collect()
}

const WRITING: &str = "/.heddle/restore-writing";

#[tokio::test]
async fn g9_a_file_that_changes_after_the_rescue_refuses_the_restore() {
    let Some(stopped) = Stopped::at("g9_a_file_that_changes", WRITING, kinds::ALL).await else {
        return;
    };
    fs::write(stopped.path("README"), "mine, and newer\n").unwrap();
    stopped.fault.disarm();
    let refused = stopped.call.await.unwrap().unwrap_err();
    assert_eq!(reason(&refused), "WORKTREE_CHANGED", "{refused:?}");
    let mut expected = stopped.scene.before.clone();
    expected.get_mut("README").unwrap().1 = b"mine, and newer\n".to_vec();
    assert_eq!(content(stopped.scene.repo.root()), expected);
    assert_eq!(kept(&stopped.scene), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn g9_a_file_that_appears_where_one_is_to_be_refuses_the_restore() {
    let Some(stopped) = Stopped::at("g9_a_file_that_appears", WRITING, kinds::ALL).await else {
        return;
    };
    fs::create_dir(stopped.path("was")).unwrap();
    fs::create_dir(stopped.path("was/here")).unwrap();
    fs::write(stopped.path("was/here/only"), "mine\n").unwrap();
    stopped.fault.disarm();
    let refused = stopped.call.await.unwrap().unwrap_err();
    assert_eq!(reason(&refused), "PATH_IN_THE_WAY", "{refused:?}");
    let found = content(stopped.scene.repo.root());
    assert_eq!(found["was/here/only"].1, b"mine\n");
    assert_eq!(found.len(), stopped.scene.before.len() + 1);
}

#[tokio::test]
async fn g9_a_changed_file_that_was_moved_aside_outlives_a_kill() {
    // Replaced, and removed: the one changes places with the new file, the other is moved away.
    for (name, moved_to) in [("README", "/README"), ("made/since/then", "/old-")] {
        for newer in [false, true] {
            let test = "g9_a_changed_file_that_was_moved_aside";
            let Some(mut stopped) = Stopped::at(test, WRITING, kinds::ALL).await else {
                return;
            };
            fs::write(stopped.path(name), "mine, and newer\n").unwrap();
            let number = stopped.scene.number_of(name);
            let end = match moved_to {
                "/old-" => format!("/old-{number}"),
                other => other.to_owned(),
            };
            stopped.fault.only(&end);
            stopped.fault.arm(Act::KillAfter, 1, kinds::NAME);
            assert!((&mut stopped.call).await.unwrap().is_err());
            stopped.daemon.wait();
            let hit: Option<Hit> = stopped.fault.hit();
            assert!(hit.is_some(), "it was not moved");
            stopped.fault.disarm();
            if newer {
                fs::create_dir_all(stopped.path(name).parent().unwrap()).unwrap();
                fs::write(stopped.path(name), "newer still\n").unwrap();
            }
            let daemon = stopped.scene.repo.serve();
            let mut expected = stopped.scene.before.clone();
            let found = content(stopped.scene.repo.root());
            let text: &[u8] = if newer {
                b"newer still\n"
            } else {
                b"mine, and newer\n"
            };
            let mode = found[name].0;
            expected.insert(name.to_owned(), (mode, text.to_vec()));
            assert_eq!(found, expected, "{name} {newer}");
            if newer {
                let [folder] = kept(&stopped.scene).try_into().unwrap();
                let text = fs::read_to_string(folder.join(name)).unwrap();
                assert_eq!(text, "mine, and newer\n");
                daemon.wait_for_line("that version is kept in");
            } else {
                assert_eq!(kept(&stopped.scene), Vec::<PathBuf>::new());
            }
            let left = stopped.path(".heddle/restore");
            assert!(!left.exists());
        }
    }
}

#[tokio::test]
async fn g9_what_a_program_still_writes_into_a_replaced_file_is_kept() {
    // The answer waits for the index; the file was judged before.
    let test = "g9_what_a_program_still_writes";
    let Some(mut stopped) = Stopped::at(test, "/new-link", kinds::NAME | kinds::CREATE).await
    else {
        return;
    };
    drop(stopped.daemon);
    let scene = &stopped.scene;
    scene.reset();
    let mut open = OpenOptions::new()
        .append(true)
        .open(scene.repo.path("README"))
        .unwrap();
    stopped.daemon = Daemon::spawn(stopped.fault.serve(&scene.repo));
    stopped.daemon.wait_for_line("serving");
    let channel = scene.repo.channel().await;
    // The second state has `new-link` and the first has not: it goes after all that is replaced.
    let number = scene.number_of("new-link");
    stopped.fault.only(&format!("/old-{number}"));
    stopped.fault.arm(Act::Hold, 1, kinds::NAME);
    let asked = scene.clone_asked();
    let call = tokio::spawn(async move { asked.call(&channel, Uuid::new_v4()).await });
    eventually("the restore is under way", || stopped.fault.hit());
    open.write_all(b"one more line\n").unwrap();
    stopped.fault.disarm();
    call.await.unwrap().unwrap();
    assert_eq!(content(scene.repo.root()), scene.after);
    let folder = eventually("it is kept", || kept(scene).pop());
    let file = folder.join("README");
    let text = eventually("it is moved there", || fs::read_to_string(&file).ok());
    assert_eq!(text, "hello again\none more line\n");
}

#[tokio::test]
async fn g9_a_newer_file_stays_when_a_restore_is_undone() {
    let test = "g9_a_newer_file_stays";
    let Some(mut stopped) = Stopped::at(test, WRITING, kinds::ALL).await else {
        return;
    };
    // Held once more, where README has its old text already; then another file refuses the restore.
    let scene = &stopped.scene;
    let number = scene.number_of("new-link");
    stopped.fault.only(&format!("/old-{number}"));
    stopped.fault.arm(Act::Hold, 1, kinds::NAME);
    eventually("README was replaced", || stopped.fault.hit());
    assert_eq!(
        fs::read_to_string(scene.repo.path("README")).unwrap(),
        "hello\n"
    );
    let aside = scene.repo.path("aside");
    fs::write(&aside, "saved by an editor\n").unwrap();
    fs::rename(&aside, scene.repo.path("README")).unwrap();
    fs::remove_file(scene.repo.path("new-link")).unwrap();
    stopped.fault.disarm();
    let refused = stopped.call.await.unwrap().unwrap_err();
    assert_eq!(reason(&refused), "WORKTREE_CHANGED", "{refused:?}");
    let mut expected = scene.before.clone();
    expected.remove("new-link");
    expected.insert(
        "README".to_owned(),
        (0o644, b"saved by an editor\n".to_vec()),
    );
    assert_eq!(content(scene.repo.root()), expected);
    assert!(stopped.daemon.ended().is_none());
}
