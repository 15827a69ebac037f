//! The reading order on the page of a review: file by file, a line for each symbol.

use anstyle::Style;
use unicode_width::UnicodeWidthStr;

use super::{
    super::{
        Result,
        output::{BAD, BOLD, DIM, GOOD, NOTE, printable},
        words::place,
        wrap::cut,
    },
    page::Page,
    show::parts,
};
use crate::grpc_local_impl::proto::v1::{PathSymbolRef, ReadingStep, StepChange};

/// Steps that are shown of one part.
const STEPS: usize = 40;
/// Columns before the name of a step.
const MARGIN: usize = 4 + 2 + 6 + 2;
/// Columns of the names in front of what is told of them; longer ones push it aside.
const NAMES: usize = 40;

impl Page<'_> {
    pub(super) fn reading_order(&self) -> Result<()> {
        let partition = self.shown.payload.partition.clone().unwrap_or_default();
        let mut number = 0;
        for (name, steps) in parts(&partition) {
            if !steps.is_empty() {
                self.paper.heading(match name {
                    "structural" => "Read: what users of the code see",
                    "consequence" => "Read: what follows from it",
                    _ => "Read: tests and documentation",
                })?;
                self.part(number, &steps)?;
            }
            number += steps.len();
        }
        Ok(())
    }

    /// The steps of a part, of which the first has the number after this one.
    fn part(&self, before: usize, steps: &[(&PathSymbolRef, &ReadingStep)]) -> Result<()> {
        let most = self.shown.most(STEPS);
        let shown = &steps[..steps.len().min(most)];
        let noted = shown
            .iter()
            .filter(|(at, step)| !self.notes(at, step).is_empty());
        let widths = noted.map(|(at, _)| self.name(at).width());
        let width = widths.filter(|width| *width <= NAMES).max().unwrap_or(0);
        let mut file = None;
        for (place, (at, step)) in shown.iter().enumerate() {
            // A file that is a step itself stands above its symbols as it is.
            if !at.symbol.is_empty() && file != Some(&at.file) {
                let name = printable(&self.shown.here.shown(&at.file));
                self.paper
                    .out
                    .line(format_args!("  {BOLD}{name}{BOLD:#}"))?;
            }
            file = Some(&at.file);
            self.step(before + place + 1, width, at, step)?;
        }
        self.paper.more(steps.len() - shown.len(), "more", "more")
    }

    fn name(&self, at: &PathSymbolRef) -> String {
        match at.symbol.as_str() {
            "" => printable(&self.shown.here.shown(&at.file)),
            symbol => printable(symbol),
        }
    }

    fn step(
        &self,
        number: usize,
        width: usize,
        at: &PathSymbolRef,
        step: &ReadingStep,
    ) -> Result<()> {
        let (word, style) = happened(at, step);
        let (mut name, mut notes) = (self.name(at), self.notes(at, step));
        if let Some(columns) = self.paper.columns {
            let left = columns.saturating_sub(MARGIN);
            name = cut(&name, Some(left));
            let rest = left.saturating_sub(name.width().max(width) + 2);
            // What is cut so short says nothing.
            notes = if rest < 8 {
                String::new()
            } else {
                cut(&notes, Some(rest))
            };
        }
        let gap = match notes.as_str() {
            "" => 0,
            _ => width.saturating_sub(name.width()) + 2,
        };
        let bold = if at.symbol.is_empty() {
            BOLD
        } else {
            Style::new()
        };
        self.paper.out.line(format_args!(
            "{DIM}{number:>4}{DIM:#}  {style}{word:<6}{style:#}  {bold}{name}{bold:#}{:gap$}{DIM}{notes}{DIM:#}",
            ""
        ))
    }

    /// What else there is to tell of a step.
    fn notes(&self, at: &PathSymbolRef, step: &ReadingStep) -> String {
        let mut notes = Vec::new();
        if !step.kind.is_empty() {
            notes.push(printable(&step.kind));
        }
        match (step.start_line, step.end_line) {
            (0, _) => {}
            // It is not there to be looked at.
            _ if step.change() == StepChange::Removed => {}
            (first, last) if first == last => notes.push(format!("line {first}")),
            (first, last) => notes.push(format!("lines {first}-{last}")),
        }
        if let Some(from) = &step.came_from {
            let from = match from.file == at.file {
                true => from.symbol.clone(),
                false => place(self.shown.here, &from.file, &from.symbol),
            };
            notes.push(format!("was {}", printable(&from)));
        }
        if !step.left_out.is_empty() {
            notes.push(format!("{}, not looked into", printable(&step.left_out)));
        }
        notes.join(", ")
    }
}

/// What happened, in a word.
fn happened(at: &PathSymbolRef, step: &ReadingStep) -> (&'static str, Style) {
    match step.change() {
        StepChange::Added => ("new", GOOD),
        StepChange::Removed => ("gone", BAD),
        StepChange::Shape => ("shape", NOTE),
        StepChange::Moved => ("moved", NOTE),
        StepChange::Type => ("type", NOTE),
        StepChange::Body if at.symbol.is_empty() => ("edited", Style::new()),
        StepChange::Body | StepChange::Unspecified => ("body", Style::new()),
    }
}
