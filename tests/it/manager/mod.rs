//! A real `systemd --user` with a real journal, for a user that exists only for the tests. It needs
//! root and systemd's programs, but not systemd as process 1. All tests that run at once share one;
//! the last of them takes everything away again.

mod cgroups;
mod repo;

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

pub use cgroups::hierarchies;
pub use repo::UserRepo;

use crate::harness::{DEADLINE, HEDDLE, Ran, is_root, run, skip};

const SYSTEMD: &str = "/lib/systemd/systemd";
const JOURNALD: &str = "/lib/systemd/systemd-journald";
const BOOTED: &str = "/run/systemd/system";

/// The user manager of a user of our own.
pub struct UserManager {
    user: String,
    ids: (u32, u32),
    base: PathBuf,
    made_booted: bool,
    cgroups: Vec<PathBuf>,
    journald: Option<Child>,
    manager: Option<Child>,
}

/// A test's hold on the manager; the last one to let go takes everything away again.
pub struct Shared {
    manager: Option<Arc<UserManager>>,
}

impl std::ops::Deref for Shared {
    type Target = Arc<UserManager>;

    fn deref(&self) -> &Arc<UserManager> {
        self.manager.as_ref().unwrap()
    }
}

/// The one manager, and how many tests hold it. Made and taken down under the lock, so that neither
/// meets the other half-way.
static SHARED: Mutex<(usize, Option<Arc<UserManager>>)> = Mutex::new((0, None));

fn shared() -> std::sync::MutexGuard<'static, (usize, Option<Arc<UserManager>>)> {
    SHARED
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Drop for Shared {
    fn drop(&mut self) {
        let mut shared = shared();
        self.manager = None;
        shared.0 -= 1;
        if shared.0 == 0 {
            shared.1 = None;
        }
    }
}

/// The manager that the tests share, or `None`, after saying why `test` is skipped.
pub fn user_manager(test: &str) -> Option<Shared> {
    if !is_root() {
        skip(
            test,
            "making a user with a service manager of its own needs root",
        );
        return None;
    }
    if !Path::new(SYSTEMD).exists() || !Path::new(JOURNALD).exists() {
        skip(test, "systemd is not installed");
        return None;
    }
    let mut shared = shared();
    if shared.1.is_none() {
        match UserManager::start("") {
            Ok(manager) => shared.1 = Some(Arc::new(manager)),
            Err(why) => {
                skip(test, &why);
                return None;
            }
        }
    }
    shared.0 += 1;
    Some(Shared {
        manager: shared.1.clone(),
    })
}

/// A manager of the test's own, beside the shared one: for what another test's `daemon-reload` would
/// disturb.
pub struct Alone {
    manager: Arc<UserManager>,
    // Dropped last: journal and folders are the shared one's.
    _shared: Shared,
}

impl std::ops::Deref for Alone {
    type Target = Arc<UserManager>;

    fn deref(&self) -> &Arc<UserManager> {
        &self.manager
    }
}

/// The same as [`user_manager`], and nobody else's. `tag` tells it apart.
pub fn user_manager_alone(test: &str, tag: &str) -> Option<Alone> {
    let shared = user_manager(test)?;
    match UserManager::start(tag) {
        Ok(manager) => Some(Alone {
            manager: Arc::new(manager),
            _shared: shared,
        }),
        Err(why) => {
            skip(test, &why);
            None
        }
    }
}

