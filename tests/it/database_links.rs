//! Symbolic links where the files of the databases should be, whoever put them there: nothing is written
//! to where they lead.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{
    harness::TestRepo,
    left_out::commit,
    trees::Served,
    warm_up::{index_when, with_files},
};

/// A file that lies elsewhere, as it was made.
struct Elsewhere {
    _folder: TempDir,
    path: PathBuf,
    content: Vec<u8>,
}

impl Elsewhere {
    fn new(content: Vec<u8>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, &content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        Self {
            _folder: folder,
            path,
            content,
        }
    }

    /// Puts a link to it at a path.
    fn link(&self, at: &Path) {
        let _ = fs::remove_file(at);
        symlink(&self.path, at).unwrap();
    }

    /// Checks that nothing was done to it, and that nothing lies beside it.
    #[track_caller]
    fn assert_untouched(&self) {
        assert_eq!(fs::read(&self.path).unwrap(), self.content);
        let mode = fs::metadata(&self.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        let beside = fs::read_dir(self.path.parent().unwrap()).unwrap();
        assert_eq!(beside.count(), 1);
    }
}

#[tokio::test]
async fn g1_an_index_that_is_a_link_is_made_anew_in_its_place() {
    let repo = with_files(20);
    commit(&repo);
    let mut served = Served::new(repo).await;
    index_when(&served, "whole", |it| it.whole).await;
    let database = served.repo.store_dir().join("symbols.db");
    // The daemon keeps it open: the next event finds that it is elsewhere.
    let moved = Elsewhere::new(Vec::new());
    fs::rename(&database, &moved.path).unwrap();
    moved.link(&database);
    served.write("notes.txt", "An event.\n");
    served.capture().await.unwrap();
    index_when(&served, "made anew", |it| it.whole && it.parsed == 40).await;
    assert!(database.symlink_metadata().unwrap().is_file());

    for (suffix, content) in [
        ("", Vec::new()),
        ("", b"Somebody's notes.\n".to_vec()),
        ("", fs::read(&moved.path).unwrap()),
        ("-wal", Vec::new()),
        ("-shm", vec![0; 32_768]),
    ] {
        assert!(served.daemon.stop().success());
        let elsewhere = Elsewhere::new(content);
        let link = served.repo.store_dir().join(format!("symbols.db{suffix}"));
        elsewhere.link(&link);
        served = Served::new(served.repo).await;
        let index = index_when(&served, "made anew", |it| it.whole).await;
        assert_eq!((index.files, index.parsed), (20, 20), "{suffix}");
        let line = format!("symbols.db{suffix} is a symbolic link: it is removed");
        served.daemon.wait_for_line(&line);
        assert!(link.symlink_metadata().unwrap().is_file(), "{suffix}");
        elsewhere.assert_untouched();
    }
}

#[test]
fn g1_a_database_that_is_a_link_is_refused_and_nothing_is_written_to_where_it_leads() {
    let repo = TestRepo::new();
    repo.serve().stop();
    let database = repo.store_dir().join("heddle.db");
    let whole = fs::read(&database).unwrap();
    for (suffix, content) in [
        ("", Vec::new()),
        ("", whole.clone()),
        ("-wal", Vec::new()),
        ("-shm", vec![0; 32_768]),
    ] {
        let elsewhere = Elsewhere::new(content);
        let link = repo.store_dir().join(format!("heddle.db{suffix}"));
        elsewhere.link(&link);
        for args in [&["agent", "serve"][..], &["hook", "list"]] {
            let said = repo.heddle(args).fails_with(1);
            let told = format!("heddle.db{suffix} is a symbolic link");
            assert!(said.contains(&told), "{said}");
        }
        let ran = repo.heddle(["doctor"]);
        assert!(ran.stdout.contains("is a symbolic link"), "{ran:?}");
        assert!(!ran.stdout.contains("chmod"), "{ran:?}");
        elsewhere.assert_untouched();
        fs::remove_file(link).unwrap();
        fs::write(&database, &whole).unwrap();
    }
    repo.heddle(["hook", "list"]).ok();
    repo.heddle(["agent", "stop"]).ok();
}
