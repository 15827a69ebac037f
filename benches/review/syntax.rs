//! How a language writes what the sources are made of. In the templates `{name}` is what is defined,
//! `{callee}` what is called, `{type}` a type of the file and `{k}` a number.

/// A language, by its templates.
pub struct Syntax {
    /// What the names of its files end in.
    pub ends: &'static str,
    /// What the name of a file of tests is made of, from the file's own.
    pub test_file: &'static str,
    /// Names as in `readState`, in place of `read_state`.
    pub camel: bool,
    /// The first lines of a file.
    pub head: &'static str,
    /// A constant.
    pub constant: &'static str,
    /// A type with a method, where the language has them.
    pub kind: &'static str,
    /// The first lines of a function, and what ends it.
    pub function: [&'static str; 2],
    /// What is in a function: calls first, which are the most of it.
    pub statements: [&'static str; 4],
    /// A test of a function.
    pub test: &'static str,
}

/// All of them: files take turns.
pub const LANGUAGES: [Syntax; 7] = [RUST, PYTHON, JAVASCRIPT, TYPESCRIPT, TSX, GO, C];

const RUST: Syntax = Syntax {
    ends: "rs",
    test_file: "{name}_test.rs",
    camel: false,
    head: "//! What becomes of {name}, and who is told.\n\nuse std::collections::HashMap;\n",
    constant: "/// Entries at most.\npub const {name}: usize = {k};\n",
    kind: "/// A {type} with what it holds.
#[derive(Debug, Default, Clone)]
pub struct {type} {
    entries: HashMap<String, usize>,
    limit: usize,
}

impl {type} {
    /// Takes one in, where there is room.
    pub fn insert(&mut self, key: &str, value: usize) -> bool {
        if self.entries.len() >= self.limit {
            return false;
        }
        self.entries.insert(key.to_owned(), {callee}(key, value)).is_none()
    }
}
",
    function: [
        "/// Counts what `input` leads to.\npub fn {name}(input: &str, limit: usize) -> usize {\n    let mut total = limit;\n",
        "    total\n}\n",
    ],
    statements: [
        "    total += {callee}(input, total);\n",
        "    if total > {k} {\n        return total - {k};\n    }\n",
        "    for step in 0..limit {\n        total = total.wrapping_mul({k}) ^ step;\n    }\n",
        "    // {k} is what the format has room for.\n    total = total.min({k});\n",
    ],
    test: "#[test]\nfn {name}_is_bounded() {\n    assert!({callee}(\"input\", {k}) <= {k});\n}\n",
};

const PYTHON: Syntax = Syntax {
    ends: "py",
    test_file: "test_{name}.py",
    camel: false,
    head: "\"\"\"What becomes of {name}, and who is told.\"\"\"\n\nimport logging\n\nlog = logging.getLogger(__name__)\n",
    constant: "{name} = {k}\n",
    kind: "class {type}:
    \"\"\"A {type} with what it holds.\"\"\"

    def __init__(self, limit=16):
        self.entries = {}
        self.limit = limit

    def insert(self, key, value):
        \"\"\"Takes one in, where there is room.\"\"\"
        if len(self.entries) >= self.limit:
            return False
        self.entries[key] = {callee}(key, value)
        return True
",
    function: [
        "def {name}(text, limit):\n    \"\"\"Counts what the text leads to.\"\"\"\n    total = limit\n",
        "    return total\n",
    ],
    statements: [
        "    total += {callee}(text, total)\n",
        "    if total > {k}:\n        return total - {k}\n",
        "    for step in range(limit):\n        total = (total * {k}) ^ step\n",
        "    # {k} is what the format has room for.\n    total = min(total, {k})\n",
    ],
    test: "def test_{name}_is_bounded():\n    assert {callee}(\"input\", {k}) <= {k}\n",
};

const JAVASCRIPT: Syntax = Syntax {
    ends: "js",
    test_file: "{name}.test.js",
    camel: true,
    head: "// What becomes of {name}, and who is told.\nimport { strict as assert } from 'node:assert';\n",
    constant: "export const {name} = {k};\n",
    kind: "export class {type} {
  constructor(limit = 16) {
    this.entries = new Map();
    this.limit = limit;
  }

  // Takes one in, where there is room.
  insert(key, value) {
    if (this.entries.size >= this.limit) {
      return false;
    }
    this.entries.set(key, {callee}(key, value));
    return true;
  }
}
",
    function: [
        "// Counts what the text leads to.\nexport function {name}(text, limit) {\n  let total = limit;\n",
        "  return total;\n}\n",
    ],
    statements: BRACED,
    test: "test('{name} is bounded', () => {\n  assert.ok({callee}('input', {k}) <= {k});\n});\n",
};

const BRACED: [&str; 4] = [
    "  total += {callee}(text, total);\n",
    "  if (total > {k}) {\n    return total - {k};\n  }\n",
    "  for (let step = 0; step < limit; step += 1) {\n    total = (total * {k}) ^ step;\n  }\n",
    "  // {k} is what the format has room for.\n  total = Math.min(total, {k});\n",
];

const TYPESCRIPT: Syntax = Syntax {
    ends: "ts",
    test_file: "{name}.test.ts",
    camel: true,
    head: "// What becomes of {name}, and who is told.\nimport { expect, test } from 'vitest';\n",
    constant: "export const {name}: number = {k};\n",
    kind: "export interface {type}Options {
  limit: number;
}

export class {type} {
  private entries = new Map<string, number>();

