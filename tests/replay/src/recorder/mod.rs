//! A small program between cargo and rustc, and between rustc and the linker, that writes down what
//! they do and how long it takes. Which of the two it is depends on where it is run from.
//!
//! | path | run by | runs |
//! | --- | --- | --- |
//! | `…/recorder/rustc` | cargo | rustc |
//! | `…/recording-linker/cc` | rustc | the linker; it is called as that is, because rustc goes by the name |

mod invocation;
mod measure;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context, Result, bail};
use fs_err as fs;

pub use measure::{Compiled, LINKED, RECORDS};

/// What a recorder runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// rustc.
    Rustc,
    /// The linker.
    Linker,
}

impl Role {
    fn dir(self) -> &'static str {
        match self {
            Role::Rustc => "recorder",
            Role::Linker => "recording-linker",
        }
    }

    fn of(program: &Path) -> Option<Self> {
        let dir = program.parent()?.file_name()?;
        let mut roles = [Role::Rustc, Role::Linker].into_iter();
        roles.find(|role| role.dir() == dir)
    }

    /// Puts the recorder where it has this role, below `dir`, and returns where that is.
    ///
    /// # Errors
    ///
    /// If it cannot be put there.
    pub fn install(self, recorder: &Path, dir: &Path, name: &str) -> Result<PathBuf> {
        let dir = dir.join(self.dir());
        fs::create_dir_all(&dir)?;
        let path = dir.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        if !path.exists() && fs::hard_link(recorder, &path).is_err() {
            fs::copy(recorder, &path)?;
        }
        Ok(path)
    }
}

/// Does what the place of this program says.
///
/// # Errors
///
/// If something is missing in the environment, or a file or program that is needed.
pub fn run() -> Result<ExitCode> {
    let mut args = std::env::args_os();
    let program = PathBuf::from(args.next().context("no program name")?);
    match Role::of(&program) {
        Some(Role::Rustc) => measure::rustc(args.collect()),
        Some(Role::Linker) => measure::linker(args.collect()),
        None => bail!("nothing is to be recorded at {}", program.display()),
    }
}

/// A value that must be in the environment.
fn variable(key: &str) -> Result<OsString> {
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
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(101))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_makes_a_role() {
        for (path, role) in [
            ("/t/recorder/rustc", Some(Role::Rustc)),
            ("/t/recording-linker/clang", Some(Role::Linker)),
            ("/t/release/recorder", None),
            ("recorder", None),
        ] {
            assert_eq!(Role::of(Path::new(path)), role, "{path}");
        }
    }
}
