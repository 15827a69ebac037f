//! The call graph of this very project, against what its code says; and the rules of each language.

use std::{env, fs, path::Path};

use heddle_agent::{
    deadline::Deadline,
    git::{GitDir, ObjectId},
    symbol::{Index, Reach, SymbolRef},
};

use crate::{
    harness::TestRepo,
    left_out::{commit, write},
};

struct Graph {
    _repo: TestRepo,
    git: GitDir,
    index: Index,
    tree: ObjectId,
}

impl Graph {
    fn of(repo: TestRepo) -> Self {
        let git = GitDir::open(&repo.path(".git")).unwrap();
        fs::create_dir_all(repo.store_dir()).unwrap();
        let index = Index::new(&repo.store_dir());
        let tree = commit(&repo);
        assert!(index.cover(&git, tree, &Deadline::default()).unwrap());
        Self {
            _repo: repo,
            git,
            index,
            tree,
        }
    }

    /// With these files.
    fn with(files: &[(&str, &str)]) -> Self {
        let repo = TestRepo::new();
        for (path, text) in files {
            write(&repo, path, text);
        }
        Self::of(repo)
    }

    /// Who calls a symbol, each once: `path:symbol`.
    fn callers(&self, symbol: &str) -> Vec<String> {
        let view = self.index.at(&self.git, self.tree);
        let found = view.callers(&reference(symbol), 1_000).unwrap();
        assert!(!found.truncated);
        let callers = found
            .callers
            .iter()
            .map(|it| format!("{}:{}", it.path, it.symbol.as_deref().unwrap_or_default()));
        let mut callers: Vec<_> = callers.collect();
        callers.sort();
        callers.dedup();
        callers
    }

    fn reach(&self, symbol: &str) -> Reach {
        let view = self.index.at(&self.git, self.tree);
        view.reached_from_tests(&reference(symbol), 8, 200).unwrap()
    }
}

fn reference(symbol: &str) -> SymbolRef {
    let (file, symbol) = symbol.split_once(':').unwrap();
    SymbolRef {
        file: file.to_owned(),
        symbol: symbol.to_owned(),
    }
}

fn copy(repo: &TestRepo, folder: &Path, to: &str) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let to = format!("{to}/{}", entry.file_name().to_str().unwrap());
        match entry.path().is_dir() {
            true => copy(repo, &entry.path(), &to),
            false => write(repo, &to, fs::read(entry.path()).unwrap()),
        }
    }
}

#[test]
fn the_callers_of_this_projects_own_functions_are_those_that_its_code_has() {
    let repo = TestRepo::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    copy(&repo, &root.join("src"), "src");
    let graph = Graph::of(repo);
    let of = |symbol: &str, expected: &[&str]| {
        assert_eq!(graph.callers(symbol), expected, "{symbol}");
    };
    // A function that is handed on, and one of a name that closures have, too.
    of(
        "src/symbol/parse.rs:is_readable",
        &["src/symbol/parse.rs:parse"],
    );
    of(
        "src/client/address.rs:address",
        &["src/cli/agent.rs:address"],
    );
    of(
        "src/git/name.rs:check_ref_name",
        &["src/thread/name.rs:ThreadName::parse"],
    );
    of(
        "src/local_daemon/idle.rs:idle",
        &["src/local_daemon/running.rs:Running::serve_until"],
    );
    of(
        "src/symbol/digest.rs:Text::add_nested",
        &["src/symbol/extract.rs:Walk::close_definition"],
    );
    of(
        "src/symbol/found.rs:Found::merge",
        &["src/symbol/found.rs:take"],
    );
    // Of names that everything has: `parse` of strings, `new` of collections.
    of(
        "src/local_daemon/pidfile.rs:PidFileContents::parse",
        &[
            "src/local_daemon/pidfile.rs:PidFileContents::read",
            "src/local_daemon/pidfile.rs:tests::a_pidfile_is_three_lines_and_nothing_else_is_one",
        ],
    );
    of(
        "src/git/wanted.rs:Wanted::new",
        &[
            "src/git/diff.rs:diff_trees",
            "src/git/wanted.rs:tests::a_path_is_asked_for_by_itself_or_by_a_folder_around_it",
        ],
    );
    // A value's type is not known: a method of that name may be meant, and never a function.
    let in_place = graph.callers("src/store/files.rs:Files::in_place");
    for caller in [
        "src/store/engine.rs:Store::in_place",
        "src/store/engine.rs:Store::open",
    ] {
        assert!(in_place.contains(&caller.to_owned()), "{in_place:?}");
    }
    let way = |symbol: &str| match graph.reach(symbol) {
        Reach::Reached(way) => way.iter().map(SymbolRef::to_string).collect(),
        other => vec![format!("{other:?}")],
    };
    // Each of these has one caller, so that there is one way up.
    assert_eq!(
        way("src/symbol/digest.rs:Text::add_nested")[..3],
        [
            "src/symbol/digest.rs:Text::add_nested",
            "src/symbol/extract.rs:Walk::close_definition",
            "src/symbol/extract.rs:Walk::leave",
        ]
    );
    // The tests of the command line run the program, which no name tells.
    assert!(matches!(
        graph.reach("src/main.rs:main"),
        Reach::NotReached { callers: 0, .. }
    ));
}

