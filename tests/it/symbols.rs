//! Symbols: what each language's sample defines and refers to, and what may be in a file besides.

use std::{env, fmt::Write as _, fs, path::Path};

use heddle_agent::symbol::{Definition, Outline, SIZE_LIMIT, language_of, outline};

/// An outline as text, one line for each definition and reference.
fn render(outline: &Outline) -> String {
    let mut text = String::new();
    let name = |index: u32| &outline.definitions[index as usize].name;
    for it in &outline.definitions {
        let (first, last) = it.lines;
        let test = if it.is_test { " (test)" } else { "" };
        let implied = if it.is_implied { " (implied)" } else { "" };
        let kind = it.kind.as_str();
        writeln!(text, "{first}-{last} {kind} {}{test}{implied}", it.name).unwrap();
        if let Some(parent) = it.parent {
            assert!(outline.definitions[parent as usize].lines.1 >= last);
        }
    }
    for it in &outline.references {
        let qualifier = it.qualifier.as_deref().unwrap_or_default();
        let from = it.from.map_or("", |from| name(from));
        writeln!(text, "{} {from} -> {qualifier} {}", it.line, it.name).unwrap();
    }
    if outline.broken {
        text.push_str("broken\n");
    }
    text
}

fn of(name: &str, source: &str) -> Outline {
    outline(language_of(name.as_bytes()).unwrap(), source.as_bytes())
}

fn one<'a>(outline: &'a Outline, name: &'a str) -> &'a Definition {
    let mut named = outline.named(name);
    let found = named.next();
    found.unwrap_or_else(|| panic!("no {name} in:\n{}", render(outline)))
}

/// Run with `UPDATE_DOCS=1` to write the golden files anew, and read what changed.
#[test]
fn each_language_finds_in_its_sample_what_is_there() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/symbol/language");
    let mut samples = 0;
    for language in fs::read_dir(folder).unwrap() {
        for file in fs::read_dir(language.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if !name.starts_with("sample.") || name.ends_with(".golden") {
                continue;
            }
            samples += 1;
            let found = render(&of(name, &fs::read_to_string(&path).unwrap()));
            let golden = path.with_file_name(format!("{name}.golden"));
            if env::var_os("UPDATE_DOCS").is_some() {
                fs::write(&golden, &found).unwrap();
            }
            let golden = fs::read_to_string(&golden).unwrap_or_default();
            assert_eq!(found, golden, "{}", path.display());
        }
    }
    assert_eq!(samples, 7);
}

#[test]
fn comments_and_white_space_are_no_change_and_a_body_is_none_of_the_shape() {
    let before = of("a.rs", "/// Doc.\nfn f(a: u8) -> u8 { a + 1 }");
    let before = one(&before, "f");
    let same = of(
        "a.rs",
        "// moved\n\nfn f(a: u8)\n  -> u8 {\n  /* why */ a + 1\n}\n",
    );
    let same = one(&same, "f");
    assert_eq!((same.text, same.shape), (before.text, before.shape));
    assert_eq!(same.lines, (3, 6));
    let body = of("a.rs", "fn f(a: u8) -> u8 { a + 2 }");
    let body = one(&body, "f");
    assert_ne!(body.text, before.text);
    assert_eq!(body.shape, before.shape);
    for changed in [
        "fn f(a: u16) -> u8 { a + 1 }",
        "pub fn f(a: u8) -> u8 { a + 1 }",
        "#[inline]\nfn f(a: u8) -> u8 { a + 1 }",
    ] {
        let changed = of("a.rs", changed);
        assert_ne!(one(&changed, "f").shape, before.shape);
    }
    let string = |text| one(&of("a.rs", text), "f").text;
    assert_ne!(
        string("fn f() { g(\"a b\") }"),
        string("fn f() { g(\"a  b\") }")
    );
}

