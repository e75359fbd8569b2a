//! What is done with the lines of a compiler that is held.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::hash::BuildHasher;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

/// A diagnostic of rustc. What is in its spans may be nested too deeply for a [`Value`].
#[derive(Deserialize)]
struct Diagnostic<'a> {
    /// Absent before rust-lang/rust#115691 (2023).
    #[serde(borrow, rename = "$message_type")]
    message_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    level: Cow<'a, str>,
    code: Option<IgnoredAny>,
    spans: Vec<IgnoredAny>,
}

/// Whether a line that is an error of rustc's is about the source: it points at it, or has a code that
/// explains it. That the linker has failed does neither, and neither does that there were other errors.
/// `None` if the line is no error.
pub(super) fn is_source_error(line: &str) -> Option<bool> {
    let diagnostic: Diagnostic<'_> = serde_json::from_str(line).ok()?;
    let is_other = (diagnostic.message_type).is_some_and(|it| it != "diagnostic");
    let is_error = diagnostic.level == "error" && !is_other;
    is_error.then_some(!diagnostic.spans.is_empty() || diagnostic.code.is_some())
}

/// The names of the shim in what rustc prints, and what to print instead.
pub(super) struct Names(Vec<(String, String)>);

impl Names {
    pub(super) fn new(shim: &OsStr, real: &OsStr) -> Self {
        let unquoted = |quoted: String| quoted[1..quoted.len() - 1].to_owned();
        let json = |text: &str| unquoted(Value::from(text).to_string());
        let spellings = |name: &OsStr| {
            let plain = name.display().to_string();
            // rustc prints the command line of a link that failed with `Debug`, and the program in it
            // with that of a C string, which escapes single quotes as well.
            let debug_c = plain.escape_debug().to_string();
            let debug = unquoted(format!("{name:?}"));
            [json(&debug_c), json(&debug), json(&plain), plain]
        };
        let mut names: Vec<_> = spellings(shim).into_iter().zip(spellings(real)).collect();
        // What has to be escaped is in all of them or in none, and the longer ones may hold the
        // others.
        names.dedup_by(|later, earlier| later.0 == earlier.0);
        Names(names)
    }

    pub(super) fn real<'a>(&self, line: &'a str) -> Cow<'a, str> {
        let mut line = Cow::Borrowed(line);
        for (shim, real) in &self.0 {
            if line.contains(shim) {
                line = Cow::Owned(line.replace(shim, real));
            }
        }
        line
    }
}

/// How often each line of a stream was passed on, by its hash, so that much output takes little memory.
#[derive(Default)]
pub(super) struct Passed(HashMap<u64, usize>);

impl Passed {
    pub(super) fn add(&mut self, line: &str) {
        let hash = self.0.hasher().hash_one(line);
        *self.0.entry(hash).or_default() += 1;
    }

    /// Whether it was passed on and has not been taken as often.
    pub(super) fn take(&mut self, line: &str) -> bool {
        let hash = self.0.hasher().hash_one(line);
        match self.0.get_mut(&hash) {
            Some(times) if *times > 0 => {
                *times -= 1;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_may_be_about_the_link() {
        let [open, close] = [r#"{"span":"#, "}"].map(|it| it.repeat(200));
        let nested = format!(r#"{{"level":"error","spans":[{open}0{close}]}}"#);
        for (line, expected) in [
            (
                r#"{"$message_type":"diagnostic","message":"linking with `cc` failed","code":null,"level":"error","spans":[],"children":[],"rendered":"…"}"#,
                Some(false),
            ),
            (r#"{"message":"m","level":"error","spans":[]}"#, Some(false)),
            (
                r#"{"message":"m","code":{"code":"E0601"},"level":"error","spans":[]}"#,
                Some(true),
            ),
            (
                r#"{"message":"m","code":null,"level":"error","spans":[{"line_start":1}]}"#,
                Some(true),
            ),
            (
                r#"{"message":"m","code":null,"level":"warning","spans":[]}"#,
                None,
            ),
            (
                r#"{"message":"m","code":null,"level":"error: internal compiler error","spans":[]}"#,
                None,
            ),
            (
                r#"{"$message_type":"artifact","level":"error","spans":[]}"#,
                None,
            ),
            (
                r#"{"$message_type":"artifact","artifact":"a","emit":"link"}"#,
                None,
            ),
            (r#"{"level":"error"}"#, None),
            (&nested, Some(true)),
            ("error: linking failed", None),
            ("", None),
        ] {
            assert_eq!(is_source_error(line), expected, "{line}");
        }
    }

    #[test]
    fn real_linker_is_named() {
        let names = Names::new(OsStr::new("/a \"dir\"/cc"), OsStr::new("my \\ cc"));
        for (line, expected) in [
            (
                "/a \"dir\"/cc failed, /a \"dir\"/cc!",
                "my \\ cc failed, my \\ cc!",
            ),
            (
                r#"{"m":"`/a \"dir\"/cc` failed"}"#,
                r#"{"m":"`my \\ cc` failed"}"#,
            ),
            (
                r#"{"m":"\"/a \\\"dir\\\"/cc\" \"-m64\""}"#,
                r#"{"m":"\"my \\\\ cc\" \"-m64\""}"#,
            ),
            ("/a dir/cc", "/a dir/cc"),
        ] {
            assert_eq!(names.real(line), expected);
        }
        let names = Names::new(OsStr::new("/it's/cc"), OsStr::new("cc"));
        for line in [
            r#"{"m":"\"/it\\'s/cc\" -m64"}"#,
            r#"{"m":"\"/it's/cc\" -m64"}"#,
        ] {
            assert_eq!(names.real(line), r#"{"m":"\"cc\" -m64"}"#);
        }
        let names = Names::new(OsStr::new("/target/cc"), OsStr::new("cc"));
        assert_eq!(names.0.len(), 1);
        assert!(matches!(names.real("as ever"), Cow::Borrowed("as ever")));
    }

    #[test]
    fn line_is_dropped_as_often_as_it_was_passed() {
        let mut passed = Passed::default();
        for line in ["a", "b", "a"] {
            passed.add(line);
        }
        assert_eq!(
            ["a", "a", "a", "b", "b", "c"].map(|line| passed.take(line)),
            [true, true, false, true, false, false]
        );
    }
}