#[test]
fn what_stands_before_a_name_tells_who_is_meant() {
    let graph = Graph::with(&[
        (
            "store/cache.py",
            "class Cache:\n    def __init__(self):\n        self.load()\n    def load(self):\n        return fetch()\n\ndef fetch():\n    return 1\n",
        ),
        (
            "store/disk.py",
            "class Disk:\n    def load(self):\n        return self.load()\n\ndef fetch():\n    return 2\n",
        ),
        (
            "store/sub.py",
            "class Sub(Cache):\n    def again(self):\n        return self.load()\n",
        ),
        (
            "use.py",
            "import store.cache as c\nfrom store import disk\n\ndef one(x):\n    x.load()\n    Disk.load(x)\n    disk.fetch()\n    c.fetch()\n\ndef two():\n    return Cache()\n\ndef three():\n    Sub.load(1)\n    Other.load(1)\n",
        ),
        ("test_use.py", "def test_two():\n    assert two()\n"),
        ("use.go", "package use\n\nfunc load() { two() }\n"),
        (
            "ui/a.ts",
            "export function show() { return draw(); }\nfunction draw() { return 1; }\n",
        ),
        ("ui/a.test.tsx", "test('shows', () => { show(); });\n"),
    ]);
    let of = |symbol: &str| graph.callers(symbol);
    // Not `Disk.load`, nor what is in no type of this repository; the subclass may have inherited it.
    assert_eq!(
        of("store/cache.py:Cache::load"),
        [
            "store/cache.py:Cache::__init__",
            "store/sub.py:Sub::again",
            "use.py:one",
            "use.py:three"
        ]
    );
    assert_eq!(
        of("store/disk.py:Disk::load"),
        ["store/sub.py:Sub::again", "use.py:one", "use.py:three"]
    );
    assert_eq!(
        of("store/cache.py:fetch"),
        ["store/cache.py:Cache::load", "use.py:one"]
    );
    assert_eq!(of("store/disk.py:fetch"), ["use.py:one"]);
    assert_eq!(of("store/cache.py:Cache::__init__"), ["use.py:two"]);
    assert_eq!(of("ui/a.ts:draw"), ["ui/a.ts:show"]);
    assert_eq!(of("ui/a.ts:nothing"), [""; 0]);
    assert_eq!(of("none.ts:show"), [""; 0]);
    let way = |symbols: &[&str]| Reach::Reached(symbols.iter().map(|it| reference(it)).collect());
    assert_eq!(
        graph.reach("ui/a.ts:draw"),
        way(&["ui/a.ts:draw", "ui/a.ts:show", "ui/a.test.tsx:"])
    );
    assert_eq!(
        graph.reach("store/cache.py:Cache::__init__"),
        way(&[
            "store/cache.py:Cache::__init__",
            "use.py:two",
            "test_use.py:test_two"
        ])
    );
    assert_eq!(
        graph.reach("use.py:three"),
        Reach::NotReached {
            callers: 0,
            steps: 0
        }
    );
    let view = graph.index.at(&graph.git, graph.tree);
    let short = view
        .reached_from_tests(&reference("ui/a.ts:draw"), 1, 200)
        .unwrap();
    assert_eq!(short, Reach::Unknown { callers: 1 });
}

