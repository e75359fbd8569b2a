//! The arguments of rustc.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use fs_err as fs;

/// A call of rustc by cargo, as far as it matters here.
pub(super) struct Invocation(pub Vec<String>);

impl Invocation {
    /// Returns the values of an option.
    fn values<'a>(&'a self, option: &'a str) -> impl Iterator<Item = &'a str> {
        let following = self.0.windows(2).filter(move |pair| pair[0] == option);
        let joined = self
            .0
            .iter()
            .filter_map(move |arg| arg.strip_prefix(option));
        let joined = joined.filter_map(|rest| rest.strip_prefix('='));
        following.map(|pair| &*pair[1]).chain(joined)
    }

    fn value<'a>(&'a self, option: &'a str) -> &'a str {
        self.values(option).last().unwrap_or_default()
    }

    /// Returns the root of the crate, which comes before all paths.
    pub fn source(&self) -> Option<&Path> {
        let is_source = |arg: &&String| arg.ends_with(".rs") && !arg.starts_with('-');
        self.0.iter().find(is_source).map(Path::new)
    }

    pub fn crate_name(&self) -> &str {
        self.value("--crate-name")
    }

    pub fn is_test(&self) -> bool {
        self.0.iter().any(|arg| arg == "--test")
    }

    /// True if rustc is to report its artifacts.
    pub fn reports_artifacts(&self) -> bool {
        self.value("--json").contains("artifacts")
    }

    /// True if it is asked for, at any level but 0.
    pub fn has_codegen_option(&self, option: &str) -> bool {
        let given = self.values("-C").filter_map(|it| it.split_once('='));
        let level = given.filter(|(name, _)| *name == option).last();
        level.is_some_and(|(_, level)| level != "0" && level != "none")
    }

    pub fn emits(&self, what: &str) -> bool {
        self.value("--emit").split(',').any(|emit| emit == what)
    }

    pub fn output(&self, prefix: &str, suffix: &str) -> PathBuf {
        let mut options = self.values("-C");
        let extra = options.find_map(|it| it.strip_prefix("extra-filename="));
        let (name, extra) = (self.crate_name(), extra.unwrap_or_default());
        Path::new(self.value("--out-dir")).join(format!("{prefix}{name}{extra}{suffix}"))
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
