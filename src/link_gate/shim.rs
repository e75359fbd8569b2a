//! What cargo does when it is run under a linker's name.
//!
//! Nothing here may panic, wait for anything but the permit, or write to stdout: rustc reads it.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process;

use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::execv;
use rustix::fs::{FileType, fstat};
use rustix::io::{FdFlags, fcntl_setfd};
use serde::{Deserialize, Serialize};

use super::hollow;
use super::linker::find;

/// The shim writes: it waits for a permit.
pub(super) const PARKED: u8 = b'P';
/// The shim writes: it has the permit and becomes the linker.
pub(super) const LINKING: u8 = b'L';
/// The shim writes: it could not become the linker.
pub(super) const FAILED: u8 = b'F';
/// The file beside the shim that is there once it may link.
pub(super) const PERMIT: &str = "permit";

/// What the shim has to know, in a file beside it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Job {
    /// The real linker, as it is spelled.
    pub linker: String,
    /// The number of the descriptor.
    pub descriptor: RawFd,
    /// Tells the socket from a file that has its number in another process (fstat(2)).
    pub inode: u64,
}

impl Job {
    /// Tells a shim from a cargo: no linker has that name, nor any program beside a `cargo`.
    pub(super) const FILE: &str = "link-gate-job";

    /// Opens the socket that this process has inherited.
    fn socket(&self) -> Option<UnixStream> {
        if self.descriptor < 0 {
            return None;
        }
        // SAFETY: nothing in this process closes it; where it is not open, the calls fail.
        let socket = unsafe { BorrowedFd::borrow_raw(self.descriptor) };
        let stat = fstat(socket).ok()?;
        let is_socket = FileType::from_raw_mode(stat.st_mode) == FileType::Socket;
        if !is_socket || stat.st_ino != self.inode {
            return None;
        }
        fcntl_setfd(socket, FdFlags::CLOEXEC).ok()?;
        Some(socket.try_clone_to_owned().ok()?.into())
    }
}

/// Waits for the permit and becomes the linker, if this process was started under the name of one that
/// [`run`](super::run()) gave to rustc. Otherwise, which costs one failed `open`, returns.
///
/// To be called first thing in `main`, before anything looks at the arguments or starts a thread. If it
/// does not return, the process ends as the real linker does, or with 1.
pub fn run_if_invoked_as_linker() {
    let mut args = env::args_os();
    let invoked_as = PathBuf::from(args.next().unwrap_or_default());
    let Some(dir) = (invoked_as.parent()).filter(|dir| !dir.as_os_str().is_empty()) else {
        return;
    };
    let Ok(job) = fs::read(dir.join(Job::FILE)) else {
        return;
    };
    let Err(error) = become_linker(dir, &job, args.collect());
    let _ = writeln!(io::stderr(), "error: link gate: {error}");
    process::exit(1)
}

fn become_linker(
    dir: &Path,
    job: &[u8],
    args: Vec<OsString>,
) -> Result<Infallible, Box<dyn Error>> {
    let job: Job = serde_json::from_slice(job)?;
    let mut socket = job.socket().ok_or("no socket was inherited")?;
    socket.write_all(&[PARKED])?;
    // Cargo writes nothing: what another child of rustc could read would be lost.
    io::copy(&mut &socket, &mut io::sink())?;
    if !dir.join(PERMIT).exists() {
        return Err("no permit to link".into());
    }
    socket.write_all(&[LINKING])?;
    let Err(error) = if lacks_input(&args) {
        Err("the linker's input is incomplete".into())
    } else {
        execute(&job.linker, args)
    };
    socket.write_all(&[FAILED])?;
    Err(error)
}

/// Becomes the linker. Like rustc when it runs one, and unlike std's
/// [`exec`](std::os::unix::process::CommandExt::exec), this does not have a shell execute what the system
/// cannot.
fn execute(linker: &str, args: Vec<OsString>) -> Result<Infallible, Box<dyn Error>> {
    let dirs = env::var_os("PATH");
    let path = find(linker.as_ref(), Path::new("."), dirs.as_deref())?;
    let c_string = |it: OsString| CString::new(it.into_vec());
    let args = std::iter::once(linker.into()).chain(args).map(c_string);
    let args = args.collect::<Result<Vec<_>, _>>()?;
    // The standard library has ignored it when this process started, and resets it for its children.
    // SAFETY: the default action is no handler that could do anything unsafe.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }?;
    Ok(execv(&c_string(path.into())?, &args)?)
}

