//! A program that runs between cargo and rustc, and between rustc and its linker, while a build is recorded.
//!
//! | path | run by | what it does |
//! | --- | --- | --- |
//! | `…/recorder/rustc` | cargo | runs rustc, and writes down what it does |
//! | `…/recording-linker/cc` | rustc | runs the linker, and writes down how long it took |
//!
//! The linker is called as the real one is, because rustc goes by the name.

mod invocation;
mod recorder;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use fs_err as fs;
use serde::Serialize;

pub use recorder::{Compiled, LINKED, RECORDS};

/// What the program does, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Records rustc.
    Recorder,
    /// Records the linker.
    RecordingLinker,
}

impl Role {
    const ALL: [Role; 2] = [Role::Recorder, Role::RecordingLinker];

    fn dir(self) -> &'static str {
        match self {
            Role::Recorder => "recorder",
            Role::RecordingLinker => "recording-linker",
        }
    }

    /// Returns what the program at this path does.
    fn of(program: &Path) -> Option<Self> {
        let dir = program.parent()?.file_name()?;
        Role::ALL.into_iter().find(|role| dir == role.dir())
    }

    /// Puts the program where it has this role, below `dir`, and returns the path.
    ///
    /// # Errors
    ///
    /// If it cannot be put there.
    pub fn install(self, program: &Path, dir: &Path, name: &str) -> Result<PathBuf> {
        let dir = dir.join(self.dir());
        fs::create_dir_all(&dir)?;
        let path = dir.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        if !path.exists() && fs::hard_link(program, &path).is_err() {
            fs::copy(program, &path)?;
        }
        Ok(path)
    }
}

/// Does what the place of this program says.
///
/// # Errors
///
/// What is missing in the environment, or what a real compiler could fail with, such as a full disk.
pub fn run() -> Result<ExitCode> {
    let mut args = std::env::args_os();
    let program = PathBuf::from(args.next().context("no program name")?);
    match Role::of(&program) {
        Some(Role::Recorder) => recorder::run(args.collect()),
        Some(Role::RecordingLinker) => recorder::link(args.collect()),
        None => bail!("nothing is to be done at {}", program.display()),
    }
}

/// Appends a line of JSON to a file, in one write.
pub(super) fn append_line(path: &Path, entry: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    let mut file = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)?;
    file.write_all(&line)?;
    Ok(())
}

/// A value that must be in the environment.
fn variable(key: &str) -> Result<std::ffi::OsString> {
    std::env::var_os(key).with_context(|| format!("`{key}` is not set"))
}

/// Runs a program in the place of this one.
fn become_it(mut command: Command) -> Result<ExitCode> {
    let name = Path::new(command.get_program()).display().to_string();
    let error = become_or_fail(&mut command);
    match error {
        Ok(code) => Ok(code),
        Err(error) => Err(error).with_context(|| format!("could not run {name}")),
    }
}

#[cfg(unix)]
fn become_or_fail(command: &mut Command) -> std::io::Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    Err(command.exec())
}

#[cfg(not(unix))]
fn become_or_fail(command: &mut Command) -> std::io::Result<ExitCode> {
    Ok(exit_code(command.status()?))
}

/// The exit code of a program as that of this one.
fn exit_code(status: std::process::ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(101))
}
