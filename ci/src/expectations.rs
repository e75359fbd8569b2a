//! The tests of Cargo that are expected to fail, and why.
//!
//! A list is held to account in both directions: a failure that is in none is an error, and so
//! is a line that says more than what happens.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
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
  setting      a setting is read by all tests (--mode, --no-early-cutoff)
  cutoff       early cutoff is not turned off (--no-early-cutoff)
  rust-1.N     the compiler is of Rust 1.N or newer

A test that is listed and passes, and a line that matches no test, fail the run.";

/// Tests that cannot run, on the released crate as little as on the replacement.
const NOT_RUNNABLE: &str = "not-runnable.txt";

/// Tests on which the replacement is meant to differ.
const DEVIATIONS: &str = "deviations.txt";

/// What a condition can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fact {
    /// The permissions of files hold for the tests.
    Permissions,
    /// GitHub can be reached by SSH.
    Github,
    /// The tests take the compiler for a nightly.
    Nightly,
    /// There is a rustup.
    Rustup,
    /// The system is Linux.
    Linux,
    /// The system is macOS.
    Macos,
    /// The system is Windows.
    Windows,
    /// The released cargo is tested.
    Stock,
    /// Pipelining is turned off.
    Off,
    /// What links starts on metadata, too.
    Link,
    /// A mode of pipelining is set for all tests.
    Mode,
    /// Something is set for all tests.
    Setting,
    /// Early cutoff is on.
    Cutoff,
    /// The compiler is of this release of Rust 1, or newer.
    Rust(u32),
}

impl Fact {
    const ALL: &[(&str, Fact)] = &[
        ("permissions", Fact::Permissions),
        ("github", Fact::Github),
        ("nightly", Fact::Nightly),
        ("rustup", Fact::Rustup),
        ("linux", Fact::Linux),
        ("macos", Fact::Macos),
        ("windows", Fact::Windows),
        ("stock", Fact::Stock),
        ("off", Fact::Off),
        ("link", Fact::Link),
        ("mode", Fact::Mode),
        ("setting", Fact::Setting),
        ("cutoff", Fact::Cutoff),
    ];

    fn parse(word: &str) -> Option<Self> {
        if let Some(minor) = word.strip_prefix("rust-1.") {
            return minor.parse().ok().map(Fact::Rust);
        }
        let (_, fact) = Self::ALL.iter().find(|(name, _)| *name == word)?;
        Some(*fact)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Test(String),
    Module(String),
}

impl Pattern {
    fn matches(&self, test: &str) -> bool {
        match self {
            Pattern::Test(name) => name == test,
            Pattern::Module(module) => test
                .strip_prefix(module.as_str())
                .is_some_and(|rest| rest.starts_with("::")),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::Test(name) => f.write_str(name),
            Pattern::Module(module) => write!(f, "{module}::*"),
        }
    }
}

/// A line of a list.
#[derive(Clone, Debug)]
struct Entry {
    place: String,
    pattern: Pattern,
    condition: Vec<(Fact, bool)>,
    may_pass: bool,
}

impl Entry {
    fn holds(&self, facts: &BTreeSet<Fact>) -> bool {
        self.condition
            .iter()
            .all(|(fact, wanted)| facts.contains(fact) == *wanted)
    }
}

/// Both lists.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    entries: Vec<Entry>,
}

/// Something that fails a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A test failed that is not listed.
    Failed {
        /// Its name.
        test: String,
    },
    /// A listed test passed.
    Passed {
        /// Its name.
        test: String,
        /// The line that lists it.
        place: String,
    },
    /// A line is about no test that there is.
    Unknown {
        /// What the line names.
        pattern: String,
        /// The line.
        place: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Failed { test } => write!(f, "{test} failed"),
            Finding::Passed { test, place } => {
                write!(f, "{test} is listed but passes: remove the line ({place})")
            }
            Finding::Unknown { pattern, place } => {
                write!(
                    f,
                    "{pattern} is listed but there is no such test: remove the line ({place})"
                )
            }
        }
    }
}

