//! Git, shut off from everything but the repository it is pointed at.
//!
//! The ids of the commits and the bytes of the patches must come out the same on every machine,
//! so nothing may leak in: no configuration of the user or the system, no attributes or hooks,
//! no variables of a surrounding `git` command (this may run inside a hook), and no repository
//! further up: the trees lie inside this checkout.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Who commits what is assembled. Not a person: the author of each patch is kept.
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

/// A working tree and the `git` to use on it.
#[derive(Clone, Debug)]
pub struct Git {
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
            program,
            dir: dir.to_path_buf(),
        })
    }

    /// The same `git` on another working tree.
    pub fn at(&self, dir: &Path) -> Self {
        Git {
            program: self.program.clone(),
            dir: dir.to_path_buf(),
        }
    }

    /// The top of the working tree.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs a command that has to succeed, and returns what it prints, without the line end.
    pub fn run<I, S>(&self, args: I) -> Result<String>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let output = self.try_run(args)?;
        let text = String::from_utf8(output).context("git printed something that is not UTF-8")?;
        Ok(text.trim_end_matches('\n').to_string())
    }

    /// Runs a command that has to succeed, and returns the bytes that it prints.
    pub fn try_run<I, S>(&self, args: I) -> Result<Vec<u8>>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let (command, output) = self.output(args)?;
        if !output.status.success() {
            bail!("{}", Failed::new(&command, &output).message());
        }
        Ok(output.stdout)
    }

    /// Runs a command that may fail: what it prints to stdout, or to stderr if it fails.
    pub fn attempt<I, S>(&self, args: I) -> Result<std::result::Result<String, String>>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let (_, output) = self.output(args)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        Ok(if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr))
        })
    }

    /// Applies one patch as one commit; what stands in the way is returned, not printed.
    pub fn am(&self, patch: &[u8]) -> Result<std::result::Result<(), String>> {
        let mut child = self
            .command()
            .args([
                "am",
                "--quiet",
                // A patch may change a file with CR LF line ends.
                "--keep-cr",
                // A subject may begin with a bracket of its own.
                "--keep-non-patch",
                "--no-scissors",
                "--no-3way",
                "--whitespace=nowarn",
                "--committer-date-is-author-date",
                "-",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("could not run {}", self.program.display()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A `git am` that ends early says why by itself.
            match stdin.write_all(patch) {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                    return Err(error).context("could not pass a patch to git");
                }
                _ => {}
            }
        }
        let output = child.wait_with_output()?;
        if output.status.success() {
            return Ok(Ok(()));
        }
        Ok(Err(String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    fn output<I, S>(&self, args: I) -> Result<(Command, Output)>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = self.command();
        let output = command
            .args(args)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("could not run {}", self.program.display()))?;
        Ok((command, output))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        for (key, _) in std::env::vars_os() {
            // Where git's own programs are is a matter of how it was installed.
            if key.to_string_lossy().starts_with("GIT_") && key != "GIT_EXEC_PATH" {
                command.env_remove(key);
            }
        }
        command
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            // Looking at a tree must not write to it: others may look at the same time.
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_AUTHOR_NAME", COMMITTER.0)
            .env("GIT_AUTHOR_EMAIL", COMMITTER.1)
            .env("GIT_AUTHOR_DATE", EPOCH)
            .env("GIT_COMMITTER_NAME", COMMITTER.0)
            .env("GIT_COMMITTER_EMAIL", COMMITTER.1)
            .env("GIT_COMMITTER_DATE", EPOCH)
            // What git says about a failed patch is read below.
            .env("LC_ALL", "C")
            .env("LANGUAGE", "C");
        if let Some(parent) = self.dir.parent() {
            command.env("GIT_CEILING_DIRECTORIES", parent);
        }
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command.arg("-C").arg(&self.dir);
        command
    }
}

/// A git command that failed.
struct Failed {
    subcommand: String,
    stderr: String,
}

impl Failed {
    fn new(command: &Command, output: &Output) -> Self {
        let subcommand = command
            .get_args()
            .skip_while(|arg| *arg != "-C")
            .nth(2)
            .unwrap_or_default();
        Failed {
            subcommand: subcommand.to_string_lossy().into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_string(),
        }
    }

    fn message(&self) -> String {
        format!("`git {}` failed: {}", self.subcommand, self.stderr)
    }
}
