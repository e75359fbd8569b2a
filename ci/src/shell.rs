//! What is said on stderr, in the form in which Cargo says it.

use std::fmt::Display;

use console::{Color, Style};
use indicatif::{ProgressBar, ProgressStyle};

/// A status line: a green verb, right-aligned, and what it is about.
pub fn status(verb: &str, message: impl Display) {
    line(verb, &message, Color::Green);
}

/// A status line about something that is only waited for.
pub fn waiting(verb: &str, message: impl Display) {
    line(verb, &message, Color::Cyan);
}

/// A bar that shows how much of so much is done. It is hidden where there is no terminal.
pub fn bar(verb: &'static str, total: usize) -> ProgressBar {
    let bar = ProgressBar::new(total as u64);
    let template = "{prefix:>12.cyan.bold} [{bar:25}] {pos}/{len} {elapsed_precise} {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(verb);
    bar
}

/// Something one should know, which stops nothing.
pub fn note(message: impl Display) {
    let label = Style::new().for_stderr().cyan().bold().apply_to("note");
    eprintln!("{label}: {message}");
}

/// An error and what caused it, as Cargo prints them.
pub fn error(error: &anyhow::Error) {
    let label = Style::new().for_stderr().red().bold().apply_to("error");
    eprintln!("{label}: {error}");
    let causes: Vec<_> = error.chain().skip(1).collect();
    if !causes.is_empty() {
        eprintln!("\nCaused by:");
    }
    for cause in causes {
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

/// `1 patch`, `2 patches`: a count and its noun.
pub fn count(number: usize, singular: &str, plural: &str) -> String {
    let noun = if number == 1 { singular } else { plural };
    format!("{number} {noun}")
}
