//! Which linker a rustc would run, and whether it is safe to stand in for it.
//!
//! All of it is decided from the arguments that rustc is going to get, wherever they come from:
//! configuration, environment, profile or command line.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

/// Why a compiler has to wait for the rlibs of its dependencies before it is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotGated {
    /// `-C lto` across crates: rustc reads the code of all dependencies and gives the linker the
    /// sum.
    Lto,
    /// `-C linker-plugin-lto`.
    LinkerPluginLto,
    /// A target that may require LTO, whatever the other arguments say (`requires_lto` in a
    /// target's specification): a file of the user's own, or AMD's GPUs.
    Target,
    /// `--crate-type staticlib`, `dylib` or `sdylib`.
    CrateType,
    /// `-Z no-link`, `-Z link-only` or `-Z no-codegen`.
    NoLink,
    /// `--print`: it may print what the linker is called with, and may be all that is asked for.
    Print,
    /// `@path`: a file with arguments.
    ArgumentFile,
    /// `-C linker-flavor` without `-C linker`: rustc picks a linker that goes with the flavor.
    Flavor,
    /// The name of the linker cannot be passed on.
    Name,
    /// There is no such linker, so that rustc is to say so.
    NotFound,
    /// There is a file of that name, which cannot be executed, so that rustc is to say so.
    NotExecutable,
}

impl fmt::Display for NotGated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotGated::Lto => "cross-crate LTO reads rlibs before the linker runs",
            NotGated::LinkerPluginLto => "rustc prepares rlibs for LTO in the linker",
            NotGated::Target => "the target may require LTO, which reads rlibs",
            NotGated::CrateType => "rustc itself reads the rlibs for this crate type",
            NotGated::NoLink => "no linker runs",
            NotGated::Print => "`--print` may show the linker's arguments",
            NotGated::ArgumentFile => "an argument file can hold anything",
            NotGated::Flavor => "only the flavor of the linker is known",
            NotGated::Name => "the linker's name is not UTF-8",
            NotGated::NotFound => "the linker was not found",
            NotGated::NotExecutable => "the linker is not executable",
        })
    }
}

impl std::error::Error for NotGated {}

/// The linker that rustc is told to use, as it is spelled, by what are all its arguments without
/// the program: that of the last `-C linker`. `None` if it is told of none and uses the target's
/// default.
///
/// Read as rustc's own option parser, getopts, reads them, with or without a space after `-C`, and
/// with `-` or `_` in the names of codegen options.
///
/// # Errors
///
/// If an argument makes it unsafe to start rustc before the rlibs are there, or to stand in for its
/// linker. One that a later one takes back counts as well.
pub fn from_args(
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<Option<String>, NotGated> {
    let mut found = Found::default();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let arg = arg.as_ref().as_encoded_bytes();
        if arg.starts_with(b"@") {
            return Err(NotGated::ArgumentFile);
        }
        let (name, value) = if let Some(long) = arg.strip_prefix(b"--") {
            match long.iter().position(|byte| *byte == b'=') {
                Some(at) => (&long[..at], Some(&long[at + 1..])),
                None => (long, None),
            }
        } else if let Some(cluster) = arg.strip_prefix(b"-") {
            // Flags without a value may come before, as in `-gOClinker=ld`.
            let flags = cluster.iter().take_while(|it| b"ghvOV".contains(it));
            let at = flags.count();
            if at == cluster.len() {
                continue;
            }
            let (name, value) = cluster[at..].split_at(1);
            (name, (!value.is_empty()).then_some(value))
        } else {
            continue;
        };
        if !TAKES_VALUE.contains(&name) {
            continue;
        }
        match value {
            Some(value) => found.option(name, value)?,
            None => {
                if let Some(value) = args.next() {
                    found.option(name, value.as_ref().as_encoded_bytes())?;
                }
            }
        }
    }
    match (&found.linker, found.flavor) {
        (None, true) => Err(NotGated::Flavor),
        (None, false) => Ok(None),
        (Some(linker), _) => match str::from_utf8(linker) {
            Ok(linker) => Ok(Some(linker.to_owned())),
            Err(_) => Err(NotGated::Name),
        },
    }
}

