//! The conditions of `heddle hook listen --veto-if`: `changed_paths contains "secrets/"`, and more of
//! them joined with `and`, `or` and `not`. Nothing more: what needs more is a command's job.

use std::fmt;

use serde_json::Value;

/// A condition on an event's payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum VetoIf {
    Test(Test),
    Not(Box<VetoIf>),
    And(Box<VetoIf>, Box<VetoIf>),
    Or(Box<VetoIf>, Box<VetoIf>),
}

/// One field against one text. A list of texts meets it when one of them does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Test {
    field: String,
    how: How,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Is,
    IsNot,
    Contains,
    StartsWith,
    EndsWith,
}

/// What can be written, for help and errors.
pub(in crate::cli) const SYNTAX: &str =
    "FIELD contains|starts_with|ends_with|==|!= \"TEXT\", joined with and, or, not and ( )";

impl VetoIf {
    /// Reads a condition.
    pub(in crate::cli) fn parse(text: &str) -> Result<Self, String> {
        let tokens = tokens(text)?;
        let mut rest = Rest { tokens: &tokens };
        let read = rest.any_of()?;
        match rest.tokens.first() {
            None => Ok(read),
            Some(token) => Err(format!("nothing can stand at {token}; write {SYNTAX}")),
        }
    }

    /// Whether a payload meets it, and with what: the reason to give.
    pub(in crate::cli) fn met_by(&self, payload: &Value) -> Option<String> {
        match self {
            Self::Test(test) => test.met_by(payload),
            Self::Not(inner) => match inner.met_by(payload) {
                Some(_) => None,
                None => Some(format!("not ({inner})")),
            },
            Self::And(one, other) => {
                let (one, other) = (one.met_by(payload)?, other.met_by(payload)?);
                Some(format!("{one} and {other}"))
            }
            Self::Or(one, other) => one.met_by(payload).or_else(|| other.met_by(payload)),
        }
    }
}

impl Test {
    fn met_by(&self, payload: &Value) -> Option<String> {
        let value = self
            .field
            .split('.')
            .try_fold(payload, |at, name| at.get(name));
        let meets = |value: &&Value| {
            let text = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let wanted = self.text.as_str();
            match self.how {
                How::Is => text == wanted,
                How::IsNot => text != wanted,
                How::Contains => text.contains(wanted),
                How::StartsWith => text.starts_with(wanted),
                How::EndsWith => text.ends_with(wanted),
            }
        };
        let found = match value? {
            Value::Array(items) => items.iter().find(meets)?,
            value => Some(value).filter(meets)?,
        };
        Some(format!("{self} ({found})"))
    }
}

