//! The linker's end of the connections: what cargo does when it is run under a linker's name.
//!
//! Nothing here may panic, wait for anything but the gate, or write to stdout: rustc hears it.

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::process;

use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::unistd::execve;

use super::linker::find;
use super::protocol::{ACKNOWLEDGED, Hello, JOB_FILE, JobFile, Kind, LINK, SOCKET};
use super::server::through_fd;

/// How often the shim connects again when the gate has closed the connection without an answer.
const MAX_CONNECTS: u32 = 100;
/// How much of a job file is read. A path is shorter.
const MAX_JOB_FILE: u64 = 1 << 16;
/// What a program exits with that could not execute another (POSIX, `env`).
const NOT_EXECUTED: i32 = 127;

/// Waits for the permit and becomes the linker, if this process was started under the name that a
/// [`Ticket`](super::Ticket) gave to rustc. Else, which costs one failed `open`, returns.
///
/// To be called first thing in `main`, before anything looks at the arguments or starts a thread.
/// If it does not return, the process ends as the real linker does; with 1 if there is no permit;
/// with 127 if there is one and the real linker cannot be executed.
pub fn run_if_invoked_as_linker() {
    let mut args = env::args_os();
    let Some(invoked_as) = args.next() else {
        return;
    };
    let Some(dir) = Path::new(&invoked_as).parent() else {
        return;
    };
    if dir.as_os_str().is_empty() {
        return;
    }
    let path = dir.join(JOB_FILE);
    let Ok(file) = File::open(&path) else {
        return;
    };
    let job = match read_job(file) {
        Ok(job) => job,
        Err(e) => fail(format_args!("`{}`: {e}", path.display()), 1),
    };
    let gate = match dir.parent() {
        Some(gate) if !gate.as_os_str().is_empty() => gate,
        _ => Path::new("."),
    };
    let args: Vec<OsString> = args.collect();
    if lacks_unpacked_file(&args) {
        // Whether the gate hears it or not, there is nothing to link.
        let _ = ask(gate, &job.hello(Kind::Incomplete));
        process::exit(1);
    }
    match ask(gate, &job.hello(Kind::Parked)) {
        Ok(Answer::Link) => {}
        Ok(Answer::None) => process::exit(1),
        Err(e) => fail(format_args!("cargo does not answer: {e}"), 1),
    }
    let error = execute(&job.linker, args);
    let _ = ask(gate, &job.hello(Kind::NotExecuted));
    let linker = job.linker.display();
    fail(
        format_args!("could not execute `{linker}`: {error}"),
        NOT_EXECUTED,
    )
}

/// Becomes the linker. Answers why it could not.
///
/// Unlike [`exec`](std::os::unix::process::CommandExt::exec) of the standard library, which is
/// execvp(3), and like rustc when it runs a linker, this does not have a shell execute what the
/// system cannot.
fn execute(linker: &OsStr, args: Vec<OsString>) -> io::Error {
    let path = env::var_os("PATH");
    let path = match find(linker, Path::new("."), path.as_deref()) {
        Ok(path) => path,
        Err(e) => return io::Error::other(e),
    };
    let c_string = |bytes: OsString| CString::new(bytes.into_vec());
    let args: Result<Vec<CString>, _> = std::iter::once(linker.to_owned())
        .chain(args)
        .map(c_string)
        .collect();
    let variables: Result<Vec<CString>, _> = env::vars_os()
        .map(|(mut variable, value)| {
            variable.push("=");
            variable.push(value);
            c_string(variable)
        })
        .collect();
    let (path, args, variables) = match (c_string(path.into()), args, variables) {
        (Ok(path), Ok(args), Ok(variables)) => (path, args, variables),
        // What a process was given never holds a NUL.
        _ => return io::ErrorKind::InvalidInput.into(),
    };
    // As every program finds it that Rust's standard library starts.
    let signals = SigSet::empty().thread_set_mask().and_then(|()| {
        // SAFETY: the default action is no handler that could do anything unsafe.
        unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }
    });
    if let Err(e) = signals {
        return e.into();
    }
    match execve(&path, &args, &variables) {
        Ok(never) => match never {},
        Err(e) => e.into(),
    }
}

fn fail(message: std::fmt::Arguments<'_>, code: i32) -> ! {
    let _ = writeln!(io::stderr(), "error: link gate: {message}");
    process::exit(code)
}

fn read_job(file: File) -> io::Result<JobFile> {
    let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let metadata = file.metadata()?;
    if !metadata.is_file()
        || metadata.mode() & 0o777 != 0o600
        || metadata.uid() != rustix::process::geteuid().as_raw()
    {
        return Err(invalid(
            "not a file that only its owner, this user, can read",
        ));
    }
    let mut bytes = Vec::new();
    file.take(MAX_JOB_FILE).read_to_end(&mut bytes)?;
    JobFile::decode(&bytes).ok_or_else(|| invalid("malformed"))
}

