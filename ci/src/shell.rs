//! Messages on stderr, in the form that Cargo uses.

use std::fmt::Display;

use console::{Color, Style};
use indicatif::{ProgressBar, ProgressStyle};

/// Prints a status line, formatted as by `format!`.
macro_rules! status {
    ($verb:expr, $($message:tt)+) => {
        $crate::shell::print_status($verb, format_args!($($message)+))
    };
}

/// Prints something that the user should know and that stops nothing.
macro_rules! note {
    ($($message:tt)+) => {
        $crate::shell::print_note(format_args!($($message)+))
    };
}

/// Prints a status line: a green verb, right-aligned, and its object.
pub fn print_status(verb: &str, message: impl Display) {
    line(verb, &message, Color::Green);
}

/// Prints a status line about something that takes a while.
pub fn waiting(verb: &str, message: impl Display) {
    line(verb, &message, Color::Cyan);
}

pub fn print_note(message: impl Display) {
    let label = Style::new().for_stderr().cyan().bold().apply_to("note");
    eprintln!("{label}: {message}");
}

/// Prints an error and its causes.
pub fn error(error: &anyhow::Error) {
    let label = Style::new().for_stderr().red().bold().apply_to("error");
    eprintln!("{label}: {error}");
    for (number, cause) in error.chain().skip(1).enumerate() {
        if number == 0 {
            eprintln!("\nCaused by:");
        }
        for line in cause.to_string().lines() {
            eprintln!("  {line}");
        }
    }
}

fn line(verb: &str, message: &dyn Display, color: Color) {
    let verb = format!("{verb:>12}");
    let verb = Style::new().for_stderr().fg(color).bold().apply_to(verb);
    eprintln!("{verb} {message}");
}

/// Returns a number and its noun: `1 patch`, `2 patches`.
pub fn count(number: usize, singular: &str, plural: &str) -> String {
    let noun = if number == 1 { singular } else { plural };
    format!("{number} {noun}")
}

/// Shows how much of some work is done: a bar on a terminal, elsewhere a line every `stride` items.
pub struct Progress {
    bar: ProgressBar,
    verb: &'static str,
    stride: u64,
}

impl Progress {
    /// Shows that none of `total` items is done.
    pub fn new(verb: &'static str, total: usize, stride: u64) -> Self {
        let bar = ProgressBar::new(total as u64);
        let template = "{prefix:>12.cyan.bold} [{bar:25}] {pos}/{len} {elapsed_precise} {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(verb);
        Progress { bar, verb, stride }
    }

    /// Shows that `number` more items are done.
    pub fn advance(&self, number: usize, message: impl Display) {
        let before = self.bar.position();
        let done = before + number as u64;
        self.bar.set_message(message.to_string());
        self.bar.set_position(done);
        if self.bar.is_hidden() && done / self.stride > before / self.stride {
            let total = self.bar.length().unwrap_or(done);
            waiting(self.verb, format_args!("{done}/{total} {message}"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