impl UserManager {
    fn start(tag: &str) -> Result<Self, String> {
        let id = format!("{}{tag}", std::process::id());
        let user = format!("hdl{id}");
        // Short, so that sockets in it are; and not below /tmp, which other users may not enter.
        let base = PathBuf::from(format!("/run/hdl{id}"));
        fs::create_dir(&base).map_err(|e| format!("cannot make {}: {e}", base.display()))?;
        let mut this = Self {
            user,
            ids: (0, 0),
            base,
            made_booted: !Path::new(BOOTED).exists(),
            cgroups: Vec::new(),
            journald: None,
            manager: None,
        };
        // From here on, whatever was made is taken away when `this` is dropped.
        this.make_user()?;
        cgroups::make(this.ids, &mut this.cgroups)?;
        if this.made_booted {
            // sd_booted(3) looks for this folder and for nothing else.
            fs::create_dir_all(BOOTED).map_err(|e| e.to_string())?;
        }
        if !journal_listens() {
            let journald = Command::new(JOURNALD)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            this.journald = Some(journald.map_err(|e| format!("no journal: {e}"))?);
            let end = Instant::now() + Duration::from_secs(20);
            while !journal_listens() {
                if Instant::now() > end {
                    return Err("the journal does not start".to_owned());
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        this.start_manager()?;
        Ok(this)
    }

    fn make_user(&mut self) -> Result<(), String> {
        let made = run(Command::new("useradd")
            .args(["--no-create-home", "--shell", "/bin/sh", "--home-dir"])
            .arg(self.home())
            .arg(&self.user));
        if !made.status.success() {
            return Err(format!("no user can be made: {}", made.stderr.trim()));
        }
        let id = |flag| -> u32 {
            let out = run(Command::new("id").arg(flag).arg(&self.user)).ok();
            out.trim().parse().unwrap()
        };
        self.ids = (id("-u"), id("-g"));
        for folder in [self.home(), self.runtime(), self.home().join("bin")] {
            fs::create_dir(&folder).map_err(|e| e.to_string())?;
            self.give(&folder, 0o700);
        }
        let binary = self.heddle();
        fs::copy(HEDDLE, &binary).map_err(|e| e.to_string())?;
        self.give(&binary, 0o755);
        Ok(())
    }

    fn start_manager(&mut self) -> Result<(), String> {
        let enter: String = self
            .cgroups
            .iter()
            .map(|group| format!("echo $$ > {}/cgroup.procs && ", group.display()))
            .collect();
        let (uid, gid) = self.ids;
        let script = format!(
            "{enter} exec setpriv --reuid={uid} --regid={gid} --clear-groups {SYSTEMD} --user"
        );
        let mut command = Command::new("sh");
        self.environment(command.args(["-c", &script]));
        let log = fs::File::create(self.base.join("manager.log")).map_err(|e| e.to_string())?;
        let manager = command
            .stdout(log.try_clone().map_err(|e| e.to_string())?)
            .stderr(log)
            .spawn()
            .map_err(|e| e.to_string())?;
        self.manager = Some(manager);
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let state = run(self
                .command("systemctl")
                .args(["--user", "is-system-running"]));
            if ["running", "degraded"].contains(&state.stdout.trim()) {
                return Ok(());
            }
            if Instant::now() > end {
                let log = fs::read_to_string(self.base.join("manager.log")).unwrap_or_default();
                return Err(format!(
                    "the user manager does not start: {} {log}",
                    state.stderr
                ));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The user's home.
    pub fn home(&self) -> PathBuf {
        self.base.join("home")
    }

    /// The user's runtime folder.
    pub fn runtime(&self) -> PathBuf {
        self.base.join("run")
    }

    /// The heddle that the user has, in `PATH`.
    pub fn heddle(&self) -> PathBuf {
        self.home().join("bin").join("heddle")
    }

    /// The user's ids.
    pub fn ids(&self) -> (u32, u32) {
        self.ids
    }

    fn give(&self, path: &Path, mode: u32) {
        std::os::unix::fs::chown(path, Some(self.ids.0), Some(self.ids.1)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn environment<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let path = format!(
            "{}:/usr/local/bin:/usr/bin:/bin",
            self.home().join("bin").display()
        );
        command
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.home())
            .env("USER", &self.user)
            .env("XDG_RUNTIME_DIR", self.runtime())
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .current_dir("/")
            .stdin(Stdio::null())
    }

    /// A command that the user runs.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        self.environment(&mut command);
        command.uid(self.ids.0).gid(self.ids.1);
        command
    }

    /// `systemctl --user`, by the user.
    #[track_caller]
    pub fn systemctl(&self, arguments: &[&str]) -> Ran {
        run(self.command("systemctl").arg("--user").args(arguments))
    }

    /// A property of a unit.
    #[track_caller]
    pub fn property(&self, unit: &str, name: &str) -> String {
        let shown = self.systemctl(&["show", unit, "--value", "-p", name]).ok();
        shown.trim().to_owned()
    }

    /// Waits until a property of a unit is `value`.
    #[track_caller]
    pub fn wait_for(&self, unit: &str, name: &str, value: &str) {
        let end = Instant::now() + DEADLINE;
        loop {
            let found = self.property(unit, name);
            if found == value {
                return;
            }
            assert!(
                Instant::now() < end,
                "{unit}: {name} stays {found}, not {value}"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// A repository of the user's, with one commit, at `path` below the home.
    pub fn repo(self: &Arc<Self>, path: &str) -> UserRepo {
        UserRepo::new(self, self.home().join(path))
    }
}

impl Drop for UserManager {
    fn drop(&mut self) {
        if let Some(manager) = &mut self.manager {
            let _ = kill(Pid::from_raw(manager.id() as i32), Signal::SIGTERM);
            let end = Instant::now() + Duration::from_secs(10);
            while matches!(manager.try_wait(), Ok(None)) && Instant::now() < end {
                thread::sleep(Duration::from_millis(20));
            }
            let _ = manager.kill();
            let _ = manager.wait();
        }
        for group in &self.cgroups {
            cgroups::remove(group);
        }
        if let Some(journald) = &mut self.journald {
            let _ = kill(Pid::from_raw(journald.id() as i32), Signal::SIGTERM);
            let _ = journald.wait();
        }
        let _ = run(Command::new("userdel").arg(&self.user));
        let _ = fs::remove_dir_all(&self.base);
        if self.made_booted {
            let _ = fs::remove_dir(BOOTED);
        }
    }
}

/// Whether a journal takes lines; one that ended leaves its sockets behind.
fn journal_listens() -> bool {
    let stdout = "/run/systemd/journal/stdout";
    std::os::unix::net::UnixStream::connect(stdout).is_ok()
}
