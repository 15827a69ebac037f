//! The bytes that are signed, exactly as the contract has them ("Signing payload"). They never change:
//! signatures over them are kept for good.

use super::{Said, Scope, Statement};

impl Statement {
    /// The signed bytes.
    pub fn payload(&self) -> Vec<u8> {
        let mut payload = Payload::default();
        let (tag, word) = match &self.said {
            Said::Review { kind, .. } => ("hd-rev-sig-v1", kind.name()),
            Said::Verdict { verdict, .. } => ("hd-rev-verdict-v1", verdict.name()),
            Said::Check { kind, .. } => ("hd-rev-check-v1", kind.name()),
        };
        payload.text(tag);
        payload.text(&self.state.to_string());
        payload.text(word);
        match &self.said {
            Said::Review {
                scope,
                justification: text,
                ..
            }
            | Said::Verdict {
                scope,
                reason: text,
                ..
            } => {
                payload.scope(scope);
                payload.time(self.at_secs);
                payload.optional(text);
            }
            Said::Check {
                reference, acked, ..
            } => {
                payload.text(reference);
                payload.0.push(u8::from(*acked));
                payload.time(self.at_secs);
            }
        }
        payload.0
    }
}

#[derive(Default)]
struct Payload(Vec<u8>);

impl Payload {
    fn text(&mut self, text: &str) {
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn scope(&mut self, scope: &Scope) {
        match scope {
            Scope::WholeChange => self.text("whole_change"),
            Scope::Symbols(symbols) => {
                self.text("symbols");
                // There are at most `SYMBOLS_LIMIT`.
                let count = u32::try_from(symbols.len()).unwrap_or(u32::MAX);
                self.0.extend(count.to_le_bytes());
                for symbol in symbols {
                    self.text(&symbol.file);
                    self.text(&symbol.symbol);
                }
            }
        }
    }

    fn time(&mut self, seconds: i64) {
        self.0.extend(seconds.to_le_bytes());
    }

    fn optional(&mut self, text: &str) {
        if text.is_empty() {
            self.0.push(0);
        } else {
            self.0.push(1);
            self.text(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        git::StateId,
        review::{CheckKind, ReviewKind, Verdict},
        symbol::SymbolRef,
    };

    fn payload(said: Said) -> Vec<u8> {
        let state = StateId::from_bytes(&[0xab; 20]).unwrap();
        let at_secs = 0x0102_0304;
        let statement = Statement {
            state,
            said,
            at_secs,
        };
        statement.payload()
    }

    const TIME: &[u8] = b"\x04\x03\x02\x01\0\0\0\0";

    fn joined(parts: &[&[u8]]) -> Vec<u8> {
        parts.concat()
    }

    #[test]
    fn the_bytes_are_those_of_the_contract() {
        let id = "ab".repeat(20);
        let read = |scope, justification: &str| Said::Review {
            kind: ReviewKind::Read,
            scope,
            justification: justification.to_owned(),
        };
        let head = b"hd-rev-sig-v1\0";
        assert_eq!(
            payload(read(Scope::WholeChange, "")),
            joined(&[head, id.as_bytes(), b"\0read\0whole_change\0", TIME, b"\0"])
        );
        let symbol = |file: &str, symbol: &str| SymbolRef {
            file: file.to_owned(),
            symbol: symbol.to_owned(),
        };
        let scope = Scope::Symbols(vec![symbol("a.rs", "A::b"), symbol("c", "")]);
        assert_eq!(
            payload(read(scope, "why")),
            joined(&[
                head,
                id.as_bytes(),
                b"\0read\0symbols\0\x02\0\0\0a.rs\0A::b\0c\0\0",
                TIME,
                b"\x01why\0"
            ])
        );
        let hold = Said::Verdict {
            verdict: Verdict::Hold,
            scope: Scope::WholeChange,
            reason: "wait".to_owned(),
        };
        assert_eq!(
            payload(hold),
            joined(&[
                b"hd-rev-verdict-v1\0",
                id.as_bytes(),
                b"\0hold\0whole_change\0",
                TIME,
                b"\x01wait\0"
            ])
        );
        let tick = Said::Check {
            kind: CheckKind::FileReviewed,
            reference: "a.rs".to_owned(),
            acked: true,
        };
        assert_eq!(
            payload(tick),
            joined(&[
                b"hd-rev-check-v1\0",
                id.as_bytes(),
                b"\0file_reviewed\0a.rs\0\x01",
                TIME
            ])
        );
    }
}
