//! What Cargo's tests find on this machine, and what is done where that breaks some of them.

use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use fs_err as fs;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Takes from root what lets it pass over the permissions of files, for what `setpriv` starts.
const CONFINE: &[&str] = &[
    "--bounding-set=-dac_override,-dac_read_search",
    "--inh-caps=-dac_override,-dac_read_search",
];

/// Whether the permissions of files mean anything to the tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permissions {
    /// They hold for whoever runs this.
    Hold,
    /// They hold for what this `setpriv` starts.
    HoldUnder(PathBuf),
    /// Whoever runs this passes over them, as root does.
    Void,
}

impl Permissions {
    /// Finds out for tests that are built in `dir`.
    pub fn find(dir: &Path) -> Result<Self> {
        // It may not have been made yet.
        let place = dir.ancestors().find(|place| place.is_dir());
        let Some(place) = place.filter(|_| cfg!(unix)) else {
            return Ok(Permissions::Hold);
        };
        if !passes_over_permissions(place)? {
            return Ok(Permissions::Hold);
        }
        // Where the files are another user's, root writes to them by that very power only.
        if !is_own(place)? {
            return Ok(Permissions::Void);
        }
        Ok(match which::which("setpriv") {
            Ok(setpriv) if can_confine(&setpriv) => Permissions::HoldUnder(setpriv),
            _ => Permissions::Void,
        })
    }

    /// Whether they hold for what is started with [`apply`](Self::apply).
    pub fn hold(&self) -> bool {
        *self != Permissions::Void
    }

    /// `command`, started such that permissions hold for it if they can be made to.
    pub fn apply(&self, command: Command) -> Command {
        match self {
            Permissions::HoldUnder(setpriv) => {
                let mut outer = Command::new(setpriv);
                outer.args(CONFINE);
                under(outer, &command)
            }
            Permissions::Hold | Permissions::Void => command,
        }
    }
}

/// Whether this process reads a file in `dir` that nobody may read.
#[cfg(unix)]
fn passes_over_permissions(dir: &Path) -> Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    let file = tempfile::NamedTempFile::new_in(dir)?;
    fs::set_permissions(file.path(), PermissionsExt::from_mode(0o000))?;
    Ok(fs::File::open(file.path()).is_ok())
}

#[cfg(not(unix))]
fn passes_over_permissions(_: &Path) -> Result<bool> {
    Ok(false)
}

#[cfg(unix)]
fn is_own(dir: &Path) -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let user = rustix::process::geteuid();
    Ok(fs::metadata(dir)?.uid() == user.as_raw())
}

#[cfg(not(unix))]
fn is_own(_: &Path) -> Result<bool> {
    Ok(true)
}

/// In a container root may lack the right to give rights up, and Busybox's `setpriv` does not
/// know how to.
fn can_confine(setpriv: &Path) -> bool {
    let mut command = Command::new(setpriv);
    command.args(CONFINE).arg("true");
    succeeds(&mut command)
}

/// `inner` as the last arguments of `outer`, in the same place and environment.
fn under(mut outer: Command, inner: &Command) -> Command {
    outer
        .arg(inner.get_program())
        .args(inner.get_args())
        .stdin(Stdio::null());
    if let Some(dir) = inner.get_current_dir() {
        outer.current_dir(dir);
    }
    for (key, value) in inner.get_envs() {
        match value {
            Some(value) => outer.env(key, value),
            None => outer.env_remove(key),
        };
    }
    outer
}

/// Whether rustup has no toolchain called `stable`.
///
/// Where there is a rustup, the testsuite asks for that toolchain as it is compiled, and does not
/// compile without.
pub fn lacks_stable() -> bool {
    // Set by rustup; where it is not set, the testsuite does not ask.
    let Some(home) = std::env::var_os("CARGO_HOME") else {
        return false;
    };
    let cargo = Path::new(&home).join("bin").join("cargo");
    if which::which(&cargo).is_err() {
        return false;
    }
    let mut command = Command::new(cargo);
    command
        .args(["+stable", "--version"])
        // Nothing is to be downloaded by asking.
        .env("RUSTUP_AUTO_INSTALL", "0");
    !succeeds(&mut command)
}

/// Whether a server of GitHub answers to SSH.
pub fn reaches_github() -> bool {
    reaches(("github.com", 22))
}

fn reaches(server: impl ToSocketAddrs) -> bool {
    server.to_socket_addrs().is_ok_and(|mut addresses| {
        addresses.any(|address| TcpStream::connect_timeout(&address, PATIENCE).is_ok())
    })
}

fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn a_command_stays_what_it_is_under_another() {
        let mut inner = Command::new("cargo");
        inner
            .args(["test", "--", "a b"])
            .current_dir("tree")
            .env("SET", "1")
            .env_remove("UNSET");

        let command = Permissions::HoldUnder("/bin/setpriv".into()).apply(inner);
        assert_eq!(command.get_program(), "/bin/setpriv");
        let args: Vec<_> = command.get_args().skip(CONFINE.len()).collect();
        assert_eq!(args, ["cargo", "test", "--", "a b"]);
        assert_eq!(command.get_current_dir(), Some(Path::new("tree")));
        let env: Vec<_> = command.get_envs().collect();
        let key = OsStr::new;
        assert_eq!(env, [(key("SET"), Some(key("1"))), (key("UNSET"), None)]);
    }

    /// The same question, asked in the way of the tests.
    #[cfg(unix)]
    #[test]
    fn permissions_are_what_they_are_said_to_be() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, PermissionsExt::from_mode(0o000)).unwrap();
        let permissions = Permissions::find(&dir.path().join("not").join("there")).unwrap();
        let mut command = Command::new("cat");
        command.arg(&file);
        let reads = succeeds(&mut permissions.apply(command));
        assert_eq!(reads, !permissions.hold(), "{permissions:?}");
    }

    #[test]
    fn a_server_is_reached_that_listens() {
        let server = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        assert!(reaches(server.local_addr().unwrap()));
        // Not the address of a server that has closed: a process that another test is about to
        // start holds its socket until then.
        let nobody_listens_on_port_0 = ("127.0.0.1", 0);
        assert!(!reaches(nobody_listens_on_port_0));
    }
}