#[test]
fn white_space_that_means_something_is_a_change() {
    let inside = of("a.py", "def f(x):\n    if x:\n        a()\n        b()\n");
    let outside = of("a.py", "def f(x):\n    if x:\n        a()\n    b()\n");
    let wider = of("a.py", "def f(x):\n  if x:\n     a()\n     b()\n");
    assert_ne!(one(&inside, "f").text, one(&outside, "f").text);
    assert_eq!(one(&inside, "f").text, one(&wider, "f").text);
}

#[test]
fn what_is_only_renamed_is_known_again() {
    let before = of("a.go", "func (c *Cache) Get(k int) int { return c.m[k] }");
    let after = of("b.go", "func (c *Cache) Fetch(k int) int { return c.m[k] }");
    let (before, after) = (one(&before, "Cache::Get"), one(&after, "Cache::Fetch"));
    assert_eq!(before.unnamed, after.unnamed);
    assert_ne!(before.text, after.text);
    let class = |name| {
        of(
            "a.py",
            &format!("class {name}:\n    def get(self):\n        return 1\n"),
        )
    };
    let (before, after) = (class("A"), class("B"));
    assert_eq!(one(&before, "A").unnamed, one(&after, "B").unnamed);
    assert_eq!(
        one(&before, "A::get").unnamed,
        one(&after, "B::get").unnamed
    );
}

#[test]
fn a_method_that_changes_changes_its_class_and_not_what_the_class_itself_says() {
    let class = |body: &str| {
        let text = format!("class A {{\n  get() {{ return {body}; }}\n  put() {{}}\n}}\n");
        of("a.js", &text)
    };
    let (before, after) = (class("1"), class("2"));
    let (a, b) = (one(&before, "A"), one(&after, "A"));
    assert_ne!(a.text, b.text);
    assert_eq!((a.own, a.shape), (b.own, b.shape));
    assert_eq!(one(&before, "A::put"), one(&after, "A::put"));
}

#[test]
fn a_file_that_does_not_parse_gives_what_it_can() {
    let outline = of(
        "a.rs",
        "fn before() {}\nfn broken( {\nstruct After;\nfn last() {}\n",
    );
    assert!(outline.broken);
    one(&outline, "before");
    one(&outline, "last");
    assert!(!of("a.rs", "").broken);
}

/// Each ends, without a panic, and with a bounded outline.
#[test]
fn g8_whatever_is_in_a_file_its_outline_is_bounded() {
    let long = "x".repeat(SIZE_LIMIT);
    let repeated = |text: &str| text.repeat((1 << 15) / text.len());
    let mut noise = Vec::with_capacity(1 << 14);
    let mut state = 1_u64;
    while noise.len() < 1 << 14 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        noise.push((state >> 56) as u8);
    }
    let sources: [Vec<u8>; 13] = [
        repeated("fn f() {").into_bytes(),
        repeated("impl A { fn f() {").into_bytes(),
        repeated("class A { m() {").into_bytes(),
        "{".repeat(SIZE_LIMIT).into_bytes(),
        repeated("((a.").into_bytes(),
        // A call in a call in a call.
        format!("x = a{};\n", ".a()".repeat(100_000)).into_bytes(),
        repeated("if a:\n").into_bytes(),
        repeated("def f(): g();").into_bytes(),
        ["fn ", &long, "() {}"].concat().into_bytes(),
        ["const S: &str = \"", &long, "\";"].concat().into_bytes(),
        noise,
        b"fn caf\xc3\xa9() {}\nfn bad\xff() {}\0fn after() {}".to_vec(),
        b"\xef\xbb\xbffn with_a_mark() {}".to_vec(),
    ];
    std::thread::scope(|scope| {
        for ending in ["c", "go", "js", "py", "rs", "ts", "tsx"] {
            let sources = &sources;
            scope.spawn(move || {
                let language = language_of(format!("a.{ending}").as_bytes()).unwrap();
                for source in sources {
                    let outline = outline(language, source);
                    assert!(outline.definitions.len() <= 20_000);
                    assert!(outline.references.len() <= 200_000);
                    let names = outline.definitions.iter().map(|it| it.name.len());
                    assert!(names.max().unwrap_or_default() <= 512);
                }
            });
        }
    });
}