#[test]
fn what_is_handed_on_is_used_and_what_is_called_unnamed_may_be_called_by_anybody() {
    let graph = Graph::with(&[
        (
            "src/log.rs",
            "pub fn log_it(it: &str) {}\npub fn lost(it: &str) {}\n",
        ),
        (
            "src/use.rs",
            "use super::log::{log_it, lost as found};\n\
             struct Table { each: fn(&str) }\n\
             fn all(names: &[&str]) { names.iter().for_each(log_it); }\n\
             fn table() -> Table { Table { each: own } }\n\
             fn own(it: &str) { helper(); }\n\
             fn helper() {}\n\
             impl Drop for Table { fn drop(&mut self) { free(); } }\n\
             fn free() {}\n\
             fn main() { start(); }\n\
             fn start() {}\n",
        ),
        (
            "app.c",
            "static int run(void) { return 1; }\nstruct op ops[] = { { \"run\", run } };\n",
        ),
        (
            "views.py",
            "from forms import check\n\nclass Page:\n    @property\n    def title(self):\n        return made()\n\n\
             def made():\n    return [check]\n",
        ),
        ("forms.py", "def check():\n    pass\n"),
    ]);
    let of = |symbol: &str| graph.callers(symbol);
    assert_eq!(of("src/log.rs:log_it"), ["src/use.rs:all"]);
    assert_eq!(of("src/log.rs:lost"), [""; 0]);
    assert_eq!(of("src/use.rs:own"), ["src/use.rs:table"]);
    assert_eq!(of("app.c:run"), ["app.c:ops"]);
    assert_eq!(of("forms.py:check"), ["views.py:made"]);
    // No test leads there: but for what is called without being named, nothing does.
    for symbol in ["src/use.rs:helper", "src/log.rs:log_it"] {
        let reach = graph.reach(symbol);
        assert!(
            matches!(reach, Reach::NotReached { .. }),
            "{symbol}: {reach:?}"
        );
    }
    for symbol in [
        "src/use.rs:free",
        "src/use.rs:start",
        "views.py:made",
        "forms.py:check",
    ] {
        let reach = graph.reach(symbol);
        assert!(
            matches!(reach, Reach::Unknown { .. }),
            "{symbol}: {reach:?}"
        );
    }
}

#[test]
fn a_type_is_called_by_its_own_name_and_by_self_in_any_file() {
    let graph = Graph::with(&[
        (
            "src/lib.rs",
            "pub struct Cache;\nimpl Cache { pub fn parse(text: &str) -> Self { Cache } }\n\
             pub struct raw_t;\nimpl raw_t { pub fn build() -> Self { raw_t } }\n",
        ),
        (
            "src/open.rs",
            "impl Cache { pub fn open(path: &str) -> Self { Self::parse(path) } }\n\
             impl Other { pub fn open(path: &str) -> Self { Self::parse(path) } }\n",
        ),
        ("tests/raw.rs", "#[test]\nfn builds() { raw_t::build(); }\n"),
    ]);
    assert_eq!(
        graph.callers("src/lib.rs:Cache::parse"),
        ["src/open.rs:Cache::open"]
    );
    assert_eq!(
        graph.callers("src/lib.rs:raw_t::build"),
        ["tests/raw.rs:builds"]
    );
}
