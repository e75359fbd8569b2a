//! `cargo xtask`: what it says when something is missing or wrong, and what it installs.

use std::path::{Path, PathBuf};

use cargo_test_support::prelude::*;
use cargo_test_support::{Execs, ProcessBuilder, Project, execs, paths, project, str};

use crate::support::{BuilderExt, ExecsExt, manifest, replacement, root, xtask};

/// `xtask LINE` in a checkout of its own at `checkout`.
fn xtask_in(checkout: &Path, line: &str) -> Execs {
    // Not in the sandbox of Cargo's tests: its settings would build the replacement anew, and
    // what is needed of the registry has been downloaded to the real one.
    let mut process = ProcessBuilder::new(xtask());
    process
        .cwd(paths::root())
        .env("CARGO", env!("CARGO"))
        .arg("--offline")
        .arg("--root")
        .arg(checkout)
        .arg_line(line);
    execs().with_process_builder(process)
}

fn cargo_home() -> PathBuf {
    home::cargo_home().unwrap()
}

/// A checkout with the patches of this one.
fn checkout() -> PathBuf {
    let checkout = paths::root().join("checkout");
    let patches = checkout.join("patches");
    patches.mkdir_p();
    for entry in std::fs::read_dir(root().join("patches")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), patches.join(entry.file_name())).unwrap();
    }
    // The crate that the trees are made of must have been downloaded once.
    replacement();
    checkout
}

/// The names and contents of a directory's files.
fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// The name and version of the release that the series applies to.
fn base() -> String {
    let line = std::fs::read_to_string(root().join("patches/base")).unwrap();
    let (_, file) = line.trim_end().split_once("  ").unwrap();
    file.strip_suffix(".crate").unwrap().to_owned()
}

fn tree(checkout: &Path) -> PathBuf {
    checkout.join("target/upstream").join(base())
}

