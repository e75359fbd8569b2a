//! Which linker a rustc would run, and whether it is safe to stand in for it.
//!
//! All of it is decided from the arguments that rustc is going to get, wherever they come from:
//! configuration, environment, profile or command line. The errors say why a compiler has to wait for the
//! rlibs of its dependencies before it is started.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The reason with `-C lto` across crates: rustc reads all code and gives the linker the sum.
pub const LTO: &str = "cross-crate LTO reads rlibs before the linker runs";

/// Returns the linker that `args`, all arguments of rustc without the program, name: that of the last
/// `-C linker`, as it is spelled. `None` if rustc uses the target's default.
///
/// Reads arguments as rustc's own option parser, getopts, does: with or without a space after `-C`, and
/// with `-` or `_` in the names of codegen options.
///
/// # Errors
///
/// If an argument makes it unsafe to start rustc before the rlibs are ready, or to stand in for its
/// linker. One that a later one takes back counts as well.
pub fn from_args(
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<Option<String>, &'static str> {
    let mut linker = None;
    let mut has_flavor = false;
    let mut args = (args.into_iter()).map(|arg| arg.as_ref().to_string_lossy().into_owned());
    while let Some(arg) = args.next() {
        if arg.starts_with('@') {
            return Err("an argument file can hold anything");
        }
        let (name, value) = if let Some(long) = arg.strip_prefix("--") {
            match long.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (long, None),
            }
        } else if let Some(short) = arg.strip_prefix('-') {
            // Flags without a value may come before, as in `-gOClinker=ld`.
            let short = short.trim_start_matches(['g', 'h', 'v', 'O', 'V']);
            match short.split_at_checked(1) {
                Some((name, value)) => (name, Some(value).filter(|it| !it.is_empty())),
                None => continue,
            }
        } else {
            continue;
        };
        let value = match value {
            Some(value) => value.to_owned(),
            // What takes a value, so that a value is not taken for an option (`rustc_optgroups` in
            // rustc's `compiler/rustc_session/src/config.rs`).
            None => match name {
                "A" | "C" | "D" | "F" | "L" | "W" | "Z" | "l" | "o" | "allow" | "cap-lints"
                | "cfg" | "check-cfg" | "codegen" | "color" | "crate-name" | "crate-type"
                | "deny" | "diagnostic-width" | "edition" | "emit" | "env-set" | "error-format"
                | "explain" | "extern" | "forbid" | "force-warn" | "json" | "out-dir" | "print"
                | "remap-path-prefix" | "remap-path-scope" | "sysroot" | "target" | "warn" => {
                    args.next().unwrap_or_default()
                }
                _ => continue,
            },
        };
        let (option, setting) = match value.split_once('=') {
            Some((option, setting)) => (option.replace('_', "-"), Some(setting)),
            None => (value.replace('_', "-"), None),
        };
        // How rustc spells a no (`parse_bool` in `compiler/rustc_session/src/options.rs`).
        let is_off = matches!(setting, Some("no" | "n" | "off" | "false"));
        match (name, option.as_str()) {
            ("C" | "codegen", "linker") => linker = setting.map(str::to_owned),
            ("C" | "codegen", "linker-flavor") => has_flavor = true,
            ("C" | "codegen", "lto") if !is_off && setting != Some("thin-local") => {
                return Err(LTO);
            }
            ("C" | "codegen", "linker-plugin-lto") if !is_off => {
                return Err("rustc prepares rlibs for LTO in the linker");
            }
            ("Z", "no-link" | "link-only" | "no-codegen") => return Err("no linker runs"),
            ("crate-type", _)
                if (value.split(',')).any(|it| matches!(it, "staticlib" | "dylib" | "sdylib")) =>
            {
                return Err("rustc itself reads the rlibs for this crate type");
            }
            // `requires_lto` in a target's specification: a file of the user's own, or AMD's GPUs.
            ("target", _) if value.ends_with(".json") || value.starts_with("amdgcn-") => {
                return Err("the target may require LTO, which reads rlibs");
            }
            // It may also be all that rustc is asked for.
            ("print", _) => return Err("`--print` may show the linker's arguments"),
            _ => {}
        }
    }
    match &linker {
        // rustc picks a linker that goes with the flavor.
        None if has_flavor => Err("only the flavor of the linker is known"),
        Some(name) if name.contains(char::REPLACEMENT_CHARACTER) => {
            Err("the linker's name is not UTF-8")
        }
        _ => Ok(linker),
    }
}

