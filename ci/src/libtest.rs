//! What libtest prints, read without trusting it too far.
//!
//! The tests of Cargo run Cargo, whose own tests print lines that look just the same, and a child
//! may write between the two halves of a line. So the lines that come while tests run are good
//! for showing progress only. What counts is at the very end: the last list of failures, and the
//! counts in the last line, which have to agree with the tests that were to run.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// It was not run.
    Ignored,
}

/// The names in the output of `--list --format terse`.
pub fn names(list: &str) -> BTreeSet<String> {
    list.lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(str::to_string)
        .collect()
}

/// The verdict that a line tells while tests run, with the name of its test.
pub fn verdict<'a>(line: &'a str, known: &BTreeSet<String>) -> Option<(&'a str, Verdict)> {
    const DOTS: &str = " ... ";
    let mut from = 0;
    while let Some(found) = line[from..].find(DOTS) {
        let at = from + found;
        let before = line[..at].trim_end_matches(" - should panic");
        let after = &line[at + DOTS.len()..];
        let name = before.rsplit(' ').next().unwrap_or(before);
        let verdict = if after.starts_with("ok") {
            Some(Verdict::Passed)
        } else if after.starts_with("FAILED") {
            Some(Verdict::Failed)
        } else if after.starts_with("ignored") {
            Some(Verdict::Ignored)
        } else {
            None
        };
        if let Some(verdict) = verdict
            && known.contains(name)
        {
            return Some((name, verdict));
        }
        from = at + DOTS.len();
    }
    None
}

/// The test that a line says has been running for long.
pub fn slow(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?
        .strip_suffix(" seconds")?
        .split_once(" has been running for over ")
        .map(|(name, _)| name)
}

/// How a whole run ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    /// Each test that was to run, and how it ended.
    pub verdicts: BTreeMap<String, Verdict>,
    /// What the failed tests printed.
    pub output: BTreeMap<String, String>,
}