impl fmt::Display for VetoIf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Test(test) => test.fmt(f),
            Self::Not(inner) => write!(f, "not ({inner})"),
            Self::And(one, other) => write!(f, "({one} and {other})"),
            Self::Or(one, other) => write!(f, "({one} or {other})"),
        }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.how {
            How::Is => "==",
            How::IsNot => "!=",
            How::Contains => "contains",
            How::StartsWith => "starts_with",
            How::EndsWith => "ends_with",
        };
        write!(f, "{} {how} {:?}", self.field, self.text)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Open,
    Close,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => write!(f, "`{word}`"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Open => f.write_str("`(`"),
            Self::Close => f.write_str("`)`"),
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\t' | '\n' => {}
            '(' => tokens.push(Token::Open),
            ')' => tokens.push(Token::Close),
            quote @ ('"' | '\'') => {
                let mut quoted = String::new();
                loop {
                    match letters.next() {
                        Some(end) if end == quote => break,
                        Some('\\') if quote == '"' => quoted.extend(letters.next()),
                        Some(letter) => quoted.push(letter),
                        None => return Err(format!("{quote}{quoted} is not closed")),
                    }
                }
                tokens.push(Token::Text(quoted));
            }
            letter => {
                let mut word = String::from(letter);
                let goes_on = |c: &char| !c.is_whitespace() && !"()\"'".contains(*c);
                while let Some(letter) = letters.next_if(goes_on) {
                    word.push(letter);
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    Ok(tokens)
}

/// What is not read yet.
struct Rest<'a> {
    tokens: &'a [Token],
}

impl Rest<'_> {
    fn any_of(&mut self) -> Result<VetoIf, String> {
        let mut read = self.all_of()?;
        while self.takes("or") {
            read = VetoIf::Or(Box::new(read), Box::new(self.all_of()?));
        }
        Ok(read)
    }

    fn all_of(&mut self) -> Result<VetoIf, String> {
        let mut read = self.one()?;
        while self.takes("and") {
            read = VetoIf::And(Box::new(read), Box::new(self.one()?));
        }
        Ok(read)
    }

    fn one(&mut self) -> Result<VetoIf, String> {
        if self.takes("not") {
            return Ok(VetoIf::Not(Box::new(self.one()?)));
        }
        match self.next()? {
            Token::Open => {
                let read = self.any_of()?;
                match self.next()? {
                    Token::Close => Ok(read),
                    other => Err(format!("`)` is missing before {other}")),
                }
            }
            Token::Word(field) => self.test(field),
            other => Err(format!(
                "a field's name is missing before {other}; write {SYNTAX}"
            )),
        }
    }

    fn test(&mut self, field: String) -> Result<VetoIf, String> {
        let how = match self.next()? {
            Token::Word(how) => match how.as_str() {
                "==" | "=" => How::Is,
                "!=" => How::IsNot,
                "contains" => How::Contains,
                "starts_with" => How::StartsWith,
                "ends_with" => How::EndsWith,
                _ => return Err(format!("there is no test `{how}`; write {SYNTAX}")),
            },
            other => return Err(format!("a test is missing before {other}; write {SYNTAX}")),
        };
        match self.next()? {
            Token::Text(text) => Ok(VetoIf::Test(Test { field, how, text })),
            other => Err(format!("{other} is not a text in quotes; write {SYNTAX}")),
        }
    }

    fn takes(&mut self, word: &str) -> bool {
        let takes = matches!(self.tokens.first(), Some(Token::Word(found)) if found == word);
        if takes {
            self.tokens = &self.tokens[1..];
        }
        takes
    }

    fn next(&mut self) -> Result<Token, String> {
        let (first, rest) = self
            .tokens
            .split_first()
            .ok_or_else(|| format!("it ends too early; write {SYNTAX}"))?;
        self.tokens = rest;
        Ok(first.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn met(condition: &str) -> bool {
        let payload = json!({
            "thread": "main",
            "changed_paths": ["src/a.rs", "secrets/key"],
            "anchor": { "start_line": 3 },
        });
        VetoIf::parse(condition).unwrap().met_by(&payload).is_some()
    }

    #[test]
    fn conditions_mean_what_they_say() {
        for condition in [
            r#"changed_paths contains "secrets/""#,
            r#"changed_paths starts_with 'src/' and changed_paths ends_with "key""#,
            r#"thread == "other" or thread == "main""#,
            r#"not thread != "main""#,
            r#"thread == "x" and thread == "y" or thread == "main""#,
            r#"not (thread == "x" or thread == "y")"#,
            r#"anchor.start_line == "3""#,
            r#"not absent contains """#,
        ] {
            assert!(met(condition), "{condition}");
        }
        for condition in [
            r#"changed_paths contains "nothing""#,
            r#"thread == "main" and thread == "other""#,
            r#"absent != "x""#,
            r#"thread starts_with "ain""#,
        ] {
            assert!(!met(condition), "{condition}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for text in [
            "",
            "thread",
            "thread contains",
            "thread contains main",
            "thread like \"x\"",
            "thread == \"x",
            "(thread == \"x\"",
            "thread == \"x\")",
            "thread == \"x\" thread == \"y\"",
            "\"x\" == thread",
        ] {
            assert!(VetoIf::parse(text).is_err(), "{text}");
        }
    }
}
