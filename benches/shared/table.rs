//! The table: what, floor, ours, ratio, target, verdict.

use comfy_table::{Table as Drawn, presets};

/// The rows measured so far.
#[derive(Default)]
pub struct Table {
    rows: Vec<[String; 6]>,
}

/// What a number counts.
#[derive(Clone, Copy)]
pub enum Unit {
    Micros,
    PerSecond,
    Mebibytes,
    Megabytes,
    MegabytesPerSecond,
    Times,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Unit::Micros if value >= 10_000.0 => format!("{:.1} ms", value / 1e3),
            Unit::Micros if value >= 1_000.0 => format!("{:.2} ms", value / 1e3),
            Unit::Micros => format!("{value:.0} µs"),
            Unit::PerSecond => format!("{value:.0}/s"),
            Unit::Mebibytes => format!("{value:.1} MiB"),
            Unit::Megabytes => format!("{value:.1} MB"),
            Unit::MegabytesPerSecond => format!("{value:.1} MB/s"),
            Unit::Times => format!("{value:.1}"),
        }
    }
}

/// What is asked of a row.
#[derive(Clone, Copy)]
pub enum Target {
    /// A ratio to the floor that must not be exceeded.
    RatioUpTo(f64),
    /// A ratio to the floor that must be reached.
    RatioFrom(f64),
    /// A value that must not be exceeded.
    UpTo(f64),
    /// A value that must be reached.
    From(f64),
    /// Nothing: it is only told.
    Told,
}

impl Table {
    /// A floor: nothing is asked of it.
    pub fn floor(&mut self, what: &str, unit: Unit, value: f64) {
        self.push([what, &unit.show(value), "", "", "", "floor"].map(str::to_owned));
    }

    /// A row with its floor. The ratio is given, as it is the median of many, each of its own time.
    pub fn ratio(&mut self, what: &str, unit: Unit, sides: (f64, f64), ratio: f64, target: Target) {
        let (asked, met) = match target {
            Target::RatioUpTo(limit) => (format!("≤ {limit} ×"), ratio <= limit),
            Target::RatioFrom(limit) => (format!("≥ {limit} ×"), ratio >= limit),
            Target::UpTo(limit) => (format!("≤ {}", unit.show(limit)), sides.1 <= limit),
            Target::From(limit) => (format!("≥ {}", unit.show(limit)), sides.1 >= limit),
            Target::Told => (String::new(), true),
        };
        self.push([
            what.to_owned(),
            unit.show(sides.0),
            unit.show(sides.1),
            format!("{ratio:.2}"),
            asked.clone(),
            verdict(&asked, met),
        ]);
    }

    /// A row without a floor.
    pub fn value(&mut self, what: &str, unit: Unit, value: f64, target: Target) {
        let (asked, met) = match target {
            Target::UpTo(limit) | Target::RatioUpTo(limit) => {
                (format!("≤ {}", unit.show(limit)), value <= limit)
            }
            Target::From(limit) | Target::RatioFrom(limit) => {
                (format!("≥ {}", unit.show(limit)), value >= limit)
            }
            Target::Told => (String::new(), true),
        };
        let what = what.to_owned();
        let none = String::new();
        self.push([
            what,
            none.clone(),
            unit.show(value),
            none,
            asked.clone(),
            verdict(&asked, met),
        ]);
    }

    fn push(&mut self, row: [String; 6]) {
        eprintln!("  {}", row.join(" | "));
        self.rows.push(row);
    }

    /// Prints all rows.
    pub fn print(&self, markdown: bool) {
        let mut drawn = Drawn::new();
        drawn
            .load_style(if markdown {
                presets::ASCII_MARKDOWN
            } else {
                presets::NOTHING
            })
            .set_header(["what", "floor", "ours", "ratio", "target", ""]);
        for row in &self.rows {
            drawn.add_row(row);
        }
        println!("{drawn}");
    }
}

fn verdict(asked: &str, met: bool) -> String {
    match (asked, met) {
        ("", _) => "",
        (_, true) => "ok",
        (_, false) => "MISS",
    }
    .to_owned()
}