impl Expectations {
    /// Reads both lists in `dir`; a list that is not there is empty.
    ///
    /// `holds` is asked only about what a condition is about, and once: it may take its time.
    pub fn read(dir: &Path, mut holds: impl FnMut(Fact) -> Result<bool>) -> Result<Self> {
        let mut expectations = Expectations::default();
        for file in [NOT_RUNNABLE, DEVIATIONS] {
            // What the replacement is meant to do differently says nothing about the released one.
            if file == DEVIATIONS && holds(Fact::Stock)? {
                continue;
            }
            match fs::read_to_string(dir.join(file)) {
                Ok(text) => expectations.add(file, &text)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        let conditions = expectations.entries.iter().flat_map(|e| &e.condition);
        let asked: BTreeSet<Fact> = conditions.map(|(fact, _)| *fact).collect();
        let mut facts = BTreeSet::new();
        for fact in asked {
            if holds(fact)? {
                facts.insert(fact);
            }
        }
        expectations.entries.retain(|entry| entry.holds(&facts));
        Ok(expectations)
    }

    fn add(&mut self, file: &str, text: &str) -> Result<()> {
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let place = format!("tests/upstream/{file}, line {}", number + 1);
            let entry = parse(line, &place).with_context(|| place.clone())?;
            let same = |other: &&Entry| {
                other.pattern == entry.pattern && other.condition == entry.condition
            };
            if let Some(other) = self.entries.iter().find(same) {
                let pattern = &entry.pattern;
                bail!("{place}: `{pattern}` is listed already ({})", other.place);
            }
            self.entries.push(entry);
        }
        Ok(())
    }

    fn entry(&self, test: &str) -> Option<&Entry> {
        self.entries
            .iter()
            .find(|entry| entry.pattern.matches(test))
    }

    /// Whether a failure of this test is expected.
    pub fn contains(&self, test: &str) -> bool {
        self.entry(test).is_some()
    }

    /// What is wrong with a run, given all tests that there are and how those that ran ended.
    pub fn judge(
        &self,
        known: &BTreeSet<String>,
        verdicts: &BTreeMap<String, Verdict>,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (test, verdict) in verdicts {
            match (verdict, self.entry(test)) {
                (Verdict::Failed, None) => findings.push(Finding::Failed { test: test.clone() }),
                (Verdict::Passed, Some(entry)) if entry.may_pass => {}
                (Verdict::Passed, Some(entry)) => findings.push(Finding::Passed {
                    test: test.clone(),
                    place: entry.place.clone(),
                }),
                (Verdict::Failed, Some(_)) | (Verdict::Passed, None) | (Verdict::Ignored, _) => {}
            }
        }
        for entry in &self.entries {
            if !known.iter().any(|test| entry.pattern.matches(test)) {
                findings.push(Finding::Unknown {
                    pattern: entry.pattern.to_string(),
                    place: entry.place.clone(),
                });
            }
        }
        findings
    }
}

fn parse(line: &str, place: &str) -> Result<Entry> {
    let fields: Vec<&str> = line.split('|').map(str::trim).collect();
    let (test, condition, reason) = match fields[..] {
        [test, reason] => (test, "", reason),
        [test, condition, reason] => (test, condition, reason),
        _ => bail!("expected `TEST | REASON` or `TEST | CONDITION | REASON`, found `{line}`"),
    };
    if test.is_empty() || test.contains(' ') {
        bail!("`{test}` is not the name of a test");
    }
    if reason.is_empty() {
        bail!("`{test}` is listed without a reason");
    }
    let (test, may_pass) = match test.strip_suffix('?') {
        Some(test) => (test, true),
        None => (test, false),
    };
    let pattern = match test.strip_suffix("::*") {
        Some(module) => Pattern::Module(module.to_string()),
        None if test.contains('*') => {
            bail!("`*` stands for all tests of a module only: `MODULE::*`")
        }
        None => Pattern::Test(test.to_string()),
    };
    let mut facts = Vec::new();
    for word in condition.split_whitespace() {
        let (word, wanted) = match word.strip_prefix('!') {
            Some(word) => (word, false),
            None => (word, true),
        };
        let Some(fact) = Fact::parse(word) else {
            let names: Vec<&str> = Fact::ALL.iter().map(|(name, _)| *name).collect();
            bail!(
                "unknown condition `{word}`; there are: {}, rust-1.N",
                names.join(", ")
            );
        };
        facts.push((fact, wanted));
    }
    facts.sort_unstable();
    Ok(Entry {
        place: place.to_owned(),
        pattern,
        condition: facts,
        may_pass,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn lists(not_runnable: &str, deviations: &str, facts: &[Fact]) -> Result<Expectations> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(NOT_RUNNABLE), not_runnable).unwrap();
        fs::write(dir.path().join(DEVIATIONS), deviations).unwrap();
        Expectations::read(dir.path(), |fact| Ok(facts.contains(&fact)))
    }

    fn known() -> BTreeSet<String> {
        ["a::one", "a::two", "ab::one", "b::one"]
            .map(String::from)
            .into()
    }

    fn verdicts(failed: &[&str]) -> BTreeMap<String, Verdict> {
        known()
            .into_iter()
            .map(|name| {
                let failed = failed.contains(&name.as_str());
                let verdict = if failed {
                    Verdict::Failed
                } else {
                    Verdict::Passed
                };
                (name, verdict)
            })
            .collect()
    }

    fn findings(expectations: &Expectations, failed: &[&str]) -> Vec<String> {
        let findings = expectations.judge(&known(), &verdicts(failed));
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_test_that_depends_on_who_is_faster_may_pass() {
        let lists = lists("", "a::one? | off | timing\n", &[Fact::Off]).unwrap();
        assert_eq!(lists.judge(&known(), &verdicts(&["a::one"])), []);
        assert_eq!(lists.judge(&known(), &verdicts(&[])), []);
        assert_eq!(lists.judge(&known(), &verdicts(&["a::two"])).len(), 1);
    }

    #[test]
    fn exactly_the_listed_tests_may_fail() {
        let lists = lists(
            "# why\n\na::* | no fixtures\n",
            "b::one | we print more\n",
            &[],
        )
        .unwrap();
        assert!(findings(&lists, &["a::one", "a::two", "b::one"]).is_empty());
        assert_eq!(
            findings(&lists, &["a::one", "ab::one", "b::one"]),
            [
                "a::two is listed but passes: remove the line (tests/upstream/not-runnable.txt, line 3)",
                "ab::one failed",
            ]
        );
        assert!(lists.contains("a::two"));
        assert!(!lists.contains("ab::one"));
    }

    #[test]
    fn only_tests_that_ran_are_judged() {
        let lists = lists("a::* | no fixtures\n", "", &[]).unwrap();
        let one = [("b::one".to_string(), Verdict::Passed)].into();
        assert!(lists.judge(&known(), &one).is_empty());
        let ignored = [("a::one".to_string(), Verdict::Ignored)].into();
        assert!(lists.judge(&known(), &ignored).is_empty());
    }

    #[test]
    fn a_line_counts_where_its_condition_holds() {
        let text = "a::one | rustup linux | x\n";
        let both = lists(text, "", &[Fact::Rustup, Fact::Linux]).unwrap();
        assert!(both.contains("a::one"));
        assert!(!lists(text, "", &[Fact::Linux]).unwrap().contains("a::one"));
        let newer = lists("a::one | rust-1.97 | x\n", "", &[Fact::Rust(97)]).unwrap();
        assert!(newer.contains("a::one"));
        let negated = lists("a::one | !rustup | x\n", "", &[Fact::Rustup]).unwrap();
        assert!(!negated.contains("a::one"));
        let error = lists("a::one | rustop | x\n", "", &[]).unwrap_err();
        assert!(
            format!("{error:#}").contains("line 1: unknown condition `rustop`"),
            "{error:#}"
        );
    }

    #[test]
    fn only_facts_that_matter_are_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let text = "a::one | !github | x\na::two | !github linux | x\n";
        fs::write(dir.path().join(NOT_RUNNABLE), text).unwrap();
        let mut asked = Vec::new();
        Expectations::read(dir.path(), |fact| {
            asked.push(fact);
            Ok(false)
        })
        .unwrap();
        assert_eq!(asked, [Fact::Stock, Fact::Github, Fact::Linux]);
    }

    #[test]
    fn deviations_are_those_of_the_replacement() {
        let stock = lists("", "a::one | ours\n", &[Fact::Stock]).unwrap();
        assert!(!stock.contains("a::one"));
    }

    #[test]
    fn lines_that_say_nothing_are_errors() {
        for line in [
            "a::one",
            "a::one |",
            "| x",
            "a::one | | | x",
            "a* | x",
            "a b | x",
        ] {
            assert!(lists(line, "", &[]).is_err(), "{line}");
        }
        let error = lists("a::one | x\n", "a::one | y\n", &[]).unwrap_err();
        assert!(error.to_string().contains("is listed already"), "{error}");
        let unknown = lists("c::one | x\n", "", &[]).unwrap();
        let error = &findings(&unknown, &[])[0];
        assert!(
            error.starts_with("c::one is listed but there is no such test"),
            "{error}"
        );
    }
}
