//! What a run shows while it works: a bar per stage on a terminal, plain lines otherwise.
//!
//! Invariant: a line that names a count is printed after that count is durable, so that a log is a record of what was promised.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use durable_core::{Clock, SystemClock};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How many lines a stage may print between its first and its last.
const LINES_PER_STAGE: u64 = 10;

/// A stage of fewer units is over before a line could help.
const LINES_FROM: u64 = 1_000;

/// After how many units a stage prints a line whose total is not known.
const UNITS_PER_LINE: u64 = 10_000;

/// The stages of a run.
#[derive(Clone, Debug)]
pub struct Progress {
    bars: Option<MultiProgress>,
    clock: Arc<dyn Clock>,
}

/// One stage at work. Cloning is cheap; the clones are one stage.
#[derive(Clone, Debug)]
pub struct Stage {
    name: &'static str,
    unit: &'static str,
    bar: Option<ProgressBar>,
    clock: Arc<dyn Clock>,
    begun: Duration,
    counted: Arc<Mutex<Counted>>,
}

#[derive(Debug)]
struct Counted {
    done: u64,
    total: u64,
    printed: u64,
}

impl Progress {
    /// Bars if standard error is a terminal, lines on standard output if not.
    #[must_use]
    pub fn new() -> Self {
        let bars = std::io::stderr().is_terminal().then(MultiProgress::new);
        Self { bars, clock: Arc::new(SystemClock::new()) }
    }

    /// Begins a stage of `total` units; a total of 0 is one that is not known yet.
    #[must_use]
    pub fn begin(&self, name: &'static str, total: u64, unit: &'static str) -> Stage {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(if total == 0 { ProgressBar::no_length() } else { ProgressBar::new(total) });
            bar.set_style(style(total));
            bar.set_prefix(name);
            bar
        });
        let counted = Arc::new(Mutex::new(Counted { done: 0, total, printed: 0 }));
        let clock = Arc::clone(&self.clock);
        Stage { name, unit, bar, begun: clock.monotonic(), clock, counted }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Stage {
    /// So many units more are done.
    pub fn add(&self, units: u64) {
        let line = {
            let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
            counted.done += units;
            let of = if counted.total == 0 { String::new() } else { format!(" of {}", grouped(counted.total)) };
            counted.line_due().then(|| format!("{:<9} {}{of} {}", self.name, grouped(counted.done), self.unit))
        };
        match (&self.bar, line) {
            (Some(bar), _) => bar.inc(units),
            (None, Some(line)) => say(&line),
            (None, None) => {}
        }
    }

    /// Ends the stage with what came of it.
    pub fn end(&self, outcome: &str) {
        let seconds = self.clock.monotonic().saturating_sub(self.begun).as_secs_f64();
        match &self.bar {
            Some(bar) => {
                if let Some(total) = bar.length() {
                    bar.set_position(total);
                }
                bar.finish_with_message(format!("{outcome}  ({seconds:.1} s)"));
            }
            None => say(&format!("{:<9} {outcome} ({seconds:.1} s)", self.name)),
        }
    }
}

impl Counted {
    fn line_due(&mut self) -> bool {
        if self.total == 0 {
            let lines = self.done / UNITS_PER_LINE;
            return lines > std::mem::replace(&mut self.printed, lines);
        }
        let tenths = (self.done * LINES_PER_STAGE).checked_div(self.total).unwrap_or(0);
        let due = self.total >= LINES_FROM && tenths > self.printed && self.done < self.total;
        self.printed = self.printed.max(tenths);
        due
    }
}

/// Prints one line of the run. A reader that went away (`| head`) does not end the run.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// A count with its thousands apart: `56,130`.
#[must_use]
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun: `1 row`, `56,130 rows`.
#[must_use]
pub fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{} {noun}s", grouped(count)) }
}

/// A bar, or a count alone where the total is not known.
fn style(total: u64) -> ProgressStyle {
    let template = match total {
        0 => "{prefix:9} {spinner:30} {human_pos:>9}           {msg}",
        _ => "{prefix:9} {bar:30.cyan/blue} {human_pos:>9}/{human_len:<9} {msg}",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_read_easily() {
        let texts = [0, 999, 1_000, 56_130, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "56,130", "1,234,567"]);
        assert_eq!((counted(1, "row"), counted(2, "row")), ("1 row".to_owned(), "2 rows".to_owned()));
    }

    #[test]
    fn a_stage_prints_a_tenth_at_a_time() {
        let mut counted = Counted { done: 0, total: 1_000, printed: 0 };
        let lines = (0..100)
            .filter(|_| {
                counted.done += 10;
                counted.line_due()
            })
            .count();
        assert_eq!(lines, 9);
        let mut unknown = Counted { done: 0, total: 0, printed: 0 };
        let due = [9_999, 10_000, 15_000, 31_000].map(|done| {
            unknown.done = done;
            unknown.line_due()
        });
        assert_eq!(due, [false, true, false, true]);
    }
}
