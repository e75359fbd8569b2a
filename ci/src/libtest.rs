//! Reads what libtest prints.
//!
//! The tests of Cargo run tests whose lines look the same, and a child may write into the middle of a line. So
//! the lines of running tests only show progress. What counts is at the end: the last list of failures, and
//! the counts in the last line, which have to agree with the tests that were to run.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    Failed,
    Ignored,
}

/// Parses the output of `--list --format terse`.
pub fn names(list: &str) -> BTreeSet<String> {
    let names = list.lines().filter_map(|line| line.strip_suffix(": test"));
    names.map(str::to_owned).collect()
}

/// Parses a line that is printed when a test ends. Returns its name, and true if it failed.
pub fn ended(line: &str) -> Option<(&str, bool)> {
    let (name, verdict) = line.strip_prefix("test ")?.split_once(" ... ")?;
    Some((name, verdict == "FAILED"))
}

/// Parses a line that says that a test has been running for long.
pub fn slow(line: &str) -> Option<&str> {
    let (name, _) = line
        .strip_prefix("test ")?
        .split_once(" has been running for over ")?;
    Some(name)
}

/// Returns how each of the tests in `expected` ended. `log` is all that was printed; `ignored` are the
/// tests that libtest does not run.
pub fn verdicts(
    log: &str,
    expected: &BTreeSet<String>,
    ignored: &BTreeSet<String>,
) -> Result<BTreeMap<String, Verdict>> {
    let (before, result) = log
        .rsplit_once("\ntest result: ")
        .context("there is no `test result:` line")?;
    let result = result.lines().next().unwrap_or_default();
    let mut failed = BTreeSet::new();
    if !result.contains(" 0 failed;") {
        let (_, list) = before.rsplit_once("\nfailures:\n").unwrap_or_default();
        failed.extend(list.lines().filter_map(|line| line.strip_prefix("    ")));
    }
    if let Some(unknown) = failed.iter().find(|name| !expected.contains(**name)) {
        bail!("`{unknown}` is listed as failed, and was not among the tests to run");
    }
    let verdict = |name: &String| {
        if failed.contains(&**name) {
            Verdict::Failed
        } else if ignored.contains(name) {
            Verdict::Ignored
        } else {
            Verdict::Passed
        }
    };
    let verdicts = expected.iter().map(|name| (name.clone(), verdict(name)));
    let verdicts: BTreeMap<String, Verdict> = verdicts.collect();
    let count = |wanted| verdicts.values().filter(|it| **it == wanted).count();
    let counts = format!(
        ". {} passed; {} failed; {} ignored;",
        count(Verdict::Passed),
        count(Verdict::Failed),
        count(Verdict::Ignored)
    );
    // `FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; …`
    if !result.contains(&counts) {
        bail!("`{result}` does not agree with the tests that were to run{counts}");
    }
    Ok(verdicts)
}

/// Returns what a failed test has printed.
pub fn output(log: &str, test: &str, verdicts: &BTreeMap<String, Verdict>) -> String {
    let header = |line: &str| -> Option<String> {
        let name = line.strip_prefix("---- ")?.strip_suffix(" stdout ----")?;
        let is_failed = verdicts.get(name) == Some(&Verdict::Failed);
        is_failed.then(|| name.to_owned())
    };
    let lines = log.lines();
    let lines = lines.skip_while(|line| header(line).as_deref() != Some(test));
    let lines = lines.skip(1).take_while(|line| header(line).is_none());
    let text = lines.collect::<Vec<_>>().join("\n");
    // The last one is followed by the list of failures.
    let text = text
        .rsplit_once("\nfailures:\n    ")
        .map_or(&*text, |(text, _)| text);
    text.trim_end().to_owned()
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
    fn end_of_the_log_decides() {
        let expected = set(&["a::one", "a::two", "a::three", "a::four"]);
        let verdicts = verdicts(LOG, &expected, &set(&["a::three", "b::other"])).unwrap();
        assert_eq!(verdicts["a::one"], Verdict::Passed);
        assert_eq!(verdicts["a::two"], Verdict::Failed);
        assert_eq!(verdicts["a::three"], Verdict::Ignored);
        assert_eq!(verdicts["a::four"], Verdict::Passed);
        let output = output(LOG, "a::two", &verdicts);
        assert!(output.starts_with("running 1 test\n"), "{output}");
        assert!(output.ends_with("the end"), "{output}");
    }

    #[test]
    fn counts_must_agree() {
        let expected = set(&["a::one", "a::two", "a::three"]);
        let error = |log: &str| {
            let verdicts = verdicts(log, &expected, &BTreeSet::new());
            verdicts.unwrap_err().to_string()
        };
        assert!(error(LOG).contains("does not agree"));
        assert!(error("running 4 tests\n").contains("no `test result:`"));
        let lost = LOG.replace("a::two\n\ntest result", "a::gone\n\ntest result");
        assert!(error(&lost).contains("`a::gone`"));
    }

    #[test]
    fn lines_while_tests_run() {
        assert_eq!(ended("test a::one ... ok"), Some(("a::one", false)));
        assert_eq!(ended("test a::one ... FAILED"), Some(("a::one", true)));
        let line = "test a::one has been running for over 60 seconds";
        assert_eq!((ended(line), slow(line)), (None, Some("a::one")));
    }

    #[test]
    fn listed_names() {
        let list = "a::one: test\na::two: test\nb: benchmark\n\n2 tests, 1 benchmarks\n";
        assert_eq!(names(list), set(&["a::one", "a::two"]));
    }
}
