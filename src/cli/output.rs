//! Printing: text for people on a terminal, plain in a pipe, JSON for scripts. One place decides.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::{Error, Result};

/// How to print: for people, or for scripts with stable names: one document, or for `log` one
/// object per line. (What stands on the variants would stretch every help page.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}

pub(super) const BOLD: Style = Style::new().bold();
pub(super) const DIM: Style = Style::new().dimmed();
pub(super) const GOOD: Style = AnsiColor::Green.on_default().bold();
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(super) const NOTE: Style = AnsiColor::Yellow.on_default().bold();

/// Standard output, in the format that was asked for.
pub(super) struct Output {
    pub(super) format: Format,
}

impl Output {
    pub(super) fn new(format: Format) -> Self {
        Self { format }
    }

    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Prints one line; styles go where the terminal does not want them.
    pub(super) fn line(&self, line: impl Display) -> Result<()> {
        writeln!(anstream::stdout().lock(), "{line}").map_err(Error::Output)
    }

    /// Prints what another program reads, byte for byte: nothing is escaped and no style goes.
    pub(super) fn raw(&self, bytes: &[u8]) -> Result<()> {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
        written.map_err(Error::Output)
    }

    /// Whether a person reads along, on a terminal.
    pub(super) fn is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// Prints facts, a line each: what they are about, and what there is to say.
    pub(super) fn facts<'a>(
        &self,
        facts: impl IntoIterator<Item = (&'a str, String)>,
    ) -> Result<()> {
        for (name, value) in facts {
            self.line(format_args!(
                "  {DIM}{name:<11}{DIM:#}{}",
                printable(&value)
            ))?;
        }
        Ok(())
    }

    /// Prints one JSON document on one line.
    pub(super) fn json(&self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(value).map_err(|e| Error::Output(e.into()))?;
        writeln!(io::stdout().lock(), "{text}").map_err(Error::Output)
    }

    /// Prints rows in columns that are as wide as they need to be.
    pub(super) fn table<const N: usize>(
        &self,
        header: [&str; N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) -> Result<()> {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(header);
        for row in rows {
            table.add_row(row.map(|cell| printable(&cell)));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        for line in table.lines() {
            self.line(line.trim_end())?;
        }
        Ok(())
    }
}

/// Text from elsewhere, with control characters escaped, and with letters that are not seen or turn the
/// direction of others (Trojan Source, CVE-2021-42574): it must not steer the terminal, nor look like
/// another text.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let hides = matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
                | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
            let escaped = (c.is_control() || hides).then(|| c.escape_default());
            let plain = escaped.is_none().then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

/// The same of each line, those after the first indented: nothing in them can be taken for ours.
pub(super) fn printable_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(printable).collect();
    lines.join("\n    ")
}

/// Prints an error, with its stable reason where there is one.
pub(super) fn error(reason: Option<&str>, message: &str) {
    let reason = reason.map_or_else(String::new, |reason| format!("[{reason}]"));
    // Nothing is left to do when not even this can be said.
    let _ = writeln!(
        anstream::stderr().lock(),
        "{BAD}error{reason}{BAD:#}: {}",
        printable_lines(message)
    );
}

/// Prints something that the user should know besides.
pub(super) fn warning(message: &str) {
    let _ = writeln!(
        anstream::stderr().lock(),
        "{NOTE}warning{NOTE:#}: {}",
        printable(message)
    );
}

/// A number of bytes for people.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A span of time for people, in its two largest units.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, m) => format!("{m}m {}s", seconds % 60),
        (0, h, m) => format!("{h}h {m}m"),
        (d, h, _) => format!("{d}d {h}h"),
    }
}

/// A point in time, in the user's time zone.
pub(super) fn time(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => time
            .to_zoned(jiff::tz::TimeZone::system())
            .strftime("%Y-%m-%d %H:%M:%S")
            .to_string(),
        Err(_) => seconds.to_string(),
    }
}

/// How long ago that was, for people.
pub(super) fn ago(seconds: i64) -> String {
    let now = jiff::Timestamp::now().as_second();
    // Clocks are set back now and then.
    let since = u64::try_from(now.saturating_sub(seconds)).unwrap_or_default();
    format!("{} ago", span(Duration::from_secs(since)))
}

/// An object id in lower-case hex.
pub(super) fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first ten digits of an object id, for people.
pub(super) fn short(id: &[u8]) -> String {
    hex(id.get(..5).unwrap_or(id))
}

/// A word in the singular or the plural.
pub(super) fn plural(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
