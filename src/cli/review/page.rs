//! The page of a review as a person reads it: on a terminal as wide as that, in a pipe plain and whole.

use std::collections::HashSet;

use anstyle::Style;
use unicode_width::UnicodeWidthStr;

use super::{
    super::{
        Result,
        code_lines::CodeLines,
        discuss,
        here::Here,
        output::{BAD, BOLD, DIM, GOOD, NOTE, Output, ago, hex, plural, printable, short},
        paper::Paper,
        risk,
        words::place,
    },
    show::{alone, kind_name, kinds, parts, signals},
    signatures::{said, seconds, symbols, word},
};
use crate::grpc_local_impl::proto::v1::{
    AnchoredDiscussion, CheckKind, DiscussionTurn, PathSymbolRef, ReadingStep, ReviewCheckAck,
    ReviewKind, ReviewPayload, ReviewSignature, StepChange,
};

/// Lines of the narrative, and of one turn of a discussion.
const NARRATIVE: usize = 24;
const TURN: usize = 3;
/// Discussions, and signatures.
const MANY: usize = 20;

/// What is shown.
pub(super) struct Shown<'a> {
    pub(super) here: &'a Here,
    /// The state as it was asked for; `None` for the current one.
    pub(super) name: Option<&'a str>,
    pub(super) all: bool,
    pub(super) payload: ReviewPayload,
    pub(super) signatures: Vec<ReviewSignature>,
    pub(super) checks: Vec<ReviewCheckAck>,
}

impl Shown<'_> {
    /// What the signals are known by that somebody has taken note of.
    fn noted(&self) -> HashSet<&str> {
        let acked = self.checks.iter().filter(|check| check.acked);
        let of_signals = acked.filter(|check| check.check_kind() == CheckKind::RiskSignalAck);
        of_signals.map(|check| check.check_ref.as_str()).collect()
    }

    /// How many are shown of what is otherwise cut short.
    pub(super) fn most(&self, usual: usize) -> usize {
        if self.all { usize::MAX } else { usual }
    }
}

/// Prints the page.
pub(super) fn print(out: &Output, shown: &Shown<'_>) -> Result<()> {
    let page = Page {
        paper: Paper::new(out),
        shown,
    };
    page.summary()?;
    page.signals()?;
    page.reading_order()?;
    page.discussions()?;
    page.signed()?;
    page.required()?;
    page.next()
}

/// The page, and where it is put.
pub(super) struct Page<'a> {
    pub(super) paper: Paper<'a>,
    pub(super) shown: &'a Shown<'a>,
}