/// Finds the executable file that rustc, in the directory `cwd`, would run as `linker`. A name without a
/// slash is looked up in the directories of `path`, of which an empty one is `cwd`, as execvp(3) does. A tool
/// in rustc's own directories, such as `rust-lld`, is not found.
///
/// # Errors
///
/// If there is no such file, or only files that cannot be executed: rustc has to report that.
pub fn find(linker: &OsStr, cwd: &Path, path: Option<&OsStr>) -> Result<PathBuf, &'static str> {
    let dirs: Vec<PathBuf> = if linker.as_encoded_bytes().contains(&b'/') {
        vec![PathBuf::new()]
    } else {
        std::env::split_paths(path.unwrap_or_default()).collect()
    };
    let mut error = "the linker was not found";
    for dir in dirs {
        let file = cwd.join(dir).join(linker);
        if let Some(metadata) = file.metadata().ok().filter(|it| it.is_file()) {
            #[cfg(unix)]
            let is_executable = std::os::unix::fs::MetadataExt::mode(&metadata) & 0o111 != 0;
            #[cfg(not(unix))]
            let is_executable = metadata.is_file();
            if is_executable {
                return Ok(file);
            }
            error = "the linker is not executable";
        }
    }
    Err(error)
}

/// Returns the default linker of rustc for a target, where that is known for sure: `cc`, for the systems
/// that most people build on and for. `os`, `env` and `arch` are its `target_os` and so on.
pub fn default_linker(
    target_is_host: bool,
    os: &str,
    env: &str,
    arch: &str,
) -> Option<&'static str> {
    let known = match os {
        "linux" => target_is_host || matches!((env, arch), ("gnu" | "musl", "x86_64" | "aarch64")),
        "macos" | "freebsd" | "netbsd" | "openbsd" | "dragonfly" => target_is_host,
        _ => false,
    };
    known.then_some("cc")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(args: &str) -> Result<Option<String>, &'static str> {
        from_args(args.split_whitespace())
    }

    #[test]
    fn the_last_linker_counts() {
        for (args, linker) in [
            ("", None),
            (
                "src/main.rs --crate-type bin --emit=dep-info,link -C opt-level=3",
                None,
            ),
            ("-C linker=a", Some("a")),
            ("-Clinker=a", Some("a")),
            ("--codegen linker=a", Some("a")),
            ("--codegen=linker=a", Some("a")),
            ("-gOClinker=a", Some("a")),
            ("-g -O -C linker=a", Some("a")),
            ("-Clinker=a --codegen linker=b -C linker=c=d", Some("c=d")),
            ("-Clinker=", Some("")),
            ("-C linker-flavor=ld -C linker=a", Some("a")),
            ("-C linker=a -C linker_flavor=ld", Some("a")),
            // Values of other options.
            ("-C link-arg=-Clinker=a", None),
            ("-o -Clinker=a", None),
            ("--cfg -Clinker=a", None),
            ("--cfg=x -Clinker=a", Some("a")),
            ("-L -Clinker=a -lx -Clinker=b", Some("b")),
            ("-Clinkers=a", None),
            ("-C", None),
        ] {
            assert_eq!(from(args), Ok(linker.map(str::to_owned)), "{args}");
        }
    }

    #[test]
    fn unsafe_arguments() {
        for (args, expected) in [
            ("-Clto", Some("cross-crate LTO")),
            ("-C lto=thin", Some("cross-crate LTO")),
            ("--codegen=lto=fat", Some("cross-crate LTO")),
            ("-C lto=yes", Some("cross-crate LTO")),
            ("-C lto=fat -C lto=off", Some("cross-crate LTO")),
            (
                "-C lto=no -C lto=n -C lto=off -C lto=false -C lto=thin-local",
                None,
            ),
            ("-Clinker-plugin-lto", Some("LTO in the linker")),
            ("-C linker_plugin_lto=/plugin.so", Some("LTO in the linker")),
            ("-C linker-plugin-lto=off", None),
            ("--target=/dir/own.json", Some("target may require LTO")),
            ("--target amdgcn-amd-amdhsa", Some("target may require LTO")),
            ("--target x86_64-unknown-linux-gnu", None),
            ("--crate-type staticlib", Some("crate type")),
            ("--crate-type=rlib,dylib", Some("crate type")),
            (
                "--crate-type cdylib --crate-type=proc-macro --crate-type bin,rlib",
                None,
            ),
            ("-Z no-link", Some("no linker")),
            ("-Zno_link=yes", Some("no linker")),
            ("-Zlink-only", Some("no linker")),
            ("-Zunstable-options", None),
            ("--print link-args", Some("--print")),
            ("--print=link-args", Some("--print")),
            ("main.rs @more", Some("argument file")),
            ("-C linker-flavor=ld", Some("flavor")),
        ] {
            let Err(reason) = from(args) else {
                assert_eq!(expected, None, "{args}");
                continue;
            };
            assert!(expected.is_some_and(|it| reason.contains(it)), "{args}");
            assert!(reason.len() < 60 && !reason.ends_with('.'), "{reason}");
            assert!(!reason.starts_with(char::is_uppercase), "{reason}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn linker_that_is_not_utf_8() {
        use std::os::unix::ffi::OsStrExt;
        let args = |linker: &[u8]| {
            let args = [b"-C", linker, b"--cfg", b"\xfe"].map(OsStr::from_bytes);
            from_args(args)
        };
        let reason = args(b"linker=/\xff/cc").unwrap_err();
        assert_eq!(reason, "the linker's name is not UTF-8");
        assert_eq!(args(b"linker=/cc"), Ok(Some("/cc".to_owned())));
    }

    #[cfg(unix)]
    #[test]
    fn as_execvp_finds_it() {
        use std::fs;
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        for (name, mode) in [
            ("a/cc", 0o644),
            ("b/cc", 0o755),
            ("b/ld", 0o644),
            ("mold", 0o700),
        ] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "#!/bin/sh").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let absolute = dir.path().join("b").into_os_string().into_string().unwrap();
        let find = |linker: &str, path: Option<&str>| {
            let found = find(OsStr::new(linker), dir.path(), path.map(OsStr::new))?;
            Ok(found
                .strip_prefix(dir.path())
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned())
        };
        let not_found = Err("the linker was not found");
        let not_executable = Err("the linker is not executable");
        assert_eq!(find("cc", Some("missing:a:b")), Ok("b/cc".to_owned()));
        assert_eq!(find("cc", Some(&absolute)), Ok("b/cc".to_owned()));
        assert_eq!(find("cc", Some("a")), not_executable);
        assert_eq!(find("ld", Some("a:b")), not_executable);
        assert_eq!(find("gcc", Some("a:b")), not_found);
        assert_eq!(find("b/cc", None), Ok("b/cc".to_owned()));
        assert_eq!(find("a/cc", None), not_executable);
        assert_eq!(find("./c", None), not_found);
        assert_eq!(find("mold", Some("a::b")), Ok("mold".to_owned()));
        assert_eq!(find("mold", Some("a")), not_found);
        assert_eq!(find("cc", None), not_found);
        // A directory can be entered, not run.
        assert_eq!(find("b", Some("")), not_found);
    }

    #[test]
    fn defaults() {
        for (target, expected) in [
            ((true, "linux", "gnu", "riscv64"), Some("cc")),
            ((true, "macos", "", "aarch64"), Some("cc")),
            ((true, "freebsd", "", "x86_64"), Some("cc")),
            ((false, "linux", "musl", "x86_64"), Some("cc")),
            ((false, "linux", "gnu", "aarch64"), Some("cc")),
            ((false, "linux", "gnu", "riscv64"), None),
            ((false, "linux", "ohos", "x86_64"), None),
            ((false, "macos", "", "x86_64"), None),
            ((true, "windows", "msvc", "x86_64"), None),
            ((true, "illumos", "", "x86_64"), None),
            ((false, "none", "", "x86_64"), None),
        ] {
            let (is_host, os, env, arch) = target;
            assert_eq!(
                default_linker(is_host, os, env, arch),
                expected,
                "{target:?}"
            );
        }
    }
}
