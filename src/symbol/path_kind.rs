//! What a file is for, by its path alone: the one rule for that.

use super::language_of;

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathKind {
    /// It is part of what is built or run, or nothing says otherwise.
    Source,
    /// It tests something, or is there for tests.
    Test,
    /// It is read by people.
    Doc,
}

/// Folders of what is there for tests.
const TEST_FOLDERS: [&[u8]; 9] = [
    b"test",
    b"tests",
    b"__tests__",
    b"__mocks__",
    b"spec",
    b"specs",
    b"testdata",
    b"testing",
    b"e2e",
];
/// Folders of documentation, unless they lie in one of source code.
const DOC_FOLDERS: [&[u8]; 3] = [b"doc", b"docs", b"documentation"];
const SOURCE_FOLDERS: [&[u8]; 3] = [b"src", b"lib", b"pkg"];
/// Endings of documentation.
const DOC_ENDINGS: [&[u8]; 7] = [
    b"md",
    b"markdown",
    b"rst",
    b"adoc",
    b"asciidoc",
    b"org",
    b"texi",
];
/// What documentation is called that needs no ending.
const DOC_NAMES: [&[u8]; 13] = [
    b"readme",
    b"changelog",
    b"changes",
    b"history",
    b"news",
    b"license",
    b"licence",
    b"copying",
    b"notice",
    b"contributing",
    b"authors",
    b"maintainers",
    b"security",
];

/// What the file at this path is for.
pub fn path_kind(path: &[u8]) -> PathKind {
    let mut parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let name = parts.pop().unwrap_or_default();
    let folders = parts;
    let in_one_of = |these: &[&[u8]]| folders.iter().position(|folder| these.contains(folder));
    let doc_folder = in_one_of(&DOC_FOLDERS);
    let source_folder = in_one_of(&SOURCE_FOLDERS);
    if is_doc_name(path, name) {
        PathKind::Doc
    } else if in_one_of(&TEST_FOLDERS).is_some() || is_test_name(name) {
        PathKind::Test
    } else if doc_folder.is_some_and(|doc| source_folder.is_none_or(|source| doc < source)) {
        PathKind::Doc
    } else {
        PathKind::Source
    }
}

/// Whether the file at this path is there for tests.
pub fn is_test_path(path: &[u8]) -> bool {
    path_kind(path) == PathKind::Test
}

fn is_doc_name(path: &[u8], name: &[u8]) -> bool {
    let lower = name.to_ascii_lowercase();
    let (stem, ending) = stem_and_ending(&lower);
    if DOC_ENDINGS.contains(&ending) {
        return true;
    }
    // `LICENSE-MIT` and `README.txt`, and not `license.rs`.
    let first = stem.split(|byte| matches!(byte, b'-' | b'.')).next();
    language_of(path).is_none()
        && matches!(ending, b"" | b"txt" | b"mit" | b"apache")
        && first.is_some_and(|first| DOC_NAMES.contains(&first))
}

/// As the runners of the languages find them: `test_a.py`, `a_test.go`, `a.test.ts`, `a.spec.js`,
/// `tests.rs`, `ATest.java`.
fn is_test_name(name: &[u8]) -> bool {
    let (stem, ending) = stem_and_ending(name);
    let ends = |these: &[&str]| these.iter().any(|it| stem.ends_with(it.as_bytes()));
    let is_python = matches!(ending, b"py" | b"pyi");
    matches!(stem, b"test" | b"tests" | b"conftest")
        || (is_python && stem.starts_with(b"test_"))
        || ends(&["_test", "_tests", "_spec", ".test", ".tests", ".spec"])
        || (matches!(ending, b"java" | b"kt" | b"cs" | b"swift") && ends(&["Test", "Tests"]))
}

/// A name without its ending, and its ending without the dot.
fn stem_and_ending(name: &[u8]) -> (&[u8], &[u8]) {
    match name.iter().rposition(|byte| *byte == b'.') {
        Some(0) | None => (name, b""),
        Some(dot) => (&name[..dot], &name[dot + 1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_tells_what_a_file_is_for() {
        let all = |kind, paths: &[&str]| {
            for path in paths {
                assert_eq!(path_kind(path.as_bytes()), kind, "{path}");
            }
        };
        all(
            PathKind::Test,
            &[
                "tests/it/main.rs",
                "tests/fault.c",
                "src/test/java/A.java",
                "ui/__tests__/a.tsx",
                "cache/cache_test.go",
                "a/test_cache.py",
                "a/cache_test.py",
                "a/conftest.py",
                "ui/a.test.ts",
                "ui/a.spec.js",
                "src/cache/tests.rs",
                "src/docs/tests/a.rs",
                "spec/a_spec.rb",
                "a/CacheTest.java",
            ],
        );
        all(
            PathKind::Doc,
            &[
                "README.md",
                "a/CHANGELOG",
                "LICENSE-MIT",
                "license.txt",
                "docs/conf.py",
                "doc/a.png",
                "book/guide.rst",
                "tests/README.md",
            ],
        );
        all(
            PathKind::Source,
            &[
                "src/main.rs",
                "src/license.rs",
                "src/doc/parse.rs",
                "src/latest.rs",
                "contest.go",
                "src/testable.py",
                "test_a.go",
                "requirements.txt",
                "CMakeLists.txt",
                ".gitignore",
                "",
                "a\u{fffd}/b",
            ],
        );
    }
}
