//! rustc's artifact notifications.
//!
//! With `--json=artifacts` rustc names each file that it has written on its stderr, one JSON object a line
//! (`emit_artifact_notification` in rustc's `compiler/rustc_errors/src/json.rs`):
//!
//! ```text
//! {"$message_type":"artifact","artifact":"/…/deps/libfoo-0123.rmeta","emit":"metadata"}
//! ```
//!
//! rustc names the metadata when the file is complete and before code generation starts. The line starts
//! other jobs, so it counts only if it names the very file that they will read. Anything else on that pipe,
//! from rustc, a wrapper or a program that either runs, is ignored; then dependents start when the job ends.

use std::borrow::Cow;
use std::path::Path;

use serde::Deserialize;

/// The name of a file that rustc has written.
#[derive(Debug, Deserialize)]
pub struct Notification<'a> {
    /// Absent before rust-lang/rust#115691 (2023).
    #[serde(borrow, default, rename = "$message_type")]
    message_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    artifact: Cow<'a, str>,
    #[serde(borrow, default)]
    emit: Option<Cow<'a, str>>,
}

impl<'a> Notification<'a> {
    /// Reads a line of stderr. `None` if it is no notification.
    pub fn parse(line: &'a str) -> Option<Self> {
        let notification: Self = serde_json::from_str(line).ok()?;
        match notification.message_type.as_deref() {
            None | Some("artifact") => Some(notification),
            Some(_) => None,
        }
    }

    /// True if this names `rmeta`, the metadata file of a unit.
    ///
    /// Compares file names, not whole paths: they hold the unit's own hash, and a wrapper may see the same
    /// directory under another name.
    pub fn is_metadata(&self, rmeta: &Path) -> bool {
        self.emit.as_deref().is_none_or(|emit| emit == "metadata")
            && rmeta.extension().is_some_and(|it| it == "rmeta")
            && Path::new(&*self.artifact).file_name() == rmeta.file_name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RMETA: &str = "/a dir/target/debug/deps/libfoo-0123456789abcdef.rmeta";

    fn is_metadata(line: &str) -> Option<bool> {
        Notification::parse(line).map(|it| it.is_metadata(Path::new(RMETA)))
    }

    #[test]
    fn recognizes_only_the_units_metadata() {
        for (line, is) in [
            // Since rust-lang/rust#115691, as captured from 1.95.
            (
                r#"{"$message_type":"artifact","artifact":"/a dir/target/debug/deps/libfoo-0123456789abcdef.rmeta","emit":"metadata"}"#,
                Some(true),
            ),
            // Before that.
            (
                r#"{"artifact":"/a dir/target/debug/deps/libfoo-0123456789abcdef.rmeta","emit":"metadata"}"#,
                Some(true),
            ),
            // The same file under another name of its directory.
            (
                r#"{"$message_type":"artifact","artifact":"deps/libfoo-0123456789abcdef.rmeta","emit":"metadata"}"#,
                Some(true),
            ),
            // Another file of the unit, and files of other units.
            (
                r#"{"$message_type":"artifact","artifact":"/a dir/target/debug/deps/libfoo-0123456789abcdef.rlib","emit":"link"}"#,
                Some(false),
            ),
            (
                r#"{"$message_type":"artifact","artifact":"/a dir/target/debug/deps/libbar-0123456789abcdef.rmeta","emit":"metadata"}"#,
                Some(false),
            ),
            // A kind of file that does not exist yet.
            (
                r#"{"$message_type":"artifact","artifact":"/a dir/target/debug/deps/libfoo-0123456789abcdef.rmeta","emit":"hologram"}"#,
                Some(false),
            ),
            // A diagnostic, also one that has such a field.
            (r#"{"$message_type":"diagnostic","message":"m"}"#, None),
            (
                r#"{"$message_type":"diagnostic","artifact":"libfoo-0123456789abcdef.rmeta","emit":"metadata"}"#,
                None,
            ),
            // Not what it looks like.
            (r#"{"artifact":"libfoo-0123456789abcdef.rmeta""#, None),
            (r#"{"artifact":7}"#, None),
            (r#"["artifact"]"#, None),
            ("", None),
        ] {
            assert_eq!(is_metadata(line), is, "{line}");
        }
    }

    #[test]
    fn other_outputs_announce_no_metadata() {
        let line = r#"{"artifact":"deps/foo-0123","emit":"link"}"#;
        let notification = Notification::parse(line).unwrap();
        assert!(!notification.is_metadata(Path::new("deps/foo-0123")));
    }

    /// A line in which anything can be wrong, most often little.
    fn damaged_line() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            8 => prop::sample::select(vec![
                "{", "}", "\"", ":", ",", "[", "\\", "\\u0000", "\u{fffd}", " ", "null", "-1e999",
                "\"$message_type\":\"artifact\"", "\"emit\":\"metadata\"", "\"emit\":null",
                "\"artifact\":\"deps/libfoo-0123456789abcdef.rmeta\"", "\"artifact\":\"/\"",
            ])
            .prop_map(str::to_owned),
            1 => ".{0,8}",
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        /// Never a panic; and never true for a line that does not name the file.
        #[test]
        fn damaged_lines_are_ignored(line in damaged_line()) {
            if is_metadata(&line) == Some(true) {
                prop_assert!(line.contains("libfoo-0123456789abcdef.rmeta"), "{}", line);
            }
        }
    }
}
