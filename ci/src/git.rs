//! Runs git on one repository, independently of the machine.
//!
//! Commits and patches must be the same on every machine. So git reads no configuration, attributes and hooks,
//! no variables of a surrounding `git` (this may run in a hook), and finds no repository further up.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use xshell::Shell;

/// Commits what is assembled. The author of each patch is kept.
pub const COMMITTER: (&str, &str) = ("cargo xtask", "xtask@localhost");

/// The time that Cargo gives every file in a `.crate`: 2006-07-24T01:21:28Z.
const EPOCH: &str = "1153704088 +0000";

const SETTINGS: &[&str] = &[
    // These two have defaults in the user's home even where no configuration file is read.
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.hooksPath=/dev/null",
    "core.autocrlf=false",
    "core.quotePath=false",
    "commit.gpgSign=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "init.defaultBranch=assembled",
    "advice.detachedHead=false",
    // The trees may belong to another user, as they do in containers.
    "safe.directory=*",
];

const ENVIRONMENT: &[(&str, &str)] = &[
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("GIT_TERMINAL_PROMPT", "0"),
    // A command that only reads a tree must not write to it: other processes may read it, too.
    ("GIT_OPTIONAL_LOCKS", "0"),
    ("GIT_AUTHOR_NAME", COMMITTER.0),
    ("GIT_AUTHOR_EMAIL", COMMITTER.1),
    ("GIT_AUTHOR_DATE", EPOCH),
    ("GIT_COMMITTER_NAME", COMMITTER.0),
    ("GIT_COMMITTER_EMAIL", COMMITTER.1),
    ("GIT_COMMITTER_DATE", EPOCH),
    // The messages of a failed `git am` are shown in part.
    ("LC_ALL", "C"),
    ("LANGUAGE", "C"),
];

/// A working tree and the `git` that runs in it.
#[derive(Clone, Debug)]
pub struct Git {
    shell: Shell,
    program: PathBuf,
    dir: PathBuf,
}

impl Git {
    /// Finds `git`; `dir` is the top of the working tree.
    pub fn new(dir: &Path) -> Result<Self> {
        let Ok(program) = which::which("git") else {
            bail!(
                "`git` was not found: the patches are applied with it; install git and run this again"
            );
        };
        Ok(Git {
            shell: Shell::new()?,
            program,
            dir: dir.to_path_buf(),
        })
    }

    pub fn at(&self, dir: &Path) -> Self {
        Git {
            dir: dir.to_path_buf(),
            ..self.clone()
        }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs a command that has to succeed, and returns its output without the line end.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        Ok(self.text(args)?.trim_end_matches('\n').to_owned())
    }

    /// Runs a command that has to succeed, and returns its output as it is.
    pub fn text(&self, args: &[&str]) -> Result<String> {
        match self.attempt(args, "")? {
            Ok(text) => Ok(text),
            Err(error) => bail!("`git {}` failed: {}", args[0], error.trim()),
        }
    }

    /// Runs a command that may fail, and returns its stdout, or its stderr if it fails.
    pub fn attempt(&self, args: &[&str], stdin: &str) -> Result<Result<String, String>> {
        let mut command = self.shell.cmd(&self.program);
        for (key, _) in std::env::vars_os() {
            // The location of git's own programs depends on its installation.
            if key.to_string_lossy().starts_with("GIT_") && key != "GIT_EXEC_PATH" {
                command = command.env_remove(key);
            }
        }
        if let Some(parent) = self.dir.parent() {
            command = command.env("GIT_CEILING_DIRECTORIES", parent);
        }
        for setting in SETTINGS {
            command = command.args(["-c", setting]);
        }
        let output = command
            .envs(ENVIRONMENT.iter().copied())
            .arg("-C")
            .arg(&self.dir)
            .args(args)
            .stdin(stdin)
            .ignore_status()
            .output()?;
        Ok(if output.status.success() {
            Ok(String::from_utf8(output.stdout).context("the output of git is not UTF-8")?)
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        })
    }
}