/// Whether the linker would read a file that rustc has made of a hollow rlib: one that it should have
/// unpacked and that is not there, or an rlib without the objects that LTO has used up, which a wrapper
/// has asked for.
///
/// rustc unpacks them to its temporary directory and names them by absolute path, as an argument or part of
/// one that begins with `-Wl,`, or in a response file (see `extract_bundled_libs`, `link_staticlib_by_path` and
/// `exec_linker` in rustc's `compiler/rustc_codegen_ssa/src/back`). A wrong yes costs a run of rustc, a wrong
/// no the linker's error.
fn lacks_input(args: &[OsString]) -> bool {
    let expand = |arg: &OsString| match arg.as_bytes().strip_prefix(b"@") {
        Some(path) => response_file(&fs::read(OsStr::from_bytes(path)).unwrap_or_default()),
        None => vec![arg.clone()],
    };
    let args: Vec<OsString> = args.iter().flat_map(expand).collect();
    let before = std::iter::once(OsStr::new("")).chain(args.iter().map(OsString::as_os_str));
    let paths: Vec<&Path> = (args.iter().zip(before))
        // What it is about to write need not exist.
        .filter(|(_, before)| *before != "-o")
        .flat_map(|(arg, _)| match arg.as_bytes().strip_prefix(b"-Wl,") {
            Some(parts) => parts.split(|byte| *byte == b',').collect(),
            None => vec![arg.as_bytes()],
        })
        .map(|part| Path::new(OsStr::from_bytes(part)))
        .filter(|path| path.is_absolute())
        .collect();
    // The one file that is there, as good as always, and is nowhere else.
    let known = paths
        .iter()
        .find(|path| path.file_name().is_some_and(|name| name == "symbols.o"))
        .and_then(|path| path.parent());
    paths.iter().any(|path| {
        path.parent()
            .is_some_and(|dir| Some(dir) == known || is_named_as_temporary(dir))
            && (fs::symlink_metadata(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
                || path.extension().is_some_and(|it| it == "rlib")
                    && hollow::has_mark(path).unwrap_or(true))
    })
}

/// Whether a directory is named as rustc names its temporary ones: `link_binary` in rustc's
/// `compiler/rustc_codegen_ssa/src/back/link.rs` asks the tempfile crate for the prefix `rustc`, to
/// which that adds six letters and digits.
fn is_named_as_temporary(dir: &Path) -> bool {
    let name = dir.file_name().unwrap_or_default().as_bytes();
    name.strip_prefix(b"rustc")
        .is_some_and(|rest| rest.len() == 6 && rest.iter().all(u8::is_ascii_alphanumeric))
}

/// Reads what rustc's `exec_linker` writes on Unix: an argument a line, a backslash before each
/// backslash and space.
fn response_file(text: &[u8]) -> Vec<OsString> {
    let mut args = Vec::new();
    let mut arg = Vec::new();
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\n' => args.push(OsString::from_vec(std::mem::take(&mut arg))),
            b'\\' => arg.extend(bytes.next()),
            _ => arg.push(byte),
        }
    }
    args.push(OsString::from_vec(arg));
    args
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive;
    use std::os::fd::AsRawFd;

    #[test]
    fn returns_when_it_is_no_linker() {
        run_if_invoked_as_linker();
    }

    #[test]
    fn only_the_socket_itself_is_used() {
        let (_ours, theirs) = UnixStream::pair().unwrap();
        let job = |descriptor, inode| Job {
            linker: "cc".to_owned(),
            descriptor,
            inode,
        };
        let inode = fstat(&theirs).unwrap().st_ino;
        job(theirs.as_raw_fd(), inode).socket().unwrap();
        let file = tempfile::tempfile().unwrap();
        let of_file = fstat(&file).unwrap().st_ino;
        for wrong in [
            job(theirs.as_raw_fd(), inode + 1),
            job(file.as_raw_fd(), of_file),
            job(9_999, inode),
            job(-1, inode),
        ] {
            assert!(wrong.socket().is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn file_that_was_not_unpacked() {
        let temp = tempfile::tempdir().unwrap();
        let [unpacked, other] = ["rustcAb3dE6", "rustc-else"].map(|name| temp.path().join(name));
        for dir in [&unpacked, &other] {
            fs::create_dir(dir).unwrap();
            fs::write(dir.join("a b.o"), "").unwrap();
        }
        let lacks = |args: &[&str]| {
            let args: Vec<_> = args
                .iter()
                .map(|arg| arg.replace("{U}/", &format!("{}/", unpacked.display())))
                .map(|arg| OsString::from(arg.replace("{O}/", &format!("{}/", other.display()))))
                .collect();
            lacks_input(&args)
        };
        assert!(lacks(&["-m64", "{U}/libn.a"]));
        assert!(lacks(&[
            "-Wl,--whole-archive,{U}/libn.a,--no-whole-archive"
        ]));
        assert!(lacks(&["-Xlinker", "{U}/libn.a"]));
        // A directory whose name it is that has the symbols.
        assert!(lacks(&["{O}/libn.a", "{O}/symbols.o"]));
        assert!(!lacks(&["-m64", "{U}/a b.o", "-Wl,{U}/a b.o", "U"]));
        assert!(!lacks(&[
            "-o",
            "{U}/out",
            "{O}/libn.a",
            "libn.a",
            "rustcAb3dE6/libn.a",
            ""
        ]));
        assert!(!lacks(&[
            "-Wl,--version-script={U}/list",
            "-L{U}/raw-dylibs"
        ]));

        let archive = |names: &[&str]| {
            let mut bytes = archive::MAGIC.to_vec();
            for name in names {
                archive::write_member(&mut bytes, name, &mut &b"odd"[..], 3).unwrap();
            }
            bytes
        };
        for (rlib, expected) in [
            (archive(&["a.o"]), false),
            (archive(&["a.o", "hollow"]), true),
            (b"no archive".to_vec(), true),
        ] {
            fs::write(unpacked.join("liba.rlib"), rlib).unwrap();
            assert_eq!(lacks(&["{U}/liba.rlib"]), expected);
        }

        let arguments = temp.path().join("linker arguments");
        let missing = format!("-m64\n{}\n", unpacked.join("lib\\\\n\\ n.a").display());
        for (written, is_lacking) in [("", true), ("lib\\n n.a", false)] {
            if !written.is_empty() {
                fs::write(unpacked.join(written), "").unwrap();
            }
            fs::write(&arguments, &missing).unwrap();
            assert_eq!(lacks(&[&format!("@{}", arguments.display())]), is_lacking);
        }
        assert!(!lacks(&["@/there is no such file"]));
    }
}