impl Report {
    /// Reads all that a run of the tests in `expected` has printed; `ignored` are those that
    /// libtest does not run.
    pub fn read(
        text: &str,
        expected: &BTreeSet<String>,
        ignored: &BTreeSet<String>,
    ) -> Result<Self> {
        let lines: Vec<&str> = text.lines().collect();
        let last = lines
            .iter()
            .rposition(|line| line.starts_with("test result: "))
            .context("there is no `test result:` line")?;
        let counts =
            Counts::parse(lines[last]).with_context(|| format!("cannot read `{}`", lines[last]))?;
        let (failed, list) = failures(&lines[..last]);
        let failed = if counts.failed == 0 {
            BTreeSet::new()
        } else {
            failed
        };
        if let Some(stranger) = failed.iter().find(|name| !expected.contains(*name)) {
            bail!("`{stranger}` is said to have failed, and was not among the tests to run");
        }
        let verdicts: BTreeMap<String, Verdict> = expected
            .iter()
            .map(|name| {
                let verdict = if failed.contains(name) {
                    Verdict::Failed
                } else if ignored.contains(name) {
                    Verdict::Ignored
                } else {
                    Verdict::Passed
                };
                (name.clone(), verdict)
            })
            .collect();
        let count = |kind| {
            verdicts
                .values()
                .filter(|verdict| **verdict == kind)
                .count()
        };
        let found = Counts {
            passed: count(Verdict::Passed),
            failed: count(Verdict::Failed),
            ignored: count(Verdict::Ignored),
        };
        if found != counts {
            bail!(
                "`{}` does not agree with the tests that were to run: {} passed, {} failed, {} ignored",
                lines[last],
                found.passed,
                found.failed,
                found.ignored
            );
        }
        Ok(Report {
            output: output(&lines[..list], &failed),
            verdicts,
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Counts {
    passed: usize,
    failed: usize,
    ignored: usize,
}

impl Counts {
    /// `test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; …`
    fn parse(line: &str) -> Option<Self> {
        let count = |word: &str| -> Option<usize> {
            let (before, _) = line.split_once(word)?;
            before.trim_end().rsplit(' ').next()?.parse().ok()
        };
        Some(Counts {
            passed: count(" passed;")?,
            failed: count(" failed;")?,
            ignored: count(" ignored;")?,
        })
    }
}

/// The names in the last list of failures, and where that list begins.
fn failures(lines: &[&str]) -> (BTreeSet<String>, usize) {
    let mut names = BTreeSet::new();
    for (index, line) in lines.iter().enumerate().rev() {
        if *line == "failures:" {
            return (names, index);
        }
        match line.strip_prefix("    ") {
            Some(name) => {
                names.insert(name.to_string());
            }
            None if line.is_empty() => {}
            None => break,
        }
    }
    (BTreeSet::new(), lines.len())
}

/// What is printed under the name of each failed test.
fn output(lines: &[&str], failed: &BTreeSet<String>) -> BTreeMap<String, String> {
    let mut output: BTreeMap<String, String> = BTreeMap::new();
    let mut current: Option<&str> = None;
    for line in lines {
        let header = line
            .strip_prefix("---- ")
            .and_then(|rest| rest.strip_suffix(" stdout ----"))
            .filter(|name| failed.contains(*name) && !output.contains_key(*name));
        if let Some(name) = header {
            current = Some(name);
            output.insert(name.to_string(), String::new());
        } else if let Some(text) = current.and_then(|name| output.get_mut(name)) {
            text.push_str(line);
            text.push('\n');
        }
    }
    output
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    const LOG: &str = "
running 4 tests
test a::one ... ok
noise of a child test a::two ... FAILED
test a::three ... ignored, requires hg
test a::four - should panic ... ok

failures:

---- a::two stdout ----
running 1 test
test inner ... FAILED

failures:

---- inner stdout ----
oh

failures:
    inner

test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

the end


failures:
    a::two

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 9 filtered out; finished in 0.17s

";

    #[test]
    fn the_end_of_the_log_decides() {
        let expected = set(&["a::one", "a::two", "a::three", "a::four"]);
        let report = Report::read(LOG, &expected, &set(&["a::three", "b::other"])).unwrap();
        assert_eq!(report.verdicts["a::one"], Verdict::Passed);
        assert_eq!(report.verdicts["a::two"], Verdict::Failed);
        assert_eq!(report.verdicts["a::three"], Verdict::Ignored);
        assert_eq!(report.verdicts["a::four"], Verdict::Passed);
        let output = &report.output["a::two"];
        assert!(output.starts_with("running 1 test\n"), "{output}");
        assert!(output.trim_end().ends_with("the end"), "{output}");
        assert_eq!(report.output.len(), 1);
    }

    #[test]
    fn counts_that_do_not_add_up_are_an_error() {
        let expected = set(&["a::one", "a::two", "a::three"]);
        let error = Report::read(LOG, &expected, &BTreeSet::new()).unwrap_err();
        assert!(error.to_string().contains("does not agree"), "{error}");
        assert!(Report::read("running 4 tests\n", &expected, &BTreeSet::new()).is_err());
        let lost = LOG.replace("a::two\n\ntest result", "a::gone\n\ntest result");
        let error = Report::read(&lost, &expected, &BTreeSet::new()).unwrap_err();
        assert!(error.to_string().contains("`a::gone`"), "{error}");
    }

    #[test]
    fn all_passed() {
        let log = "running 1 test\ntest a ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        let report = Report::read(log, &set(&["a"]), &BTreeSet::new()).unwrap();
        assert_eq!(report.verdicts["a"], Verdict::Passed);
        assert!(report.output.is_empty());
    }

    #[test]
    fn lines_while_tests_run() {
        let known = set(&["a::one"]);
        let verdict = |line| verdict(line, &known);
        assert_eq!(
            verdict("test a::one ... ok"),
            Some(("a::one", Verdict::Passed))
        );
        assert_eq!(
            verdict("x ... y test a::one ... FAILED"),
            Some(("a::one", Verdict::Failed))
        );
        assert_eq!(
            verdict("test a::one - should panic ... ok"),
            Some(("a::one", Verdict::Passed))
        );
        assert_eq!(verdict("test inner ... ok"), None);
        assert_eq!(verdict("test a::one ... "), None);
        assert_eq!(
            slow("test a::one has been running for over 60 seconds"),
            Some("a::one")
        );
        assert_eq!(slow("test a::one ... ok"), None);
    }

    #[test]
    fn listed_names() {
        let list = "a::one: test\na::two: test\nb: benchmark\n\n2 tests, 1 benchmarks\n";
        assert_eq!(names(list), set(&["a::one", "a::two"]));
    }
}