/// rustc's options that take a value, so that a value is not taken for an option
/// (`rustc_optgroups` in rustc's `compiler/rustc_session/src/config.rs`).
const TAKES_VALUE: &[&[u8]] = &[
    b"A",
    b"C",
    b"D",
    b"F",
    b"L",
    b"W",
    b"Z",
    b"l",
    b"o",
    b"allow",
    b"cap-lints",
    b"cfg",
    b"check-cfg",
    b"codegen",
    b"color",
    b"crate-name",
    b"crate-type",
    b"deny",
    b"diagnostic-width",
    b"edition",
    b"emit",
    b"env-set",
    b"error-format",
    b"explain",
    b"extern",
    b"forbid",
    b"force-warn",
    b"json",
    b"out-dir",
    b"print",
    b"remap-path-prefix",
    b"remap-path-scope",
    b"sysroot",
    b"target",
    b"warn",
];

#[derive(Default)]
struct Found {
    linker: Option<Vec<u8>>,
    flavor: bool,
}

impl Found {
    fn option(&mut self, name: &[u8], value: &[u8]) -> Result<(), NotGated> {
        match name {
            b"C" | b"codegen" => self.codegen(value),
            b"Z" => match option_name(value).as_slice() {
                b"no-link" | b"link-only" | b"no-codegen" => Err(NotGated::NoLink),
                _ => Ok(()),
            },
            b"crate-type" => {
                let read_by_rustc = |it: &[u8]| matches!(it, b"staticlib" | b"dylib" | b"sdylib");
                match value.split(|byte| *byte == b',').any(read_by_rustc) {
                    true => Err(NotGated::CrateType),
                    false => Ok(()),
                }
            }
            b"target" if value.ends_with(b".json") || value.starts_with(b"amdgcn-") => {
                Err(NotGated::Target)
            }
            b"print" => Err(NotGated::Print),
            _ => Ok(()),
        }
    }

    fn codegen(&mut self, option: &[u8]) -> Result<(), NotGated> {
        let value = option.splitn(2, |byte| *byte == b'=').nth(1);
        // How rustc spells a no (`parse_bool` in `compiler/rustc_session/src/options.rs`).
        let is_off = matches!(value, Some(b"no" | b"n" | b"off" | b"false"));
        match option_name(option).as_slice() {
            b"linker" => self.linker = value.map(<[u8]>::to_vec),
            b"linker-flavor" => self.flavor = true,
            b"lto" if !is_off && value != Some(b"thin-local") => return Err(NotGated::Lto),
            b"linker-plugin-lto" if !is_off => return Err(NotGated::LinkerPluginLto),
            _ => {}
        }
        Ok(())
    }
}

fn option_name(option: &[u8]) -> Vec<u8> {
    let name = option.iter().take_while(|byte| **byte != b'=');
    name.map(|byte| if *byte == b'_' { b'-' } else { *byte })
        .collect()
}

/// The executable file that rustc, in the directory `cwd`, would run as `linker`. A name without a
/// slash is looked for in the directories of `path`, of which an empty one is `cwd`, as execvp(3)
/// does. rustc looks in directories of its own before, where there are tools such as `rust-lld`;
/// one that is only there is not found here.
///
/// # Errors
///
/// [`NotGated::NotFound`] and [`NotGated::NotExecutable`].
pub fn find(linker: &OsStr, cwd: &Path, path: Option<&OsStr>) -> Result<PathBuf, NotGated> {
    let candidates: Vec<PathBuf> = match linker.as_encoded_bytes().contains(&b'/') {
        true => vec![cwd.join(linker)],
        false => std::env::split_paths(path.unwrap_or_default())
            .map(|dir| cwd.join(dir).join(linker))
            .collect(),
    };
    let mut error = NotGated::NotFound;
    for candidate in candidates {
        match is_executable(&candidate) {
            Some(true) => return Ok(candidate),
            Some(false) => error = NotGated::NotExecutable,
            None => {}
        }
    }
    Err(error)
}