  constructor(private readonly options: {type}Options) {}

  // Takes one in, where there is room.
  insert(key: string, value: number): boolean {
    if (this.entries.size >= this.options.limit) {
      return false;
    }
    this.entries.set(key, {callee}(key, value));
    return true;
  }
}
",
    function: [
        "// Counts what the text leads to.\nexport function {name}(text: string, limit: number): number {\n  let total = limit;\n",
        "  return total;\n}\n",
    ],
    statements: BRACED,
    test: "test('{name} is bounded', () => {\n  expect({callee}('input', {k})).toBeLessThanOrEqual({k});\n});\n",
};

const TSX: Syntax = Syntax {
    ends: "tsx",
    test_file: "{name}.test.tsx",
    kind: "interface {type}Props {
  title: string;
  entries: string[];
}

export function {type}({ title, entries }: {type}Props) {
  return (
    <section className=\"panel\">
      <h2>{title}</h2>
      <ul>
        {entries.map((entry) => (
          <li key={entry}>{{callee}(entry, entries.length)}</li>
        ))}
      </ul>
    </section>
  );
}
",
    ..TYPESCRIPT
};

const GO: Syntax = Syntax {
    ends: "go",
    test_file: "{name}_test.go",
    camel: true,
    head: "// Package core tells what becomes of {name}.\npackage core\n\nimport \"strings\"\n",
    constant: "// {name} is how many entries there are at most.\nconst {name} = {k}\n",
    kind: "// {type} has what it holds.
type {type} struct {
	entries map[string]int
	limit   int
}

// Insert takes one in, where there is room.
func (it *{type}) Insert(key string, value int) bool {
	if len(it.entries) >= it.limit {
		return false
	}
	it.entries[strings.ToLower(key)] = {callee}(key, value)
	return true
}
",
    function: [
        "// {name} counts what the text leads to.\nfunc {name}(text string, limit int) int {\n\ttotal := limit\n",
        "\treturn total\n}\n",
    ],
    statements: [
        "\ttotal += {callee}(text, total)\n",
        "\tif total > {k} {\n\t\treturn total - {k}\n\t}\n",
        "\tfor step := 0; step < limit; step++ {\n\t\ttotal = (total * {k}) ^ step\n\t}\n",
        "\t// {k} is what the format has room for.\n\ttotal = min(total, {k})\n",
    ],
    test: "func Test_{name}(t *testing.T) {\n\tif {callee}(\"input\", {k}) > {k} {\n\t\tt.Fatal(\"it is not bounded\")\n\t}\n}\n",
};

const C: Syntax = Syntax {
    ends: "c",
    test_file: "test_{name}.c",
    camel: false,
    head: "/* What becomes of {name}, and who is told. */\n#include <stddef.h>\n#include <string.h>\n",
    constant: "#define {name} {k}\n",
    kind: "/* A {type} with what it holds. */
struct {type} {
    const char *keys[16];
    size_t values[16];
    size_t count;
};

/* Takes one in, where there is room. */
static int {type}_insert(struct {type} *it, const char *key, size_t value)
{
    if (it->count >= sizeof it->values / sizeof it->values[0])
        return 0;
    it->keys[it->count] = key;
    it->values[it->count++] = {callee}(key, value);
    return 1;
}
",
    function: [
        "/* Counts what the text leads to. */\nsize_t {name}(const char *text, size_t limit)\n{\n    size_t total = limit;\n",
        "    return total;\n}\n",
    ],
    statements: [
        "    total += {callee}(text, total);\n",
        "    if (total > {k})\n        return total - {k};\n",
        "    for (size_t step = 0; step < limit; step++)\n        total = (total * {k}) ^ step;\n",
        "    /* {k} is what the format has room for. */\n    total = total < {k} ? total : {k};\n",
    ],
    test: "static void test_{name}(void)\n{\n    if ({callee}(\"input\", {k}) > {k})\n        abort();\n}\n",
};
