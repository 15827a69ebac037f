//! A stop ends also while a write does not (G7), and loses nothing that was acknowledged (G4).

use std::fs::{self, OpenOptions};

use nix::{
    sys::{signal::Signal, stat::Mode},
    unistd::mkfifo,
};

use super::{block_on, hook_names};
use crate::{
    harness::TestRepo,
    states::{capture, captured},
};

#[test]
fn g7_a_write_that_never_ends_is_cut_off_at_the_drain_deadline_and_said_to_be() {
    let repo = TestRepo::new();
    let fifo = repo.around().join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let mut daemon = repo.serve_with(&["--drain-timeout", "300ms"]);
    repo.heddle(["hook", "add", "kept", "true"]).ok();
    fs::write(repo.path("before"), "text").unwrap();
    let (state, held) = block_on(async {
        let channel = repo.channel().await;
        let state = captured(&channel, "before").await;
        fs::write(repo.path(".gitattributes"), "*.held filter=held\n").unwrap();
        fs::write(repo.path("file.held"), "text").unwrap();
        let clean = format!("cat {}", fifo.display());
        repo.git(&["config", "filter.held.clean", &clean]);
        let call = tokio::spawn(async move { capture(&channel, "during").await });
        // It opens when the filter reads, which never comes to an end.
        let held = OpenOptions::new().write(true).open(&fifo).unwrap();
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.wait().code(), Some(0), "{:#?}", daemon.log());
        call.await.unwrap().unwrap_err();
        (state, held)
    });
    let said = daemon.wait_for_line("was not acknowledged");
    assert!(
        said.contains("heddle.v1.ThreadWorkflowService/CaptureThread under way for "),
        "{said}"
    );
    daemon.wait_for_line("stopped");
    drop(held);

    repo.git(&["config", "--unset", "filter.held.clean"]);
    let _next = repo.serve();
    assert_eq!(hook_names(&repo), ["kept"]);
    block_on(async {
        let channel = repo.channel().await;
        let again = captured(&channel, "again").await;
        let parent = repo.git(&["rev-parse", &format!("{again}^")]);
        assert_eq!(parent.trim(), state);
    });
}