#[track_caller]
fn git(tree: &Path, line: &str) {
    let mut git = std::process::Command::new("git");
    let output = git.args(line.split(' ')).current_dir(tree).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[cargo_test]
fn assemble_and_export_reproduce_the_patches() {
    let checkout = checkout();
    let before = contents(&checkout.join("patches"));
    xtask_in(&checkout, "assemble").run();
    xtask_in(&checkout, "export").run();
    assert_eq!(contents(&checkout.join("patches")), before);
}

#[cargo_test]
fn local_work_is_never_thrown_away() {
    let checkout = checkout();
    xtask_in(&checkout, "assemble").run();
    let file = tree(&checkout).join("README.md");
    let text = std::fs::read_to_string(&file).unwrap() + "// local\n";
    std::fs::write(&file, &text).unwrap();
    xtask_in(&checkout, "assemble --upto 1")
        .fails(str![[r#"
[ERROR] target/upstream/cargo-[..] has uncommitted changes, which assembling would throw away; `cargo xtask export` writes commits to patches/, `cargo xtask assemble --force` discards everything

"#]]);
    xtask_in(&checkout, "export")
        .fails(str![[r#"
[ERROR] target/upstream/cargo-[..] has uncommitted changes; commit them there (or amend the patch they belong to) and run this again

"#]]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    xtask_in(&checkout, "assemble --force").run();
    assert_ne!(std::fs::read_to_string(&file).unwrap(), text);
}

#[cargo_test]
fn patch_that_does_not_apply() {
    let checkout = checkout();
    xtask_in(&checkout, "assemble").run();
    let patch = checkout.join("patches/build-depend-on-cargo-pipelining.patch");
    let text = std::fs::read_to_string(&patch).unwrap();
    let damaged = text.replace(
        "\n [dependencies.cargo-platform]",
        "\n [dependencies.other]",
    );
    assert_ne!(text, damaged);
    std::fs::write(&patch, damaged).unwrap();
    // What comes before it stays.
    xtask_in(&checkout, "assemble")
        .fails(str![[r#"
    Applying build-depend-on-cargo-pipelining.patch
[ERROR] patches/build-depend-on-cargo-pipelining.patch does not apply: Cargo.toml: patch does not apply
target/upstream/cargo-[..] has the patches that come before it. To mend it, run there
    git am -3 --keep-non-patch [ROOT]/checkout/patches/build-depend-on-cargo-pipelining.patch
resolve the conflicts, `git am --continue`, and then run `cargo xtask export` here

"#]]);
}

#[cargo_test]
fn series_that_disagrees_with_the_files() {
    let checkout = checkout();
    let series = checkout.join("patches/series");
    let text = std::fs::read_to_string(&series).unwrap();
    std::fs::write(&series, format!("{text}missing.patch\n")).unwrap();
    xtask_in(&checkout, "assemble")
        .fails(str![[r#"
[ERROR] patches/series lists `missing.patch`, which does not exist in patches/; add the file or remove the line

"#]]);
    let first = "perf-sbom-build-an-sbom-only-where-one-is-written.patch\n";
    std::fs::write(&series, text.replace(first, "")).unwrap();
    xtask_in(&checkout, "assemble")
        .fails(str![[r#"
[ERROR] patches/perf-sbom-build-an-sbom-only-where-one-is-written.patch is not listed in patches/series; add a line for it or remove the file

"#]]);
    std::fs::write(&series, text).unwrap();
    xtask_in(&checkout, "assemble --upto 99").fails(str![[r#"
[ERROR] there is no patch 99: the series has [..] patches

"#]]);
}

#[cargo_test]
fn nothing_to_export() {
    xtask_in(&checkout(), "export")
        .fails(str![[r#"
[ERROR] there is nothing to export: target/upstream/cargo-[..] does not exist; run `cargo xtask assemble`

"#]]);
}

#[cargo_test]
fn prefixes_name_unformatted_files() {
    let checkout = checkout();
    xtask_in(&checkout, "assemble --upto 0").run();
    let tree = tree(&checkout);
    std::fs::write(tree.join("src/lib.rs"), "fn  f() {}\n").unwrap();
    git(
        &tree,
        "-c user.name=me -c user.email=me@example.com commit --quiet --all --message Untidy",
    );
    std::fs::remove_dir_all(checkout.join("patches")).unwrap();
    checkout.join("patches").mkdir_p();
    let base = root().join("patches/base");
    std::fs::copy(base, checkout.join("patches/base")).unwrap();
    xtask_in(&checkout, "export").run();
    xtask_in(&checkout, "prefixes").fails(str![[r#"
...
[CHECKING] that each patch is formatted
[ERROR] these files are not formatted by rustfmt:
untidy.patch: src/lib.rs

"#]]);
}

/// `xtask build` where `PATH` has all that a build needs, but for `without`.
#[cfg(unix)]
fn build_without(without: &str) -> Execs {
    let dir = paths::root().join(without);
    dir.mkdir_p();
    let path = std::env::var_os("PATH").unwrap();
    for program in ["git", "cc", "rustc", "cargo", "sh"] {
        let toolchain = Path::new(env!("CARGO")).parent().unwrap().to_path_buf();
        let mut dirs = std::iter::once(toolchain).chain(std::env::split_paths(&path));
        let found = dirs.find_map(|dir| Some(dir.join(program)).filter(|file| file.exists()));
        if program != without {
            std::os::unix::fs::symlink(found.unwrap(), dir.join(program)).unwrap();
        }
    }
    let mut execs = xtask_in(&checkout(), "build");
    execs.env("PATH", dir).env_remove("CC");
    execs
}

#[cfg(unix)]
#[cargo_test]
fn missing_program_is_named() {
    build_without("git").fails(str![[r#"
[ERROR] `git` was not found: the patches are applied with it; install git and run this again

"#]]);
    build_without("cc").fails(str![[r#"
[ERROR] no C compiler: `cc` was not found; parts of Cargo are C, so install one (`apt install build-essential`, `dnf install gcc`, `xcode-select --install`) and run this again

"#]]);
}

#[cfg(unix)]
#[cargo_test]
fn toolchain_that_is_too_old() {
    use std::os::unix::fs::PermissionsExt;

    let rustc = paths::root().join("rustc");
    std::fs::write(
        &rustc,
        "#!/bin/sh\ncat <<'END'\nrustc 1.90.0 (1159e78c4 2025-09-14)\nbinary: rustc\n\
         commit-hash: 1159e78c4747b02ef996e55082b704c09b970588\ncommit-date: 2025-09-14\n\
         host: x86_64-unknown-linux-gnu\nrelease: 1.90.0\nEND\n",
    )
    .unwrap();
    std::fs::set_permissions(&rustc, PermissionsExt::from_mode(0o755)).unwrap();
    xtask_in(&checkout(), "build")
        .env("RUSTC", rustc)
        .fails(str![[r#"
[ERROR] `rustc 1.90.0 (1159e78c4 2025-09-14)` is too old: pipelined-cargo needs Rust 1.95 or newer; run `rustup update stable`

"#]]);
}

#[cfg(unix)]
#[cargo_test]
fn no_network_and_nothing_downloaded() {
    xtask_in(&checkout(), "assemble")
        .env("CARGO_HOME", paths::root().join("empty"))
        .fails(str![[r#"
    Fetching cargo [..]
[ERROR] cargo [..] could not be downloaded: check the network connection (or the proxy and registry settings in Cargo's configuration) and run this again

Caused by:
  [ERROR] could not find `cargo@[..]` in registry `https://github.com/rust-lang/crates.io-index`

"#]]);
}

#[cargo_test]
fn download_that_is_not_the_release() {
    let cache = paths::root().join("cargo-home/registry/cache/index.crates.io-0");
    cache.mkdir_p();
    std::fs::write(cache.join(format!("{}.crate", base())), "not it").unwrap();
    xtask_in(&checkout(), "assemble")
        .env("CARGO_HOME", paths::root().join("cargo-home"))
        .fails(str![[r#"
[ERROR] [ROOT]/cargo-home/registry/cache/index.crates.io-0/cargo-[..].crate is not the released crate: its SHA-256 is 06121725c433ccd0469b52730a723e66a9c1e31c67c42b1dba6b501f0bf94c9d, and should be [..]; delete the file and run this again

"#]]);
}

/// Makes up a release of Cargo: that of the series, with changes. Returns a `CARGO_HOME` that has both
/// in its registry cache.
fn published(version: &str, change: impl FnOnce(&Path)) -> PathBuf {
    let caches = std::fs::read_dir(cargo_home().join("registry/cache")).unwrap();
    let base = base();
    let released = caches
        .map(|cache| cache.unwrap().path().join(format!("{base}.crate")))
        .find(|file| file.exists())
        .unwrap();
    let home = paths::root().join("cargo-home");
    let cache = home.join("registry/cache/index.crates.io-0");
    cache.mkdir_p();
    std::fs::copy(&released, cache.join(released.file_name().unwrap())).unwrap();
    let tar = |args: &[&str], file: &Path| {
        let status = std::process::Command::new("tar")
            .arg(args[0])
            .arg(file)
            .args(&args[1..])
            .current_dir(&home)
            .status();
        assert!(status.unwrap().success());
    };
    tar(&["-xzf"], &released);
    let name = format!("cargo-{version}");
    std::fs::rename(home.join(base), home.join(&name)).unwrap();
    change(&home.join(&name));
    tar(&["-czf", &name], &cache.join(format!("{name}.crate")));
    home
}

#[cargo_test]
fn port_follows_renamed_directories() {
    let checkout = checkout();
    let home = published("9.9.9", |source| {
        std::fs::rename(source.join("src/compiler"), source.join("src/renamed")).unwrap();
    });
    xtask_in(&checkout, "port 9.9.9")
        .env("CARGO_HOME", &home)
        .with_stderr_data(str![[r#"
[UNPACKING] cargo [..]
    Applying [..]
...
[UNPACKING] cargo 9.9.9
    Rebasing the series on cargo 9.9.9
...
    Exported patches/: [..] added, [..] changed, [..] removed, [..] unchanged

"#]])
        .run();
    let patches = contents(&checkout.join("patches"));
    let all: Vec<u8> = patches.iter().flat_map(|(_, text)| text).copied().collect();
    let all = String::from_utf8(all).unwrap();
    assert!(all.contains("  cargo-9.9.9.crate\n"));
    assert!(all.contains("b/src/renamed/link_gate.rs"));
    assert!(!all.contains("b/src/compiler/"));

    std::fs::remove_dir_all(checkout.join("target")).unwrap();
    xtask_in(&checkout, "assemble")
        .env("CARGO_HOME", &home)
        .run();
    xtask_in(&checkout, "export").run();
    assert_eq!(contents(&checkout.join("patches")), patches);
}

#[cargo_test]
fn port_stops_at_a_conflict() {
    let checkout = checkout();
    let home = published("9.9.9", |source| {
        let manifest = source.join("Cargo.toml");
        let text = std::fs::read_to_string(&manifest).unwrap();
        let line = "[dependencies.cargo-platform]\n";
        let changed = text.replace(line, &format!("# a comment\n{line}"));
        assert_ne!(text, changed);
        std::fs::write(manifest, changed).unwrap();
    });
    std::fs::write(checkout.join("README.md"), format!("On {}.\n", base())).unwrap();
    xtask_in(&checkout, "port 9.9.9")
        .env("CARGO_HOME", &home)
        .fails(str![[r#"
...
[NOTE] these lines may be about the old release, [..]:
README.md:1:On cargo-[..].
[ERROR] `build: depend on cargo-pipelining` conflicts in Cargo.toml
Resolve that in target/upstream/cargo-9.9.9, `git add` the files and `git rebase --continue` there, until
the whole series is applied; then run `cargo xtask export` here

"#]]);
    xtask_in(&checkout, "export")
        .fails(str![[r#"
[ERROR] target/upstream/cargo-9.9.9 has an unfinished `git am` or rebase; finish it (or `--abort` it) and run this again

"#]]);
    let tree = checkout.join("target/upstream/cargo-9.9.9");
    git(&tree, "checkout --theirs Cargo.toml");
    git(&tree, "add Cargo.toml");
    git(&tree, "-c core.editor=true rebase --continue");
    xtask_in(&checkout, "export").run();
    let patch = checkout.join("patches/build-depend-on-cargo-pipelining.patch");
    let text = std::fs::read_to_string(patch).unwrap();
    assert!(text.contains("# a comment"));
}

#[cargo_test]
fn port_to_no_release() {
    let checkout = checkout();
    xtask_in(&checkout, "port latest").fails(str![[r#"
[ERROR] `latest` is not a version of the `cargo` crate; one is `[..]`

"#]]);
    let version = base().replace("cargo-", "");
    xtask_in(&checkout, &format!("port {version}")).fails(str![[r#"
[ERROR] the series is on cargo [..] already

"#]]);
}

/// A rustup home with the active toolchain as `real`.
#[cfg(unix)]
fn rustup_home() -> PathBuf {
    let home = paths::root().join("rustup");
    let toolchains = home.join("toolchains");
    toolchains.mkdir_p();
    let sysroot = std::process::Command::new(Path::new(env!("CARGO")).with_file_name("rustc"))
        .args(["--print", "sysroot"])
        .output()
        .unwrap();
    let sysroot = String::from_utf8(sysroot.stdout).unwrap();
    std::os::unix::fs::symlink(sysroot.trim_end(), toolchains.join("real")).unwrap();
    std::fs::write(
        home.join("settings.toml"),
        "version = \"12\"\ndefault_toolchain = \"real\"\n[overrides]\n",
    )
    .unwrap();
    home
}

/// A project whose dependency was published with somebody's `rust-toolchain.toml`.
#[cfg(unix)]
fn with_a_foreign_toolchain_file() -> Project {
    let below = "[dependencies]\ndashmap.path = 'dashmap'";
    project()
        .file("Cargo.toml", &manifest("foo", below))
        .file("src/main.rs", "fn main() { println!(\"built\"); }")
        .lib("dashmap", "[workspace]", "")
        .file(
            "dashmap/rust-toolchain.toml",
            "[toolchain]\nchannel = \"1.65.0\"\n",
        )
        .build()
}

#[cfg(unix)]
#[cargo_test(requires = "rustup")]
fn install_and_uninstall() {
    let home = rustup_home();
    let install = |line: &str| {
        let mut execs = xtask_in(root(), line);
        execs
            .env("RUSTUP_HOME", &home)
            .env_remove("RUSTUP_TOOLCHAIN");
        execs
    };
    install("uninstall").fails(str![[r#"
[ERROR] toolchain `pipelined` is not installed: [ROOT]/rustup/toolchains/pipelined does not exist

"#]]);
    install("install --debug").run();

    let p = with_a_foreign_toolchain_file();
    let rustup_proxy = |line: &str| {
        let mut execs = p.process(cargo_home().join("bin/cargo"));
        execs
            .env("RUSTUP_HOME", &home)
            .env_remove("RUSTUP_TOOLCHAIN")
            // The proxies first: the directory of a real rustc hides the trap.
            .env("PATH", std::env::var_os("PATH").unwrap())
            .arg_line(line);
        execs
    };
    rustup_proxy("+pipelined run -v")
        .env("CARGO_BUILD_TRACE", p.root().join("trace.json"))
        .with_stdout_data("built\n")
        .run();
    assert!(p.root().join("trace.json").exists(), "it was another cargo");

    // Again, while it is the one that is active.
    install("install --debug")
        .env("RUSTUP_TOOLCHAIN", "pipelined")
        .run();
    p.build_dir().rm_rf();
    rustup_proxy("+pipelined run -v")
        .with_stdout_data("built\n")
        .run();

    install("uninstall").run();
    assert!(!home.join("toolchains/pipelined").exists());
    assert!(home.join("toolchains/real/bin/rustc").exists());
}

#[cfg(unix)]
#[cargo_test(requires = "rustup")]
fn toolchain_of_another_tool_stays() {
    let home = rustup_home();
    let theirs = home.join("toolchains/pipelined/bin");
    theirs.mkdir_p();
    for command in ["install --debug", "uninstall"] {
        xtask_in(root(), command)
            .env("RUSTUP_HOME", &home)
            .fails(str![[r#"
...
[ERROR] toolchain `pipelined` was not made by `cargo xtask install` and is left alone; choose another --name, or remove it with `rustup toolchain uninstall pipelined`

"#]]);
    }
    assert!(theirs.exists());
}
