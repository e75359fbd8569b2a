//! What runs between cargo and rustc, and between rustc and its linker, while a build is recorded: `cargo xtask`
//! itself, at another place.
//!
//! | path | run by | what it does |
//! | --- | --- | --- |
//! | `…/recorder/rustc` | cargo | runs rustc, and records what it does |
//! | `…/recording-linker/cc` | rustc | runs the linker, and records how long it took |
//!
//! The linker has the name of the real one, because rustc goes by it.

mod invocation;
mod recorder;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use fs_err as fs;
use serde::Serialize;

pub use recorder::{Compiled, LINKED, RECORDS};

/// The directory of the program that cargo runs.
pub const RECORDER: &str = "recorder";
/// The directory of the program that rustc runs.
const RECORDING_LINKER: &str = "recording-linker";

/// Puts this program into the directory of a role, below `dir`, and returns the path.
pub fn install(role: &str, dir: &Path, name: &str) -> Result<PathBuf> {
    let dir = dir.join(role);
    fs::create_dir_all(&dir)?;
    let path = dir.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let program = std::env::current_exe()?;
    if !path.exists() && fs::hard_link(&program, &path).is_err() {
        fs::copy(&program, &path)?;
    }
    Ok(path)
}

/// Does what the place of this program says, where it has been [installed](install).
pub fn run() -> Option<Result<ExitCode>> {
    let mut args = std::env::args_os();
    let program = PathBuf::from(args.next()?);
    match program.parent()?.file_name()?.to_str()? {
        RECORDER => Some(recorder::run(args.collect())),
        RECORDING_LINKER => Some(recorder::link(args.collect())),
        _ => None,
    }
}

/// Appends a line of JSON to a file, in one write.
fn append_line(path: &Path, entry: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    let mut options = fs::OpenOptions::new();
    let mut file = options.append(true).create(true).open(path)?;
    Ok(file.write_all(&line)?)
}

/// Reads a variable that must be in the environment.
fn variable(key: &str) -> Result<std::ffi::OsString> {
    std::env::var_os(key).with_context(|| format!("`{key}` is not set"))
}

/// Returns the exit code of a program as that of this one.
fn exit_code(status: std::process::ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(101))
}
