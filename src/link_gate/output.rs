//! The lines of a compiler that is held: which of them wait, and what they say about its linker.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::OsStr;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::process::OnLine;

/// What a line that is an error of rustc's is about.
#[derive(Debug, PartialEq)]
pub(super) enum ErrorKind {
    /// It points at the source, or has a code that explains it.
    OfSource,
    /// It does neither: that the linker has failed is one, that there were other errors is one.
    OfNoSource,
}

impl ErrorKind {
    pub(super) fn of(line: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Diagnostic<'a> {
            /// Absent before rust-lang/rust#115691 (2023).
            #[serde(borrow, default, rename = "$message_type")]
            message_type: Option<Cow<'a, str>>,
            #[serde(borrow)]
            level: Cow<'a, str>,
            spans: Vec<IgnoredAny>,
            #[serde(default)]
            code: Option<IgnoredAny>,
        }

        if !line.starts_with('{') {
            return None;
        }
        let diagnostic: Diagnostic<'_> = serde_json::from_str(line).ok()?;
        if diagnostic.level != "error"
            || diagnostic.message_type.is_some_and(|it| it != "diagnostic")
        {
            return None;
        }
        let is_of_source = !diagnostic.spans.is_empty() || diagnostic.code.is_some();
        Some(if is_of_source {
            ErrorKind::OfSource
        } else {
            ErrorKind::OfNoSource
        })
    }
}

/// The names of the shim in what rustc prints, and what to print instead.
pub(super) struct Names(Vec<(String, String)>);

impl Names {
    pub(super) fn new(shim: &OsStr, real: &OsStr) -> Self {
        let plain = |name: &OsStr| name.display().to_string();
        let in_json = |text: &str| {
            let quoted = serde_json::Value::from(text).to_string();
            quoted[1..quoted.len() - 1].to_owned()
        };
        // rustc prints the command line of a link that failed with `Debug`, and the program in it
        // with that of a C string, which escapes single quotes as well.
        let debug = |name: &OsStr| {
            let quoted = format!("{name:?}");
            quoted[1..quoted.len() - 1].to_owned()
        };
        let debug_c = |name: &OsStr| plain(name).escape_debug().to_string();
        let mut names = vec![
            (in_json(&debug_c(shim)), in_json(&debug_c(real))),
            (in_json(&debug(shim)), in_json(&debug(real))),
            (in_json(&plain(shim)), in_json(&plain(real))),
            (plain(shim), plain(real)),
        ];
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

/// How many bytes of lines are kept of each stream. Beyond that, lines are passed on as they come, and
/// those of a second run are passed on although the first has printed them.
const MOST_BYTES: usize = 1 << 20;

/// Lines that are not passed on yet.
#[derive(Default)]
pub(super) struct HeldBack {
    lines: Vec<String>,
    bytes: usize,
}

impl HeldBack {
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(super) fn add(&mut self, line: String, on_line: OnLine<'_>) -> anyhow::Result<()> {
        self.bytes = self.bytes.saturating_add(line.len());
        if self.bytes <= MOST_BYTES {
            self.lines.push(line);
            return Ok(());
        }
        self.pass_on(on_line)?;
        on_line(&line)
    }

    pub(super) fn pass_on(&mut self, on_line: OnLine<'_>) -> anyhow::Result<()> {
        self.lines.drain(..).try_for_each(|line| on_line(&line))
    }
}

/// The lines of a stream that were passed on.
#[derive(Default)]
pub(super) struct Passed {
    times: HashMap<String, usize>,
    bytes: usize,
}

impl Passed {
    pub(super) fn add(&mut self, line: &str) {
        if let Some(times) = self.times.get_mut(line) {
            *times += 1;
        } else if self.bytes.saturating_add(line.len()) <= MOST_BYTES {
            self.bytes += line.len();
            self.times.insert(line.to_owned(), 1);
        }
    }

    /// Whether it was passed on and has not been taken as often.
    pub(super) fn take(&mut self, line: &str) -> bool {
        match self.times.get_mut(line) {
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
        use ErrorKind::*;
        for (line, kind) in [
            (
                r#"{"$message_type":"diagnostic","message":"linking with `cc` failed","code":null,"level":"error","spans":[],"children":[],"rendered":"…"}"#,
                Some(OfNoSource),
            ),
            (
                r#"{"message":"m","level":"error","spans":[]}"#,
                Some(OfNoSource),
            ),
            (
                r#"{"message":"m","code":{"code":"E0601"},"level":"error","spans":[]}"#,
                Some(OfSource),
            ),
            (
                r#"{"message":"m","code":null,"level":"error","spans":[{"line_start":1}]}"#,
                Some(OfSource),
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
            ("error: linking failed", None),
            ("", None),
        ] {
            assert_eq!(ErrorKind::of(line), kind, "{line}");
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
    fn kept_lines_are_bounded() {
        let line = "x".repeat(1000);
        let (mut passed, mut held) = (Passed::default(), HeldBack::default());
        let mut count = 0;
        for number in 0..5000 {
            let line = format!("{number} {line}");
            passed.add(&line);
            let on_line: OnLine<'_> = &mut |_| {
                count += 1;
                Ok(())
            };
            held.add(line, on_line).unwrap();
        }
        assert!(passed.bytes <= MOST_BYTES && passed.times.len() > 1000);
        assert_eq!((count, held.lines.len()), (5000, 0));
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