/// What a shim does next.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    Link,
    /// Nothing. The gate knows why.
    None,
}

/// Says `hello` to the gate in `dir` and blocks until it has answered.
///
/// # Errors
///
/// If nobody listens there, or nobody hears it.
pub(super) fn ask(dir: &Path, hello: &Hello) -> io::Result<Answer> {
    let mut unheard = io::Error::from(io::ErrorKind::ConnectionReset);
    for _ in 0..MAX_CONNECTS {
        let mut gate = connect(dir)?;
        if let Err(e) = gate.write_all(&hello.encode()) {
            unheard = e;
            continue;
        }
        let mut answer = [0];
        match gate.read_exact(&mut answer) {
            Ok(()) if answer == [ACKNOWLEDGED] => {}
            Ok(()) => return Ok(Answer::None),
            Err(e) => {
                unheard = e;
                continue;
            }
        }
        return Ok(match gate.read_exact(&mut answer) {
            Ok(()) if answer == [LINK] => Answer::Link,
            _ => Answer::None,
        });
    }
    Err(unheard)
}

fn connect(dir: &Path) -> io::Result<UnixStream> {
    match SocketAddr::from_pathname(dir.join(SOCKET)) {
        Ok(address) => UnixStream::connect_addr(&address),
        Err(_) if cfg!(target_os = "linux") => {
            let dir = File::open(dir)?;
            UnixStream::connect(through_fd(&dir))
        }
        // There is no other thread that could be surprised.
        Err(_) => {
            let before = env::current_dir()?;
            env::set_current_dir(dir)?;
            let connected = UnixStream::connect(SOCKET);
            env::set_current_dir(before)?;
            connected
        }
    }
}

/// Whether the linker would read a file that rustc should have unpacked from a dependency's rlib,
/// and could not because the rlib was hollow.
///
/// rustc unpacks them to its temporary directory and names them by absolute path, as an argument or
/// as part of one that begins with `-Wl,`; a command line that is too long it writes to a file (see
/// `extract_bundled_libs`, `link_staticlib_by_path` and `exec_linker` in rustc's
/// `compiler/rustc_codegen_ssa/src/back`). A wrong yes costs a run of rustc, a wrong no the
/// linker's error.
fn lacks_unpacked_file(args: &[OsString]) -> bool {
    let mut all = Vec::new();
    for arg in args {
        match arg.as_bytes().strip_prefix(b"@") {
            Some(path) => {
                let text = fs::read(OsStr::from_bytes(path)).unwrap_or_default();
                all.extend(response_file(&text));
            }
            None => all.push(arg.clone()),
        }
    }
    // What it is about to write need not exist.
    let read = all
        .iter()
        .enumerate()
        .filter(|(index, _)| *index == 0 || all[index - 1] != "-o")
        .map(|(_, arg)| arg);
    let paths: Vec<&Path> = read
        .flat_map(|arg| -> Box<dyn Iterator<Item = &[u8]>> {
            match arg.as_bytes().strip_prefix(b"-Wl,") {
                Some(parts) => Box::new(parts.split(|byte| *byte == b',')),
                None => Box::new(std::iter::once(arg.as_bytes())),
            }
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
            && fs::symlink_metadata(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
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
    let lines = text.split(|byte| *byte == b'\n');
    lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let mut arg = Vec::with_capacity(line.len());
            let mut bytes = line.iter().copied();
            while let Some(byte) = bytes.next() {
                arg.push(match byte {
                    b'\\' => bytes.next().unwrap_or(byte),
                    _ => byte,
                });
            }
            OsString::from_vec(arg)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn returns_when_it_is_no_linker() {
        run_if_invoked_as_linker();
    }

    #[test]
    fn a_file_that_was_not_unpacked() {
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
            lacks_unpacked_file(&args)
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

    #[test]
    fn a_job_file_is_read_strictly() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(JOB_FILE);
        let secret = super::super::protocol::Secret::random().unwrap();
        let bytes = JobFile::encode(3, secret, OsStr::new("cc")).unwrap();
        let read = |bytes: &[u8], mode| {
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            read_job(File::open(&path).unwrap())
        };
        assert_eq!(read(&bytes, 0o600).unwrap().linker, "cc");
        assert_eq!(
            read(&bytes[1..], 0o600).unwrap_err().to_string(),
            "malformed"
        );
        for mode in [0o644, 0o660, 0o700] {
            read(&bytes, mode).unwrap_err();
        }
        read_job(File::open(dir.path()).unwrap()).unwrap_err();
    }

    #[test]
    fn nobody_listens() {
        let dir = tempfile::tempdir().unwrap();
        let secret = super::super::protocol::Secret::random().unwrap();
        let hello = Hello {
            job: 1,
            secret,
            kind: Kind::Parked,
        };
        let error = ask(dir.path(), &hello).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
