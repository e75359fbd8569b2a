//! What Cargo's tests find on this machine.

use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use xshell::{Cmd, Shell};

const PATIENCE: Duration = Duration::from_secs(5);

/// Runs a program without the capabilities by which root ignores the permissions of files.
const CONFINE: &[&str] = &[
    "setpriv",
    "--bounding-set=-dac_override,-dac_read_search",
    "--inh-caps=-dac_override,-dac_read_search",
];

/// Makes a file in the directory `$0` that nobody may read, and succeeds if it cannot be read.
const PROBE: &str = r#"
    file=$(mktemp "$0/probe.XXXXXX") && chmod 0 "$file" || exit
    ! cat "$file" 2>/dev/null
    code=$?
    rm -f "$file"
    exit $code
"#;

/// Returns the command, often an empty one, under which the permissions of files in `dir` hold. There is none
/// where root can neither give up its rights nor do without them, as in some containers.
pub fn confinement(dir: &Path) -> anyhow::Result<Option<&'static [&'static str]>> {
    if cfg!(not(unix)) {
        return Ok(Some(&[]));
    }
    let shell = Shell::new()?;
    let hold_under = |outer: &[&str]| {
        let command = [outer, &["sh", "-c", PROBE]].concat();
        succeeds(shell.cmd(command[0]).args(&command[1..]).arg(dir))
    };
    Ok([&[], CONFINE].into_iter().find(|outer| hold_under(outer)))
}

/// True if there is a rustup without a toolchain `stable`. The testsuite asks for that toolchain as it
/// is compiled, and does not compile without.
pub fn lacks_stable() -> anyhow::Result<bool> {
    // Set by rustup; where it is not set, the testsuite does not ask.
    let Some(home) = std::env::var_os("CARGO_HOME") else {
        return Ok(false);
    };
    let cargo = Path::new(&home).join("bin/cargo");
    if which::which(&cargo).is_err() {
        return Ok(false);
    }
    let shell = Shell::new()?;
    let version = shell.cmd(cargo).args(["+stable", "--version"]);
    // Nothing is to be downloaded.
    Ok(!succeeds(version.env("RUSTUP_AUTO_INSTALL", "0")))
}

pub fn reaches_github() -> bool {
    let addresses = ("github.com", 22).to_socket_addrs();
    let mut addresses = addresses.into_iter().flatten();
    addresses.any(|address| TcpStream::connect_timeout(&address, PATIENCE).is_ok())
}

fn succeeds(command: Cmd<'_>) -> bool {
    command.output().is_ok()
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn permissions_hold_without_confinement_unless_root() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o000)).unwrap();
        let reads = std::fs::read(&file).is_ok();
        let hold = confinement(dir.path()).unwrap() == Some(&[]);
        assert_eq!(reads, !hold);
        let left = dir.path().read_dir().unwrap().count();
        assert_eq!(left, 1, "the probe is removed");
    }
}