impl Page<'_> {
    fn summary(&self) -> Result<()> {
        let shown = self.shown;
        let (payload, out) = (&shown.payload, self.paper.out);
        let summary = payload.summary.clone().unwrap_or_default();
        self.paper.paragraph(0, BOLD, &summary.headline)?;
        let state = short(&payload.state_id);
        let after = match payload.parent_state.as_slice() {
            [] => "nothing comes before it here, so all is new".to_owned(),
            parent => format!("compared with {}", short(parent)),
        };
        // Its id need not be there twice.
        let is_id = |name: &&str| hex(&payload.state_id).starts_with(*name);
        let name = shown.name.filter(|name| !is_id(name));
        let name = name.map(|name| format!("{}  ", printable(name)));
        let mark = format!("{state}  {}", name.unwrap_or_default());
        self.paper.beside(&mark, mark.width(), DIM, &after)?;
        let lines: Vec<&str> = payload.agent_narrative.lines().collect();
        if !lines.is_empty() {
            out.line("")?;
            let most = shown.most(NARRATIVE);
            for line in lines.iter().take(most) {
                self.paper.paragraph(2, Style::new(), line)?;
            }
            self.paper
                .more(lines.len().saturating_sub(most), "more line", "more lines")?;
        }
        let files = plural(
            summary.files_changed.into(),
            "file changed",
            "files changed",
        );
        let (added, removed) = (summary.added_lines, summary.removed_lines);
        let (visible, hidden) = (summary.in_budget_signal_count, summary.hidden_signal_count);
        let mut signals = plural(visible.into(), "signal", "signals");
        if hidden > 0 {
            signals += &format!(" and {hidden} more");
        }
        out.line("")?;
        match payload.counts_partial {
            true => out.line(format_args!(
                "{files}, lines not counted in time  {signals}"
            ))?,
            false => out.line(format_args!(
                "{files}  {GOOD}+{added}{GOOD:#} {BAD}-{removed}{BAD:#}  {signals}"
            ))?,
        }
        if payload.signals_partial {
            let text = "Signals may be missing: the change is too large, or the symbols of the repository are still being read. Ask again later.";
            self.paper.paragraph(0, NOTE, text)?;
        }
        if payload.truncated {
            let text = "This is not all: the change is too large for one page, or for the time that there was. `heddle diff` tells the rest.";
            self.paper.paragraph(0, NOTE, text)?;
        }
        Ok(())
    }

    fn signals(&self) -> Result<()> {
        let shown = self.shown;
        let signals = signals(shown);
        if signals.is_empty() {
            return Ok(());
        }
        self.paper.heading("Look at this first")?;
        let printed = risk::Signals {
            paper: &self.paper,
            here: shown.here,
            code: CodeLines::at(shown.here, &shown.payload.state_id)?,
            noted: shown.noted(),
        };
        printed.print(signals)
    }

    fn discussions(&self) -> Result<()> {
        let shown = self.shown;
        let all = &shown.payload.discussions;
        if all.is_empty() {
            return Ok(());
        }
        self.paper.heading("What was said")?;
        let most = shown.most(MANY);
        for discussion in all.iter().take(most) {
            self.discussion(discussion)?;
        }
        self.paper.more(
            all.len().saturating_sub(most),
            "more discussion",
            "more discussions",
        )
    }

    fn discussion(&self, anchored: &AnchoredDiscussion) -> Result<()> {
        let shown = self.shown;
        let discussion = alone(anchored);
        let anchor = anchored.anchor.clone().unwrap_or_default();
        let place = printable(&place(shown.here, &anchor.file, &anchor.symbol));
        let (status, style) = discuss::status(&discussion);
        let id = discuss::short_id(&anchored.id);
        self.paper.out.line(format_args!(
            "  {BOLD}{place}{BOLD:#}  {style}{status}{style:#}  {DIM}{id}{DIM:#}"
        ))?;
        let turns = &anchored.turns;
        let skipped = match shown.all {
            true => 0..0,
            // What it is about stands first, and where it is now last.
            false => 1..turns.len().saturating_sub(1).max(1),
        };
        for (number, turn) in turns.iter().enumerate() {
            if !skipped.contains(&number) {
                self.turn(turn)?;
            } else if number == skipped.start {
                let between = plural(skipped.len() as u64, "turn", "turns");
                self.paper
                    .paragraph(4, DIM, &format!("({between} between)"))?;
            }
        }
        Ok(())
    }

    fn turn(&self, turn: &DiscussionTurn) -> Result<()> {
        let who = printable(&turn.author_name);
        let when = ago(seconds(turn.posted_at.as_ref()));
        self.paper
            .out
            .line(format_args!("    {who}  {DIM}{when}{DIM:#}"))?;
        let lines: Vec<&str> = turn.body.lines().collect();
        let most = self.shown.most(TURN);
        for line in lines.iter().take(most) {
            self.paper.paragraph(6, Style::new(), line)?;
        }
        if lines.len() > most {
            self.paper.paragraph(6, DIM, "…")?;
        }
        Ok(())
    }

    fn signed(&self) -> Result<()> {
        let all = &self.shown.signatures;
        let ticked = self.shown.checks.iter().filter(|check| check.acked);
        let (files, signals): (Vec<_>, Vec<_>) =
            ticked.partition(|check| check.check_kind() == CheckKind::FileReviewed);
        if all.is_empty() && files.is_empty() && signals.is_empty() {
            return Ok(());
        }
        self.paper.heading("Who has looked at it")?;
        // The last word counts.
        let skipped = all.len().saturating_sub(self.shown.most(MANY));
        self.paper.more(skipped, "earlier one", "earlier ones")?;
        for signature in all.iter().skip(skipped) {
            let (style, word) = word(signature);
            let symbols = symbols(signature.scope.as_ref()).len();
            let mut text = format!("{} <{}>", signature.actor_name, signature.actor_email);
            text += &format!(", {}", ago(seconds(signature.signed_at.as_ref())));
            if symbols > 0 {
                text += &format!(", of {}", plural(symbols as u64, "symbol", "symbols"));
            }
            if let Some(line) = said(signature).lines().next() {
                text += &format!(": {line}");
            }
            let mark = format!("  {style}{word:<15}{style:#}  ");
            self.paper.beside(&mark, 19, Style::new(), &text)?;
        }
        let counts = [
            (files.len(), "file", "files", "ticked off"),
            (signals.len(), "signal", "signals", "taken note of"),
        ];
        for (count, one, many, done) in counts.into_iter().filter(|it| it.0 > 0) {
            let text = format!("{} {done}", plural(count as u64, one, many));
            self.paper.paragraph(2, Style::new(), &text)?;
        }
        Ok(())
    }

    fn required(&self) -> Result<()> {
        let all = &self.shown.payload.merge_requirements;
        if all.is_empty() {
            return Ok(());
        }
        self.paper.heading("Before it is merged")?;
        for requirement in all {
            let (style, mark) = match requirement.satisfied {
                true => (GOOD, "✓"),
                false => (BAD, "✗"),
            };
            let mark = format!("  {style}{mark}{style:#} ");
            self.paper
                .beside(&mark, 4, Style::new(), &requirement.description)?;
        }
        Ok(())
    }

    /// Commands that go on from here.
    fn next(&self) -> Result<()> {
        self.paper.heading("Next")?;
        let shown = self.shown;
        let payload = &shown.payload;
        let state = shown.name.map(|name| format!(" {}", quoted(name)));
        let state = state.unwrap_or_default();
        let mut commands = Vec::new();
        if !payload.parent_state.is_empty() {
            let (from, to) = (short(&payload.parent_state), short(&payload.state_id));
            commands.push((format!("heddle diff -p {from} {to}"), "read it"));
        }
        let partition = payload.partition.clone().unwrap_or_default();
        let mut steps = parts(&partition).into_iter().flat_map(|(_, steps)| steps);
        // Links and submodules can be read, but not discussed.
        let is_symbol = |(at, step): &(&PathSymbolRef, &ReadingStep)| {
            !at.symbol.is_empty() && step.change() != StepChange::Removed
        };
        if let Some((at, _)) = steps.find(is_symbol) {
            let place = quoted(&place(shown.here, &at.file, &at.symbol));
            commands.push((
                format!("heddle discuss open {place} -m 'Why?'"),
                "ask about it",
            ));
        }
        let noted = shown.noted();
        let mut signals = payload.in_budget_signals.iter().map(risk::reference);
        if let Some(open) = signals.find(|it| !noted.contains(it.as_str())) {
            let command = format!("heddle review check --signal {}{state}", quoted(&open));
            commands.push((command, "take note of a signal"));
        }
        let may_read = kinds(payload).any(|kind| kind == ReviewKind::Read);
        let other = kinds(payload).next().filter(|_| !may_read);
        let kind = other.map(|kind| format!(" --kind {}", kind_name(kind)));
        let kind = kind.unwrap_or_default();
        let command = format!("heddle review sign{state}{kind}");
        commands.push((command, "say that you have looked at it"));
        let command = format!("heddle review verdict sign{state}");
        commands.push((command, "or hold, or reject"));
        let width = commands.iter().map(|(command, _)| command.width()).max();
        let width = width.unwrap_or(0);
        let whats = commands.iter().map(|(_, what)| what.len()).max();
        let needed = 2 + width + 2 + whats.unwrap_or(0);
        // A command that is broken could not be copied.
        let is_room = self.paper.columns.is_none_or(|columns| needed <= columns);
        for (command, what) in commands {
            let command = printable(&command);
            match is_room {
                true => self
                    .paper
                    .out
                    .line(format_args!("  {command:<width$}  {DIM}{what}{DIM:#}"))?,
                false => self.paper.out.line(format_args!("  {command}"))?,
            }
        }
        Ok(())
    }
}

/// A word of a command, as a shell takes it for one.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_alphanumeric() || "-_./:@%+,=~^".contains(letter);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}
