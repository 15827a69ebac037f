//! Which paths a caller asks for. Each path of a tree is held against all of them: so that takes no
//! longer for many than for one.

use gix::bstr::{BStr, ByteSlice};

use super::RepoPath;

/// Files and folders that are asked for; none means everything.
pub(super) struct Wanted<'a> {
    /// In order.
    paths: Vec<&'a BStr>,
}

impl<'a> Wanted<'a> {
    pub(super) fn new(paths: &'a [RepoPath]) -> Self {
        let mut paths: Vec<_> = paths.iter().map(RepoPath::as_bstr).collect();
        paths.sort_unstable();
        Self { paths }
    }

    /// Whether the path is one of those, or lies below one.
    pub(super) fn covers(&self, path: &BStr) -> bool {
        let is_one = |path: &BStr| self.paths.binary_search(&path).is_ok();
        let mut folders = path.find_iter(b"/").map(|slash| path[..slash].as_bstr());
        self.paths.is_empty() || is_one(BStr::new(b"")) || is_one(path) || folders.any(is_one)
    }

    /// Whether one of those lies below the path.
    pub(super) fn leads_below(&self, path: &BStr) -> bool {
        let begins =
            |wanted: &BStr| wanted.starts_with(path) && wanted.get(path.len()) == Some(&b'/');
        let mut folder = path.to_owned();
        folder.push(b'/');
        let at = self
            .paths
            .partition_point(|wanted| *wanted < folder.as_bstr());
        self.paths.get(at).is_some_and(|wanted| begins(wanted))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_path_is_asked_for_by_itself_or_by_a_folder_around_it() {
        let paths = ["a/b", "a-b", "c"].map(|path| RepoPath::parse(Path::new("/r"), path).unwrap());
        let wanted = Wanted::new(&paths);
        for path in ["a/b", "a/b/c/d", "a-b", "a-b/x", "c", "c/d"] {
            assert!(wanted.covers(path.into()), "{path}");
        }
        for path in ["a", "a/bb", "a/b.c", "b", "cc", "a-b.c"] {
            assert!(!wanted.covers(path.into()), "{path}");
        }
        assert!(wanted.leads_below("a".into()));
        assert!(!wanted.leads_below("a/b".into()) && !wanted.leads_below("a-".into()));
        assert!(Wanted::new(&[]).covers("x/y".into()));
    }
}
