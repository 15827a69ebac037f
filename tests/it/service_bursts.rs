//! Five hundred activations at once are somebody's work and no loop: neither the socket's trigger
//! limit nor the service's start limit stops them.

use std::{fs, os::unix::net::UnixStream, time::Instant};

use crate::{drop_in::DropIn, harness::eventually, manager::user_manager};

const ACTIVATIONS: usize = 500;

/// Ends at once, without a look at its socket, as often as there are to be activations; only then
/// is it a daemon. What waits in the socket activates it again and again meanwhile.
const SHORT_LIVED: &str = "read -r n < COUNT; n=$((n + 1)); echo $n > COUNT; \
    [ $n -le 500 ] || exec HEDDLE agent serve --repo REPOSITORY";

#[test]
fn five_hundred_activations_in_a_row_leave_the_socket_listening() {
    let Some(manager) = user_manager("service_bursts::activations") else {
        return;
    };
    let repo = manager.repo("burst");
    let (socket, service) = ("heddle-agent@burst.socket", "heddle-agent@burst.service");
    let count = manager.home().join("burst-count");
    fs::write(&count, "0\n").unwrap();
    let (uid, gid) = manager.ids();
    std::os::unix::fs::chown(&count, Some(uid), Some(gid)).unwrap();
    let script = SHORT_LIVED
        .replace("COUNT", count.to_str().unwrap())
        .replace("HEDDLE", manager.heddle().to_str().unwrap())
        .replace("REPOSITORY", repo.root().to_str().unwrap());
    // The bursts that the units allow in two seconds, allowed in an hour here: stricter, and the
    // same on a machine of any speed. From 255 on systemd also looks at a socket less often when
    // there is much to see, which only delays; before that it ignores the setting.
    let lines = "[Socket]\nTriggerLimitIntervalSec=1h\nPollLimitBurst=2000\n";
    let _socket = DropIn::new(&manager, socket, lines);
    let lines = format!(
        "[Unit]\nStartLimitIntervalSec=1h\n[Service]\nType=exec\nExecStart=\nExecStart=/bin/sh -c {script:?}\n",
    );
    let _service = DropIn::new(&manager, service, &lines.replace('$', "$$"));
    repo.heddle(&["agent", "install", "--now"]).ok();

    let began = Instant::now();
    let _waits = UnixStream::connect(manager.runtime().join("heddle/burst.sock")).unwrap();
    eventually("the last activation", || {
        assert_eq!(manager.property(socket, "Result"), "success");
        let counted = fs::read_to_string(&count).unwrap();
        (counted.trim() == (ACTIVATIONS + 1).to_string()).then_some(())
    });
    println!("{ACTIVATIONS} activations in {:.2?}", began.elapsed());
    repo.heddle(&["hook", "list"]).ok();
    assert_eq!(manager.property(service, "ActiveState"), "active");
    assert_eq!(manager.property(socket, "SubState"), "running");
}
