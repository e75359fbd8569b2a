//! rustc's artifact notifications.
//!
//! With `--json=artifacts` rustc says on its stderr, one JSON object a line, which files it has
//! written (`emit_artifact_notification` in rustc's `compiler/rustc_errors/src/json.rs`):
//!
//! ```text
//! {"$message_type":"artifact","artifact":"/…/deps/libfoo-0123.rmeta","emit":"metadata"}
//! ```
//!
//! The line about the metadata comes after the file is complete and before code generation starts,
//! which is what lets dependents start early. It decides when other jobs start, so it counts only
//! if it is about the very file that they will read. Whatever else arrives on that pipe, from rustc,
//! from a wrapper around it, or from a program that either has started, is at worst ignored; then
//! the dependents start when the job ends.

use std::borrow::Cow;
use std::path::Path;

use serde::Deserialize;

/// rustc says that it has written a file.
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
    /// Reads a line of rustc's stderr, or of what a wrapper made of it. `None` if the line is
    /// anything else than a notification.
    pub fn parse(line: &'a str) -> Option<Self> {
        let notification: Self = serde_json::from_str(line).ok()?;
        match notification.message_type.as_deref() {
            None | Some("artifact") => Some(notification),
            Some(_) => None,
        }
    }

    /// Whether this says that `rmeta`, the metadata file of one unit, is written.
    ///
    /// File names are compared, not whole paths: they hold the unit's own hash, and a wrapper may
    /// see the same directory under another name.
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
    fn the_lines_of_rustc() {
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
    fn a_unit_without_metadata_is_never_announced() {
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
        fn any_line_is_at_worst_ignored(line in damaged_line()) {
            if is_metadata(&line) == Some(true) {
                prop_assert!(line.contains("libfoo-0123456789abcdef.rmeta"), "{}", line);
            }
        }
    }
}
