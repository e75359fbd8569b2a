//! The arguments of rustc.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Result, bail};
use fs_err as fs;

/// A call of rustc, as far as it matters here.
#[derive(Debug, Default)]
pub(super) struct Invocation {
    /// The root of the crate.
    pub source: Option<PathBuf>,
    pub crate_name: String,
    emit: Vec<String>,
    out_dir: PathBuf,
    extra_filename: String,
    pub is_test: bool,
    /// True if rustc is to report its artifacts.
    pub reports_artifacts: bool,
}

impl Invocation {
    pub fn parse(args: &[String]) -> Self {
        let mut found = Invocation::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                _ => (arg.as_str(), None),
            };
            let mut value = || {
                value
                    .clone()
                    .or_else(|| args.next().cloned())
                    .unwrap_or_default()
            };
            match name {
                "--crate-name" => found.crate_name = value(),
                "--emit" => found.emit = value().split(',').map(str::to_owned).collect(),
                "--out-dir" => found.out_dir = value().into(),
                "--json" => found.reports_artifacts = value().contains("artifacts"),
                "--test" => found.is_test = true,
                "-C" => {
                    let value = value();
                    found.codegen_option(&value);
                }
                // Whatever it is, it is not the source.
                "-L" | "-l" | "--cfg" | "--extern" | "--crate-type" | "--check-cfg"
                | "--cap-lints" | "--error-format" | "--target" | "--edition" => {
                    value();
                }
                _ => {
                    if let Some(value) = arg.strip_prefix("-C") {
                        found.codegen_option(value);
                    } else if !arg.starts_with('-') && arg.ends_with(".rs") {
                        found.source = Some(arg.into());
                    }
                }
            }
        }
        found
    }

    fn codegen_option(&mut self, option: &str) {
        if let Some(value) = option.strip_prefix("extra-filename=") {
            self.extra_filename = value.to_owned();
        }
    }

    pub fn emits(&self, what: &str) -> bool {
        self.emit.iter().any(|emit| emit == what)
    }

    pub fn output(&self, prefix: &str, suffix: &str) -> PathBuf {
        let Invocation {
            crate_name,
            extra_filename,
            ..
        } = self;
        let name = format!("{prefix}{crate_name}{extra_filename}{suffix}");
        self.out_dir.join(name)
    }
}

/// Replaces `@file` by the lines of the file, as rustc does.
pub fn expand(args: &[OsString]) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for arg in args {
        let Some(arg) = arg.to_str() else {
            bail!("{arg:?} is not UTF-8");
        };
        match arg.strip_prefix('@') {
            Some(file) => texts.extend(fs::read_to_string(file)?.lines().map(str::to_owned)),
            None => texts.push(arg.to_owned()),
        }
    }
    Ok(texts)
}
