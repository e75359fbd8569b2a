//! One small program that is many: what it does depends on where it is run from.
//!
//! | path | run by | in the place of |
//! | --- | --- | --- |
//! | `…/rustc/rustc` | cargo | rustc, in a replay |
//! | `…/linker/cc` | the above, or the gate's shim | the linker, in a replay |
//! | `…/build-script-build` | cargo | a build script, in a replay; the linker has put it there |
//! | `…/recorder/rustc` | cargo | nothing: it runs rustc, and writes down what it does |
//! | `…/recording-linker/cc` | rustc | nothing: it runs the linker, and writes down how long it took |
//! | `…/nothing/nothing` | `xtask` | a stand-in that has nothing to do |
//!
//! The linkers are called as the real one is, because rustc goes by the name.

mod build_script;
mod clock;
mod compiler;
mod linker;
mod recorder;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use fs_err as fs;

pub use recorder::{Compiled, LINKED, RECORDS};

/// What a stand-in is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Replays rustc.
    Rustc,
    /// Replays the linker.
    Linker,
    /// Replays a build script.
    BuildScript,
    /// Records rustc.
    Recorder,
    /// Records the linker.
    RecordingLinker,
    /// Does nothing.
    Nothing,
}

impl Role {
    const IN_DIRECTORIES: [(Role, &str); 5] = [
        (Role::Rustc, "rustc"),
        (Role::Linker, "linker"),
        (Role::Recorder, "recorder"),
        (Role::RecordingLinker, "recording-linker"),
        (Role::Nothing, "nothing"),
    ];

    /// What the program at this path is.
    fn of(program: &Path) -> Option<Self> {
        let name = program.file_stem()?.to_str()?;
        if name.starts_with("build-script-") || name.starts_with("build_script_") {
            return Some(Role::BuildScript);
        }
        let dir = program.parent()?.file_name()?;
        let mut roles = Role::IN_DIRECTORIES.into_iter();
        roles.find_map(|(role, name)| (name == dir).then_some(role))
    }

    /// Puts the stand-in where it has this role, below `dir`, and says where that is.
    ///
    /// # Errors
    ///
    /// It cannot be put there, or has the role only where cargo puts it.
    pub fn install(self, stand_in: &Path, dir: &Path, name: &str) -> Result<PathBuf> {
        let mut roles = Role::IN_DIRECTORIES.into_iter();
        let Some((_, sub)) = roles.find(|(role, _)| *role == self) else {
            bail!("a stand-in is no {self:?} by its place");
        };
        let dir = dir.join(sub);
        fs::create_dir_all(&dir)?;
        let path = dir.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        if !path.exists() && fs::hard_link(stand_in, &path).is_err() {
            fs::copy(stand_in, &path)?;
        }
        Ok(path)
    }
}

/// Does what the place of this program says.
///
/// # Errors
///
/// What is missing in the environment, or wrong in a plan; and what a real compiler could fail with,
/// such as a full disk.
pub fn run() -> Result<ExitCode> {
    let mut args = std::env::args_os();
    let program = PathBuf::from(args.next().context("no program name")?);
    match Role::of(&program) {
        Some(Role::Rustc) => compiler::run(args.collect()),
        Some(Role::Linker) => linker::run(args.collect()),
        Some(Role::BuildScript) => build_script::run(),
        Some(Role::Recorder) => recorder::run(args.collect()),
        Some(Role::RecordingLinker) => recorder::link(args.collect()),
        Some(Role::Nothing) => Ok(ExitCode::SUCCESS),
        None => bail!("nothing is to be done at {}", program.display()),
    }
}

/// The sysroot that a stand-in for rustc at this path says to have. In its `bin` it stands as well.
pub fn sysroot(stand_in: &Path) -> PathBuf {
    stand_in.with_file_name("sysroot")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_makes_a_role() {
        for (path, role) in [
            ("/t/rustc/rustc", Some(Role::Rustc)),
            ("/t/linker/cc", Some(Role::Linker)),
            ("/t/recording-linker/clang", Some(Role::RecordingLinker)),
            (
                "/t/debug/build/a-1/build-script-build",
                Some(Role::BuildScript),
            ),
            (
                "/t/debug/build/a-1/build_script_build-1",
                Some(Role::BuildScript),
            ),
            ("/t/release/stand-in", None),
            ("stand-in", None),
        ] {
            assert_eq!(Role::of(Path::new(path)), role, "{path}");
        }
    }
}
