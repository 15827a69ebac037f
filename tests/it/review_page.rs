//! The page of a review through the socket: its numbers are Git's, its words the author's, and its
//! order that in which a reviewer wants to read.

use std::{fmt::Write, fs, os::unix::fs::PermissionsExt};

use heddle_agent::grpc_local_impl::proto::v1::{
    GetReviewPayloadRequest, PathSymbolRef, ReadingStep, ReviewPayload,
};
use tonic::{Status, transport::Channel};

use crate::{discussions::commit, harness::TestRepo, signing::reviews, states::capture};

/// The page of a state.
pub async fn page_of(channel: &Channel, state: &[u8]) -> Result<ReviewPayload, Status> {
    let request = GetReviewPayloadRequest {
        state_id: state.to_vec(),
        ..Default::default()
    };
    let page = reviews(channel).get_review_payload(request).await?;
    Ok(page.into_inner())
}

pub async fn page(channel: &Channel, state: &[u8]) -> ReviewPayload {
    page_of(channel, state).await.unwrap()
}

fn place(at: &PathSymbolRef) -> String {
    match at.symbol.as_str() {
        "" => at.file.clone(),
        symbol => format!("{}:{symbol}", at.file),
    }
}

fn steps(text: &mut String, name: &str, at: &[PathSymbolRef], steps: &[ReadingStep]) {
    assert_eq!(at.len(), steps.len());
    writeln!(text, "{name}").unwrap();
    for (at, step) in at.iter().zip(steps) {
        let change = step.change().as_str_name();
        let change = change.strip_prefix("STEP_CHANGE_").unwrap();
        write!(text, "  {} {}", place(at), change.to_lowercase()).unwrap();
        if !step.kind.is_empty() {
            let lines = (step.start_line, step.end_line);
            write!(text, " {} {}-{}", step.kind, lines.0, lines.1).unwrap();
        }
        if let Some(from) = &step.came_from {
            write!(text, " from {}", place(from)).unwrap();
        }
        if !step.left_out.is_empty() {
            write!(text, " ({})", step.left_out).unwrap();
        }
        text.push('\n');
    }
}

/// The reading order as text, a line for each step.
pub fn order(page: &ReviewPayload) -> String {
    let partition = page.partition.as_ref().unwrap();
    let mut text = String::new();
    steps(
        &mut text,
        "structural",
        &partition.structural,
        &partition.structural_steps,
    );
    steps(
        &mut text,
        "consequence",
        &partition.consequence,
        &partition.consequence_steps,
    );
    steps(
        &mut text,
        "tests and docs",
        &partition.tests_and_docs,
        &partition.tests_and_docs_steps,
    );
    text
}

/// Files, added and removed lines.
pub fn numbers(page: &ReviewPayload) -> (u32, u32, u32) {
    let summary = page.summary.as_ref().unwrap();
    (
        summary.files_changed,
        summary.added_lines,
        summary.removed_lines,
    )
}

/// The same, as Git has it for the newest commit.
pub fn of_git(repo: &TestRepo) -> (u32, u32, u32) {
    let counted = repo.git(&["diff", "-M", "--numstat", "HEAD~", "HEAD"]);
    counted.lines().fold((0, 0, 0), |sum, line| {
        let mut fields = line.split('\t');
        let mut number = || fields.next().unwrap().parse().unwrap_or(0);
        let (added, removed): (u32, u32) = (number(), number());
        (sum.0 + 1, sum.1 + added, sum.2 + removed)
    })
}

pub fn headline_of(page: &ReviewPayload) -> &str {
    &page.summary.as_ref().unwrap().headline
}

const CACHE_BEFORE: &str = "\
//! A cache.
use std::collections::HashMap;

pub const LIMIT: usize = 8;

pub struct Cache {
    entries: HashMap<String, u8>,
}

impl Cache {
    pub fn get(&self, key: &str) -> Option<u8> {
        self.entries.get(key).copied()
    }

    pub fn put(&mut self, key: &str, value: u8) {
        self.entries.insert(key.to_owned(), value);
    }

    pub fn drop_all(&mut self) {
        self.entries.clear();
        self.entries.shrink_to_fit();
    }
}

pub fn checksum(bytes: &[u8]) -> u32 {
    let mut sum = 0;
    for byte in bytes {
        sum += u32::from(*byte);
    }
    sum
}

#[cfg(test)]
mod tests {
    #[test]
    fn sums() {
        assert_eq!(super::checksum(&[1, 2]), 3);
    }
}
";

const CACHE_AFTER: &str = "\
//! A cache.
use std::collections::BTreeMap;

pub const LIMIT: usize = 16;

pub struct Cache {
    entries: BTreeMap<String, u8>,
}

impl Cache {
    pub fn get(&self, key: &str) -> Option<&u8> {
        self.entries.get(key)
    }

