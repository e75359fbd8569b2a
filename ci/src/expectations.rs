//! The tests of Cargo that are expected to fail, and why.
//!
//! A list is checked in both directions: a failure that is not listed is an error, and so is a line
//! that lists a test that passes, or no test at all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};
use fs_err as fs;

use crate::libtest::Verdict;

/// The format, as `--help` explains it.
pub const FORMAT: &str = "\
A line of a list is `TEST | REASON` or `TEST | CONDITION | REASON`; `#` begins a comment line.

TEST is the name of a test, or `MODULE::*` for all tests in a module, each of which must fail;
with `?` behind the name, a test that depends on which of two jobs is faster, and may pass.
A line counts only where all words of its CONDITION hold; `!` in front of a word negates it:
  permissions  those of files hold for the tests: this does not run as root, or it is on Linux
               and `setpriv` can make them hold
  github       port 22 of github.com can be reached
  nightly      the compiler is a nightly, and the tests take it for one
  rustup       `rustup` is on PATH
  linux, macos, windows
  stock        the released cargo is tested (--stock)
  off          pipelining is turned off (--mode off)
  link         what links starts on metadata, too (--mode link, the default)
  mode         a mode is asked for (--mode)
  setting      a setting is read by all tests (--mode, --no-early-cutoff, --mtime)
  cutoff       early cutoff is not turned off (--no-early-cutoff)
  content      source files are compared by content (not --mtime)
  rust-1.N     the compiler is of Rust 1.N or newer

A test that is listed and passes, and a line that matches no test, fail the run.";

pub const NOT_RUNNABLE: &str = "not-runnable.txt";

pub const DEVIATIONS: &str = "deviations.txt";

#[derive(Clone, Debug)]
struct Entry {
    place: String,
    /// The name of a test, or `MODULE::*`.
    pattern: String,
    condition: String,
    may_pass: bool,
}

