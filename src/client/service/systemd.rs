//! `systemd --user`: templates as packaged, and a drop-in with what only this machine knows.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::{
    Error, Manager, Unit, ask,
    files::{MARKER, REPOSITORY},
    named_folder,
};

const SERVICE: &str = include_str!("../../../packaging/systemd/user/heddle-agent@.service");
const SOCKET: &str = include_str!("../../../packaging/systemd/user/heddle-agent@.socket");

/// What the units start as they are packaged.
pub(super) const PACKAGED_HEDDLE: &str = "/usr/bin/heddle";

/// Where distributions put user units (systemd.unit(5)).
const PACKAGED: &[&str] = &[
    "/etc/systemd/user",
    "/usr/local/lib/systemd/user",
    "/usr/lib/systemd/user",
    "/lib/systemd/user",
];

/// The user's systemd.
#[derive(Debug, Clone, Copy)]
pub struct Systemd;

impl Manager for Systemd {
    fn socket(&self, instance: &str) -> Result<PathBuf, Error> {
        Ok(runtime_dir()?
            .join("heddle")
            .join(format!("{instance}.sock")))
    }

    fn listener(&self, instance: &str) -> String {
        unit_name(instance, "socket")
    }

    fn files(&self, unit: &Unit) -> Result<Vec<(PathBuf, String)>, Error> {
        let folder = units_dir()?;
        let mut files = Vec::new();
        for (kind, template, drop_in) in [
            ("service", SERVICE, service_drop_in(unit)),
            ("socket", SOCKET, socket_drop_in(unit)),
        ] {
            let name = format!("heddle-agent@.{kind}");
            if !PACKAGED
                .iter()
                .any(|dir| Path::new(dir).join(&name).exists())
            {
                files.push((folder.join(name), format!("# {MARKER}\n{template}")));
            }
            let drop_ins = format!("heddle-agent@{}.{kind}.d", unit.instance);
            files.push((folder.join(drop_ins).join("50-heddle.conf"), drop_in));
        }
        Ok(files)
    }

    fn folder(&self) -> Result<PathBuf, Error> {
        units_dir()
    }

    fn enable(&self, unit: &Unit) -> Result<Vec<String>, Error> {
        let socket = self.listener(&unit.instance);
        systemctl(&["daemon-reload"])?;
        systemctl(&["enable", "--quiet", &socket])?;
        Ok(vec![
            "reloaded the user manager".to_owned(),
            format!("enabled {socket}: it listens from the next login on"),
        ])
    }

    fn disable(&self, unit: &Unit) -> Result<(), Error> {
        systemctl(&["disable", "--quiet", &self.listener(&unit.instance)])
    }

    fn forget(&self) -> Result<(), Error> {
        systemctl(&["daemon-reload"])
    }

    fn listen(&self, unit: &Unit) -> Result<(), Error> {
        systemctl(&["start", &self.listener(&unit.instance)])
    }

    fn stop(&self, unit: &Unit) -> Result<(), Error> {
        // Together: the socket alone would start the service again for whoever calls meanwhile.
        systemctl(&[
            "stop",
            &self.listener(&unit.instance),
            &unit_name(&unit.instance, "service"),
        ])
    }

    fn restart(&self, unit: &Unit) -> Result<bool, Error> {
        systemctl(&["restart", &unit_name(&unit.instance, "service")]).map(|()| true)
    }

    fn is_listening(&self, unit: &Unit) -> bool {
        systemctl(&["is-active", "--quiet", &self.listener(&unit.instance)]).is_ok()
    }
}

fn unit_name(instance: &str, kind: &str) -> String {
    format!("heddle-agent@{instance}.{kind}")
}

fn systemctl(arguments: &[&str]) -> Result<(), Error> {
    ask("systemctl", &[&["--user"], arguments].concat())
}

fn runtime_dir() -> Result<PathBuf, Error> {
    named_folder("XDG_RUNTIME_DIR").ok_or_else(|| {
        Error::Environment(
            "XDG_RUNTIME_DIR is not set, so there is no user manager to talk to; log in to a session of your own, or run `heddle agent serve`".to_owned(),
        )
    })
}

fn units_dir() -> Result<PathBuf, Error> {
    named_folder("XDG_CONFIG_HOME")
        .or_else(|| Some(named_folder("HOME")?.join(".config")))
        .map(|config| config.join("systemd").join("user"))
        .ok_or_else(|| Error::Environment("HOME is not set, so there is no place for units".into()))
}

fn header(unit: &Unit) -> String {
    format!(
        "# {MARKER}; `heddle agent uninstall` removes it.\n{REPOSITORY}{}\n",
        unit.repository.display()
    )
}

fn service_drop_in(unit: &Unit) -> String {
    let repository = quoted(unit.repository.as_os_str(), "$");
    format!(
        "{}\n[Unit]\nAssertPathIsDirectory={}\n\n[Service]\nExecStart=\nExecStart={} agent serve --repo {repository}\n",
        header(unit),
        plain(unit.repository.as_os_str()),
        quoted(unit.heddle.as_os_str(), "$"),
    )
}

fn socket_drop_in(unit: &Unit) -> String {
    format!(
        "{}\n[Unit]\nConditionPathIsDirectory={}\n\n[Socket]\nSymlinks={}\n",
        header(unit),
        // systemd makes the folders of a link: not for a repository that is gone.
        plain(unit.store.as_os_str()),
        quoted(unit.link.as_os_str(), ""),
    )
}

/// A path as one word of a unit file (systemd.syntax(7)): quoted, with specifiers, quotes and, in
/// command lines, variables taken literally.
fn quoted(path: &OsStr, doubled: &str) -> String {
    let mut word = String::from("\"");
    for c in String::from_utf8_lossy(path.as_bytes()).chars() {
        match c {
            '"' | '\\' => word.extend(['\\', c]),
            '%' => word.push_str("%%"),
            c if doubled.contains(c) => word.extend([c, c]),
            c => word.push(c),
        }
    }
    word.push('"');
    word
}

/// A path as the rest of a line: only specifiers mean something there.
fn plain(path: &OsStr) -> String {
    path.to_string_lossy().replace('%', "%%")
}

/// The instance that stands for a path, as `systemd-escape --path` has it (systemd.unit(5)).
pub(super) fn escaped(path: &Path) -> String {
    let names: Vec<&[u8]> = path
        .as_os_str()
        .as_bytes()
        .split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty())
        .collect();
    let joined = names.join(&b'/');
    if joined.is_empty() {
        return "-".to_owned();
    }
    let mut instance = String::new();
    for (index, byte) in joined.into_iter().enumerate() {
        match byte {
            b'/' => instance.push('-'),
            b'.' if index == 0 => instance.push_str("\\x2e"),
            b':' | b'_' | b'.' => instance.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => instance.push(char::from(byte)),
            byte => instance.push_str(&format!("\\x{byte:02x}")),
        }
    }
    instance
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_escaped_as_systemd_escape_does_it() {
        for (path, instance) in [
            ("/", "-"),
            ("//a//b c/", r"a-b\x20c"),
            ("/.hidden/.x", r"\x2ehidden-.x"),
            ("/a-b/ü%$", r"a\x2db-\xc3\xbc\x25\x24"),
            ("/x.y:z_1", "x.y:z_1"),
        ] {
            assert_eq!(escaped(Path::new(path)), instance);
        }
    }
}