    pub fn put(&mut self, key: &str, value: u8) {
        // Bounded.
        if self.entries.len() < LIMIT {
            self.entries.insert(key.to_owned(), value);
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn sums() {
        assert_eq!(crate::sums::checksum(&[1, 2]), 3);
        assert_eq!(crate::sums::checksum(&[]), 0);
    }
}
";

const LOADER: &str = "\
class Loader:
    def load(self, path):
        text = open(path).read()
        words = text.split()
        return words

    def names(self, words):
        return sorted(set(words))

    def sizes(self, words):
        return [len(word) for word in words]

    def close(self):
        return None
";

const CHECKSUM: &str = "\
pub fn checksum(bytes: &[u8]) -> u32 {
    let mut sum = 0;
    for byte in bytes {
        sum += u32::from(*byte);
    }
    sum
}
";

/// A commit with much in it, and one that changes it in every way.
fn changed_in_every_way(repo: &TestRepo) -> Vec<u8> {
    for folder in ["src", "tests", "docs", "web", "conf"] {
        fs::create_dir_all(repo.path(folder)).unwrap();
    }
    let write = |path: &str, text: &str| fs::write(repo.path(path), text).unwrap();
    let gone = |path: &str| fs::remove_file(repo.path(path)).unwrap();
    write("src/cache.rs", CACHE_BEFORE);
    write(
        "src/gone.go",
        "package gone\n\ntype Gone struct{ n int }\n\nfunc (g *Gone) Count() int {\n\treturn g.n\n}\n",
    );
    write("src/loader.py", LOADER);
    write(
        "src/same.ts",
        "export function same(): number {\n  return 1;\n}\n",
    );
    write("tests/loads.py", "def test_loads():\n    assert True\n");
    write("docs/guide.md", "# Guide\n\nRead.\n");
    write("conf/app.toml", "a = 1\nb = 2\nc = 3\nd = 4\n");
    write("conf/old.ini", "[x]\nkey=value\nother=value\nmore=values\n");
    write("run.sh", "#!/bin/sh\necho hi\n");
    fs::write(repo.path("logo.png"), b"\x89PNG\0\0\x01").unwrap();
    std::os::unix::fs::symlink("src/cache.rs", repo.path("link")).unwrap();
    write("becomes-link", "text\n");
    commit(repo, "before");

    write("src/cache.rs", CACHE_AFTER);
    write("src/sums.rs", CHECKSUM);
    gone("src/gone.go");
    // Renamed, with a symbol of another body and one that is gone.
    gone("src/loader.py");
    let reader = LOADER.replace("open(path).read()", "opened(path)");
    let (reader, _) = reader.split_once("    def close").unwrap();
    write("src/reader.py", reader);
    write(
        "src/same.ts",
        "// A comment and nothing else.\nexport function same(): number {\n  return 1;\n}\n",
    );
    write(
        "tests/loads.py",
        "def test_loads():\n    assert 1\n\n\ndef test_more():\n    assert 2\n",
    );
    write("docs/guide.md", "# Guide\n\nRead it all.\n");
    write("README", "hello again\n");
    write("conf/app.toml", "a = 1\nb = 2\nc = 3\nd = 5\n");
    gone("conf/old.ini");
    write("conf/new.ini", "[x]\nkey=value\nother=value\nmore=value\n");
    fs::set_permissions(repo.path("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(repo.path("logo.png"), b"\x89PNG\0\0\x02").unwrap();
    gone("link");
    std::os::unix::fs::symlink("src/sums.rs", repo.path("link")).unwrap();
    gone("becomes-link");
    std::os::unix::fs::symlink("README", repo.path("becomes-link")).unwrap();
    repo.git(&["init", "-q", "sub"]);
    let sub = repo.path("sub");
    let sub = sub.to_str().unwrap();
    repo.git(&[
        "-C",
        sub,
        "-c",
        "user.name=A",
        "-c",
        "user.email=a@b",
        "commit",
        "-qm",
        "x",
        "--allow-empty",
    ]);
    commit(
        repo,
        "Bound the cache\n\nIt grew for ever.\n\nSigned-off-by: Ada <ada@example.com>",
    )
}

const EVERY_WAY: &str = "\
structural
  becomes-link type
  conf/new.ini moved from conf/old.ini
  src/cache.rs:LIMIT shape constant 4-4
  src/cache.rs:Cache shape struct 6-8
  src/cache.rs:Cache::get shape method 11-13
  src/cache.rs:Cache::len added method 22-24
  src/cache.rs:Cache::drop_all removed method 19-22
  src/gone.go:Gone removed struct 3-3
  src/gone.go:Gone::Count removed method 5-7
  src/loader.py:Loader::close removed method 13-14
  src/reader.py moved from src/loader.py
  sub added
consequence
  conf/app.toml body
  link body
  logo.png body
  run.sh body
  src/cache.rs:Cache::put body method 15-20
  src/reader.py:Loader::load body method 2-5
  src/same.ts body
  src/sums.rs:checksum moved function 1-7 from src/cache.rs:checksum
tests and docs
  README body
  docs/guide.md body
  src/cache.rs:tests::sums body function 29-33
  tests/loads.py:test_loads body function 1-2
  tests/loads.py:test_more added function 5-6
";

#[tokio::test]
async fn a_change_is_read_from_what_its_users_see_to_its_tests() {
    let repo = TestRepo::new();
    let state = changed_in_every_way(&repo);
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let page = page(&channel, &state).await;
    assert_eq!(numbers(&page), of_git(&repo));
    assert_eq!(order(&page), EVERY_WAY);
}

/// Changes files at random: as many lines, names and modes as come up.
fn change_at_random(repo: &TestRepo, next: &mut impl FnMut(u32) -> u32) {
    for _ in 0..1 + next(8) {
        let path = format!("{}{}", ["a/", "b/c/", ""][next(3) as usize], next(6));
        let path = repo.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut text = fs::read(&path).unwrap_or_default();
        match next(6) {
            0 => drop(fs::remove_file(&path)),
            1 => {
                let to = repo.path(format!("moved-{}", next(1000)));
                drop(fs::rename(&path, to));
            }
            2 => {
                text.push(0);
                fs::write(&path, text).unwrap();
            }
            _ => {
                for _ in 0..next(40) {
                    text.extend(format!("line {}\n", next(1_000_000)).bytes());
                }
                let cut = text.len().min(next(2_000) as usize);
                fs::write(&path, &text[text.len() - cut..]).unwrap();
                let mode = [0o644, 0o755][next(2) as usize];
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn the_numbers_are_those_of_git_for_whatever_changes() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let mut random = 0x9e37_79b9_u64;
    let mut next = |below: u32| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % u64::from(below)) as u32
    };
    let mut renames = 0;
    for round in 0..25 {
        change_at_random(&repo, &mut next);
        repo.git(&["add", "-A"]);
        repo.git(&["commit", "-q", "--allow-empty", "-m", "x"]);
        let page = page(&channel, &[]).await;
        assert_eq!(numbers(&page), of_git(&repo), "round {round}");
        renames += order(&page).matches(" from ").count();
    }
    assert!(renames > 0, "nothing was renamed");
}

#[tokio::test]
async fn the_words_are_those_of_the_author_without_what_heddle_put_below() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let said = async |intent: &str| {
        fs::write(repo.path("work"), uuid::Uuid::new_v4().to_string()).unwrap();
        let state = capture(&channel, intent).await.unwrap().state_id;
        let page = page(&channel, &state).await;
        (headline_of(&page).to_owned(), page.agent_narrative)
    };
    let (headline, narrative) = said("Work\n\nFor a reason.\nself-flag: not sure").await;
    assert_eq!(headline, "Work");
    assert_eq!(narrative, "For a reason.\nself-flag: not sure");
    assert_eq!(
        said("Only a line").await,
        ("Only a line".into(), String::new())
    );
    let numbers = "1 file changed, 1 line added, 1 removed";
    assert_eq!(said("").await, (numbers.into(), String::new()));

    fs::write(repo.path("work"), "more\n").unwrap();
    let long = format!("{}\n{}", "ü".repeat(1_000), "é".repeat(50_000));
    let long = page(&channel, &commit(&repo, &long)).await;
    let (headline, narrative) = (headline_of(&long), &long.agent_narrative);
    assert!(
        headline.len() <= 512 && headline.ends_with("ü…"),
        "{headline}"
    );
    assert!(narrative.len() <= 64 * 1024 && narrative.ends_with("é…"));

    fs::write(repo.path("work"), "at last\n").unwrap();
    let state = commit(
        &repo,
        "Title\n\nText\n\nHeddle-Thread: main\nReviewed-by: Eve",
    );
    let page = page(&channel, &state).await;
    assert_eq!(headline_of(&page), "Title");
    assert_eq!(page.agent_narrative, "Text\n\nReviewed-by: Eve");
}

#[tokio::test]
async fn what_moved_is_told_from_what_is_new_and_short_ones_are_alike_by_chance() {
    let repo = TestRepo::new();
    let write = |path: &str, text: &str| fs::write(repo.path(path), text).unwrap();
    let long = "fn NAME(a: u8) -> u8 {\n    let b = a + 1;\n    b * 2\n}\n";
    let short = "const NAME: u8 = 1;\n";
    write(
        "a.rs",
        &[
            long.replace("NAME", "stays"),
            long.replace("NAME", "before"),
            short.replace("NAME", "ONE"),
            short.replace("NAME", "SAME"),
        ]
        .concat()
        .replace("b * 2\n}\nfn before", "b * 3\n}\nfn before"),
    );
    commit(&repo, "before");
    write(
        "a.rs",
        &[
            long.replace("NAME", "stays"),
            long.replace("NAME", "after"),
            short.replace("NAME", "TWO"),
        ]
        .concat()
        .replace("b * 2\n}\nfn after", "b * 3\n}\nfn after"),
    );
    write("b.rs", &short.replace("NAME", "SAME"));
    let state = commit(&repo, "after");
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let wanted = "\
structural
  a.rs:after moved function 5-8 from a.rs:before
  a.rs:TWO added constant 9-9
  a.rs:ONE removed constant 9-9
consequence
  b.rs:SAME moved constant 1-1 from a.rs:SAME
tests and docs
";
    assert_eq!(order(&page(&channel, &state).await), wanted);
}