/// `None` if it is no file.
fn is_executable(path: &Path) -> Option<bool> {
    let metadata = path.metadata().ok().filter(|it| it.is_file())?;
    #[cfg(unix)]
    return Some(std::os::unix::fs::MetadataExt::mode(&metadata) & 0o111 != 0);
    #[cfg(not(unix))]
    return Some(metadata.is_file());
}

/// The linker that rustc uses for a target if it is told of none, where that is known for sure:
/// `cc`, for the systems that most people build on and for. `os`, `env` and `arch` are the target's
/// `target_os`, `target_env` and `target_arch`.
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

    fn from(args: &str) -> Result<Option<String>, NotGated> {
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
    fn what_makes_it_unsafe() {
        use NotGated::*;
        for (args, expected) in [
            ("-Clto", Some(Lto)),
            ("-C lto=thin", Some(Lto)),
            ("--codegen=lto=fat", Some(Lto)),
            ("-C lto=yes", Some(Lto)),
            ("-C lto=fat -C lto=off", Some(Lto)),
            (
                "-C lto=no -C lto=n -C lto=off -C lto=false -C lto=thin-local",
                None,
            ),
            ("-Clinker-plugin-lto", Some(LinkerPluginLto)),
            ("-C linker_plugin_lto=/plugin.so", Some(LinkerPluginLto)),
            ("-C linker-plugin-lto=off", None),
            ("--target=/dir/own.json", Some(Target)),
            ("--target amdgcn-amd-amdhsa", Some(Target)),
            ("--target x86_64-unknown-linux-gnu", None),
            ("--crate-type staticlib", Some(CrateType)),
            ("--crate-type=rlib,dylib", Some(CrateType)),
            (
                "--crate-type cdylib --crate-type=proc-macro --crate-type bin,rlib",
                None,
            ),
            ("-Z no-link", Some(NoLink)),
            ("-Zno_link=yes", Some(NoLink)),
            ("-Zlink-only", Some(NoLink)),
            ("-Zunstable-options", None),
            ("--print link-args", Some(Print)),
            ("--print=link-args", Some(Print)),
            ("main.rs @more", Some(ArgumentFile)),
            ("-C linker-flavor=ld", Some(Flavor)),
        ] {
            assert_eq!(from(args).err(), expected, "{args}");
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
        assert_eq!(args(b"linker=/\xff/cc"), Err(NotGated::Name));
        assert_eq!(args(b"linker=/cc"), Ok(Some("/cc".to_owned())));
    }

    #[test]
    fn reasons_fit_into_a_sentence() {
        use NotGated::*;
        for reason in [
            Lto,
            LinkerPluginLto,
            Target,
            CrateType,
            NoLink,
            Print,
            ArgumentFile,
            Flavor,
            Name,
            NotFound,
            NotExecutable,
        ] {
            let text = reason.to_string();
            assert!(text.len() < 60 && !text.ends_with('.'), "{text}");
            assert!(!text.starts_with(char::is_uppercase), "{text}");
        }
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
        assert_eq!(find("cc", Some("missing:a:b")), Ok("b/cc".to_owned()));
        assert_eq!(find("cc", Some(&absolute)), Ok("b/cc".to_owned()));
        assert_eq!(find("cc", Some("a")), Err(NotGated::NotExecutable));
        assert_eq!(find("ld", Some("a:b")), Err(NotGated::NotExecutable));
        assert_eq!(find("gcc", Some("a:b")), Err(NotGated::NotFound));
        assert_eq!(find("b/cc", None), Ok("b/cc".to_owned()));
        assert_eq!(find("a/cc", None), Err(NotGated::NotExecutable));
        assert_eq!(find("./c", None), Err(NotGated::NotFound));
        assert_eq!(find("mold", Some("a::b")), Ok("mold".to_owned()));
        assert_eq!(find("mold", Some("a")), Err(NotGated::NotFound));
        assert_eq!(find("cc", None), Err(NotGated::NotFound));
        // A directory can be entered, not run.
        assert_eq!(find("b", Some("")), Err(NotGated::NotFound));
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