impl Entry {
    fn matches(&self, test: &str) -> bool {
        match self.pattern.strip_suffix('*') {
            Some(module) => test.starts_with(module),
            None => test == self.pattern,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Expectations {
    entries: Vec<Entry>,
}

/// What is wrong with a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// The tests that have failed and are not listed.
    pub failed: Vec<String>,
    /// What is wrong with the lists.
    pub lines: Vec<String>,
}

impl Expectations {
    /// Reads the lists `files` in `dir`.
    ///
    /// `holds` evaluates a word of a condition, once, as it may take time; it returns `None` for a
    /// word that it does not know.
    pub fn read(
        dir: &Path,
        files: &[&str],
        mut holds: impl FnMut(&str) -> Result<Option<bool>>,
    ) -> Result<Self> {
        let mut entries: Vec<Entry> = Vec::new();
        for file in files {
            let text = fs::read_to_string(dir.join(file))?;
            for (number, line) in text.lines().enumerate() {
                if line.trim().is_empty() || line.trim_start().starts_with('#') {
                    continue;
                }
                let place = format!("tests/upstream/{file}, line {}", number + 1);
                let entry = parse(line, &place).with_context(|| place.clone())?;
                let same = |other: &&Entry| {
                    other.pattern == entry.pattern && other.condition == entry.condition
                };
                if let Some(other) = entries.iter().find(same) {
                    let pattern = &entry.pattern;
                    bail!("{place}: `{pattern}` is listed already ({})", other.place);
                }
                entries.push(entry);
            }
        }
        let mut known = BTreeMap::new();
        let mut expectations = Expectations::default();
        for entry in entries {
            let mut counts = true;
            for word in entry.condition.split_whitespace() {
                let name = word.trim_start_matches('!');
                if !known.contains_key(name) {
                    let (place, help) = (&entry.place, "`cargo xtask upstream --help` lists them");
                    let value = holds(name)?
                        .with_context(|| format!("{place}: unknown condition `{name}`; {help}"))?;
                    known.insert(name.to_owned(), value);
                }
                counts &= known[name] != word.starts_with('!');
            }
            if counts {
                expectations.entries.push(entry);
            }
        }
        Ok(expectations)
    }

    fn entry(&self, test: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.matches(test))
    }

    /// Judges a run. `known` are all tests that exist, `verdicts` those that ran.
    pub fn judge(
        &self,
        known: &BTreeSet<String>,
        verdicts: &BTreeMap<String, Verdict>,
    ) -> Judgement {
        let mut judgement = Judgement::default();
        for (test, verdict) in verdicts {
            match (verdict, self.entry(test)) {
                (Verdict::Failed, None) => judgement.failed.push(test.clone()),
                (Verdict::Passed, Some(entry)) if !entry.may_pass => judgement.lines.push(format!(
                    "{test} is listed but passes: remove the line ({})",
                    entry.place
                )),
                _ => {}
            }
        }
        for entry in &self.entries {
            if !known.iter().any(|test| entry.matches(test)) {
                judgement.lines.push(format!(
                    "{} is listed but there is no such test: remove the line ({})",
                    entry.pattern, entry.place
                ));
            }
        }
        judgement
    }
}

fn parse(line: &str, place: &str) -> Result<Entry> {
    let fields: Vec<&str> = line.split('|').map(str::trim).collect();
    let (test, condition, reason) = match fields[..] {
        [test, reason] => (test, "", reason),
        [test, condition, reason] => (test, condition, reason),
        _ => bail!("expected `TEST | REASON` or `TEST | CONDITION | REASON`, found `{line}`"),
    };
    let pattern = test.strip_suffix('?').unwrap_or(test);
    let name = pattern.strip_suffix("::*").unwrap_or(pattern);
    if name.is_empty() || name.contains([' ', '*']) {
        bail!("`{test}` is neither the name of a test nor `MODULE::*`");
    }
    if reason.is_empty() {
        bail!("`{test}` is listed without a reason");
    }
    Ok(Entry {
        place: place.to_owned(),
        pattern: pattern.to_owned(),
        condition: condition.to_owned(),
        may_pass: test.ends_with('?'),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The lists, where the words `facts` hold, `linux` does not, and no other word is known.
    fn lists(not_runnable: &str, deviations: &str, facts: &[&str]) -> Result<Expectations> {
        let dir = tempfile::tempdir().unwrap();
        let files = [NOT_RUNNABLE, DEVIATIONS];
        for (file, text) in files.iter().zip([not_runnable, deviations]) {
            fs::write(dir.path().join(file), text).unwrap();
        }
        Expectations::read(dir.path(), &files, |word| {
            let holds = facts.contains(&word);
            Ok((holds || word == "linux").then_some(holds))
        })
    }

    fn judge(expectations: &Expectations, failed: &[&str]) -> Judgement {
        let known = ["a::one", "a::two", "ab::one", "b::one"].map(String::from);
        let verdicts = known.clone().map(|name| {
            let passed = !failed.contains(&&*name);
            let verdict = [Verdict::Failed, Verdict::Passed][usize::from(passed)];
            (name, verdict)
        });
        expectations.judge(&known.into(), &verdicts.into())
    }

    #[test]
    fn listed_tests_must_fail() {
        let text = "# why\n\na::* | no fixtures\n";
        let lists = lists(text, "b::one | we print more\n", &[]).unwrap();
        let fine = judge(&lists, &["a::one", "a::two", "b::one"]);
        assert_eq!(fine, Judgement::default());
        let judgement = judge(&lists, &["a::one", "ab::one", "b::one"]);
        assert_eq!(judgement.failed, ["ab::one"]);
        assert_eq!(
            judgement.lines,
            [
                "a::two is listed but passes: remove the line (tests/upstream/not-runnable.txt, line 3)"
            ]
        );
        assert!(lists.entry("a::two").is_some() && lists.entry("ab::one").is_none());
    }

    #[test]
    fn test_that_depends_on_timing_may_pass() {
        let lists = lists("", "a::one? | off | timing\n", &["off"]).unwrap();
        for failed in [&["a::one"][..], &[]] {
            assert_eq!(judge(&lists, failed), Judgement::default());
        }
    }

    #[test]
    fn only_tests_that_ran_are_judged() {
        let lists = lists("a::* | no fixtures\n", "", &[]).unwrap();
        let known = ["a::one".to_owned(), "a::two".to_owned()];
        let verdicts = [(known[0].clone(), Verdict::Ignored)];
        let judgement = lists.judge(&known.into(), &verdicts.into());
        assert_eq!(judgement, Judgement::default());
    }

    #[test]
    fn line_counts_where_its_condition_holds() {
        let text = "a::one | rustup !linux | x\n";
        let one = lists(text, "", &["rustup"]).unwrap();
        assert!(one.entry("a::one").is_some());
        let both = lists(text, "", &["rustup", "linux"]).unwrap();
        assert!(both.entry("a::one").is_none());
        let error = lists(text, "", &[]).unwrap_err().to_string();
        assert!(
            error.contains("line 1: unknown condition `rustup`"),
            "{error}"
        );
    }

    #[test]
    fn lines_that_say_nothing_are_errors() {
        for line in [
            "a::one",
            "a::one |",
            "| x",
            "a | | | x",
            "a* | x",
            "a b | x",
        ] {
            assert!(lists(line, "", &[]).is_err(), "{line}");
        }
        let error = lists("a::one | x\n", "a::one | y\n", &[]).unwrap_err();
        assert!(error.to_string().contains("is listed already"), "{error}");
        let unknown = lists("c::one | x\n", "", &[]).unwrap();
        let line = &judge(&unknown, &[]).lines[0];
        assert!(line.starts_with("c::one is listed but there is no such test"));
    }
}
