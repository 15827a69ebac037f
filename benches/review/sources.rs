//! Plausible sources in seven languages, the same on every run: types, constants, functions that call
//! each other across files, and tests of them.

use super::syntax::{LANGUAGES, Syntax};
use crate::shared::worktree::{Files, Random};

/// What a worktree of sources is made of.
pub const SOURCES: Files = Files { path, text };

/// Of so many files of a language, the last has tests of the others.
const TESTED: usize = 5;
/// Functions that every file has at least; only these are called from others.
const CALLED: usize = 3;
/// Files of a language, of those before, that a file calls.
const NEAR: usize = 40;
/// Files of a language that all others call now and then.
const COMMON: usize = 20;

/// Whether a file defines what others call, and is called by them: neither tests nor what all call.
pub fn is_ordinary(n: usize) -> bool {
    let place = Place::of(n);
    place.turn > COMMON && !place.is_test()
}

/// A file among those of its language.
#[derive(Clone, Copy)]
struct Place {
    language: usize,
    turn: usize,
}

impl Place {
    fn of(n: usize) -> Self {
        Self {
            language: n % LANGUAGES.len(),
            turn: n / LANGUAGES.len(),
        }
    }

    fn syntax(self) -> &'static Syntax {
        &LANGUAGES[self.language]
    }

    fn is_test(self) -> bool {
        self.turn % (TESTED + 1) == TESTED
    }

    /// The name of what it defines at this position.
    fn defined(self, position: usize) -> String {
        let turn = self.turn;
        let verb = VERBS[(turn * 7 + position * 3) % VERBS.len()];
        let noun = NOUNS[(turn + position) % NOUNS.len()];
        if self.syntax().camel {
            format!("{verb}{}{turn}x{position}", capital(noun))
        } else {
            format!("{verb}_{noun}_{turn}_{position}")
        }
    }

    /// The name of a function of another file, as it might be called from here.
    fn callee(self, random: &mut Random) -> String {
        let turn = if random.below(8) == 0 {
            random.below(COMMON)
        } else {
            self.turn.saturating_sub(1 + random.below(NEAR))
        };
        let called = Self { turn, ..self };
        let called = Self {
            turn: turn.saturating_sub(usize::from(called.is_test())),
            ..self
        };
        called.defined(random.below(CALLED))
    }
}

fn path(n: usize) -> String {
    const BELOW: &[&str] = &[
        "core", "parser", "net", "ui", "storage", "common", "internal", "api", "models", "render",
    ];
    const FILES_EACH: usize = 84;
    let place = Place::of(n);
    let mut path = String::from("src");
    let mut folder = n / FILES_EACH;
    while folder > 0 {
        path.push('/');
        path.push_str(BELOW[folder % BELOW.len()]);
        folder /= BELOW.len();
    }
    let name = format!("{}_{n}", NOUNS[n % NOUNS.len()]);
    if place.is_test() {
        let file = place.syntax().test_file.replace("{name}", &name);
        format!("{path}/tests/{file}")
    } else {
        format!("{path}/{name}.{}", place.syntax().ends)
    }
}

/// The text of a file, as it is after so many changes. A change rewrites the first function and adds
/// another.
fn text(n: usize, change: usize) -> String {
    let place = Place::of(n);
    let syntax = place.syntax();
    let mut text = syntax.head.replace("{name}", NOUNS[n % NOUNS.len()]);
    if place.is_test() {
        add_tests(&mut text, place);
        return text;
    }
    let mut random = Random(n as u64);
    let limit = capital(&place.defined(99)).to_uppercase();
    text += "\n";
    text += &filled(syntax.constant, &limit, "", &mut random);
    text += "\n";
    let kind = format!("{}{}", capital(NOUNS[n % NOUNS.len()]), place.turn);
    let callee = place.callee(&mut random);
    text += &filled(syntax.kind, "", &callee, &mut random).replace("{type}", &kind);
    // From 1 to 6 KiB, 3 KiB on the average.
    let size = (10.0 + 2.6 * random.unit()).exp2() as usize;
    let mut position = 0;
    while position < CALLED || text.len() < size {
        let mut own = Random((n * 1_000 + position) as u64);
        if position == 0 {
            own.0 += (change as u64) << 32;
        }
        add_function(&mut text, place, &place.defined(position), &mut own);
        position += 1;
    }
    if change > 0 {
        let added = format!("{}_{change}", place.defined(position));
        add_function(&mut text, place, &added, &mut random);
    }
    text
}

fn add_function(text: &mut String, place: Place, name: &str, random: &mut Random) {
    let syntax = place.syntax();
    let [begins, ends] = syntax.function;
    text.push('\n');
    *text += &filled(begins, name, "", random);
    for _ in 0..3 + random.below(5) {
        // Half of them are calls.
        let statement = random.below(2 * (syntax.statements.len() - 1));
        let statement = statement.saturating_sub(syntax.statements.len() - 2);
        let callee = place.callee(random);
        *text += &filled(syntax.statements[statement], name, &callee, random);
    }
    *text += ends;
}

fn add_tests(text: &mut String, place: Place) {
    let mut random = Random(place.turn as u64);
    for turn in place.turn - TESTED..place.turn {
        for position in 0..CALLED {
            let tested = Place { turn, ..place }.defined(position);
            text.push('\n');
            *text += &filled(place.syntax().test, &tested, &tested, &mut random);
        }
    }
}

fn filled(template: &str, name: &str, callee: &str, random: &mut Random) -> String {
    let number = 2 + random.below(4_000);
    template
        .replace("{name}", name)
        .replace("{callee}", callee)
        .replace("{k}", &number.to_string())
}

fn capital(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_uppercase() + rest
}

const VERBS: &[&str] = &[
    "read", "write", "open", "close", "parse", "render", "find", "merge", "split", "collect",
    "count", "encode", "decode", "resolve", "check", "update", "remove", "follow", "restore",
];

const NOUNS: &[&str] = &[
    "state", "thread", "entry", "index", "folder", "session", "buffer", "request", "answer",
    "token", "cursor", "window", "record", "queue", "account", "filter", "header",
];
