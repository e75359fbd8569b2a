//! Builds in which something links a library that is not finished, for as long as the test wants.
//!
//! The library is always called `slow`. A wrapper around rustc holds it: its metadata is announced, its
//! rlib is not there. So what links it has to start early and to park, or the build fails.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use cargo_test_support::prelude::*;
use cargo_test_support::{Execs, Project, ProjectBuilder, RawOutput, project, str};
use regex::Regex;
use walkdir::WalkDir;

use super::{BuildTrace, BuilderExt, ProjectExt, manifest};

/// In a script in the place of rustc: the name of the crate, its type (or `test` if it has a test harness), and
/// where its outputs go.
pub const ARGUMENTS: &str = r#"#!/bin/sh
before= name= type= out= extra=
for arg; do
    case $before in
        --crate-name) name=$arg ;;
        --crate-type) type=$arg ;;
        --out-dir) out=$arg ;;
        -C) case $arg in extra-filename=*) extra=${arg#*=} ;; esac ;;
    esac
    [ "$arg" = --test ] && type=test
    before=$arg
done
"#;

/// A wrapper around rustc that holds `slow` until a command succeeds, such as one of these. With `SILENT` in the
/// environment, what rustc says about it, too. Then it runs the commands in `AT_THE_END`.
///
/// * `parked N`: N jobs have parked at their linkers,
/// * `released`: [`Running::release`](super::running::Running::release) has been called,
/// * `compiled NAME`: `body` has called `mark NAME`.
///
/// In `body`, the rest of it, `$name` is the name of the crate, `$type` its type, or `test` if it has a
/// test harness, and `$@` the command.
pub fn wrapper(until: &str, body: &str) -> String {
    format!(
        r#"{ARGUMENTS}
await() {{
    [ -n "$HOLD" ] || return
    for i in $(seq 1200); do
        "$@" && return
        sleep 0.05
    done
    echo "the wrapper waited in vain for: $*" >&2
    exit 1
}}
parked() {{ [ "$(grep -c '"name":"parked".*"ph":"B"' "$CARGO_BUILD_TRACE")" -ge $1 ]; }}
released() {{ [ -e go ]; }}
mark() {{ : >"marked-$1"; }}
compiled() {{ [ -e "marked-$1" ]; }}
hold() {{
    held="held$extra"
    mkdir "$held"
    for arg; do
        shift
        if [ "$arg" = "$out" ]; then arg=$held; fi
        set -- "$@" "$arg"
    done
    "$@" 2>"$held/said"
    status=$?
    mv "$held"/*.rmeta "$out"
    if [ -z "$SILENT" ]; then sed '/"emit":"metadata"/q' "$held/said" >&2; fi
    await {until}
    eval "$AT_THE_END"
    if [ -n "$SILENT" ]; then cat "$held/said"; else sed '1,/"emit":"metadata"/d' "$held/said"; fi >&2
    rm "$held/said"
    if [ $status = 0 ]; then mv "$held"/* "$out"; fi
    rm -r "$held"
    exit $status
}}
if [ "$name/$type" = slow/lib ]; then hold "$@"; fi
{body}
exec "$@"
"#
    )
}

/// The package `foo`, on `slow`, without a target. `rest` goes to the end of its manifest.
pub fn foo_on_slow(rest: &str) -> ProjectBuilder {
    foo("dependencies", rest)
}

/// The same, where `slow` is a dependency of another kind.
pub fn foo(kind_of_dependency: &str, rest: &str) -> ProjectBuilder {
    let workspace = if rest.contains("[workspace]") {
        ""
    } else {
        "[workspace]"
    };
    let rest = format!("[{kind_of_dependency}]\nslow.path = 'slow'\n{rest}\n{workspace}");
    project()
        .file("Cargo.toml", &manifest("foo", &rest))
        .lib("slow", "", "pub fn slow() -> u32 { 1 }")
        .wrapper("parked 1", "")
}

/// A binary that prints what `slow` returns.
pub const MAIN: &str = r#"fn main() { println!("slow says {}", slow::slow()); }"#;

/// A binary that cannot be linked.
pub const UNDEFINED: &str = r#"
    extern "C" { fn undefined_symbol() -> u32; }
    fn main() { println!("{}", slow::slow() + unsafe { undefined_symbol() }); }
"#;

/// A procedural macro that expands to what `slow` returns.
pub const PROC_MACRO: &str = r#"
    #[proc_macro]
    pub fn says(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
        slow::slow().to_string().parse().unwrap()
    }
"#;

/// The binary `foo` on `slow`.
pub fn bin_on_slow() -> ProjectBuilder {
    foo_on_slow("").file("src/main.rs", MAIN)
}

/// A linker that is `cc` and records how it was called, under the name of the file.
pub const RECORDING_LINKER: &str = r#"#!/bin/sh
for arg; do
    [ "$before" = -o ] && output=$arg
    before=$arg
done
echo "$0 made $output" >>linked
exec cc "$@"
"#;

pub trait GatedExt: ProjectExt {
    /// `cargo LINE` with the wrapper, four jobs and a trace.
    fn wrapped(&self, line: &str) -> Execs {
        let mut execs = self.cargo(line);
        execs
            .env("RUSTC_WRAPPER", self.project().root().join("wrapper"))
            .env("CARGO_BUILD_JOBS", "4")
            .env(
                "CARGO_BUILD_TRACE",
                self.project().root().join("trace.json"),
            );
        execs
    }

    /// The same, and `slow` is held.
    fn held(&self, line: &str) -> Execs {
        let mut execs = self.wrapped(line);
        execs.env("HOLD", "1");
        execs
    }

    /// The same in this mode; `slow` is held only in mode `link`.
    fn held_in(&self, mode: &str, line: &str) -> Execs {
        let mut execs = self.wrapped(line);
        let hold = if mode == "link" { "1" } else { "" };
        execs.env("HOLD", hold).env("CARGO_BUILD_PIPELINING", mode);
        execs
    }

    /// `cargo LINE` with `slow` held, which must succeed and leave nothing of a gate.
    fn built(&self, line: &str) -> BuildTrace {
        self.built_by(&mut self.held(line))
    }

    /// The same with these settings.
    fn built_by(&self, execs: &mut Execs) -> BuildTrace {
        execs.run();
        assert_tidy(&self.project().root());
        let trace = self.trace();
        trace.assert_sound(4);
        trace
    }

    /// `cargo LINE` with `slow` held, in which one unit must fail.
    fn fails(&self, line: &str) -> Output {
        let mut execs = self.held(line);
        let output = execs.with_status(101).with_stderr_data(str!["..."]).run();
        let output = Output::of(&output);
        assert_eq!(output.count("error: could not compile"), 1, "{output:#?}");
        assert_tidy(&self.project().root());
        output
    }

    /// Runs the binary `foo`.
    fn run_foo(&self) {
        let mut program = self.project().process(self.project().bin("foo"));
        program.with_stdout_data("slow says 1\n").run();
    }

    /// Counts the lines of a file.
    fn count_lines(&self, file: &str) -> usize {
        self.project().read_file(file).lines().count()
    }
}

impl GatedExt for Project {}

/// The sorted output of cargo, without what differs from one build to the next: times, ids of threads and
/// rustc's temporary directories (`rustcAb3dE6`).
#[derive(Debug, PartialEq)]
pub struct Output {
    pub status: Option<i32>,
    pub stdout: Vec<String>,
    pub stderr: Vec<String>,
}

impl Output {
    pub fn of(output: &RawOutput) -> Self {
        static VARIES: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(
                r"(?P<kept>target\(s\) in ).*|^thread '.*(?P<end> panicked)|/rustc[A-Za-z0-9]{6}\b",
            )
            .unwrap()
        });
        let sorted = |stream: &[u8]| {
            let text = String::from_utf8_lossy(stream);
            let lines = text.lines();
            let lines = lines.map(|line| VARIES.replace_all(line, "$kept[..]$end").into_owned());
            let mut lines: Vec<String> = lines.collect();
            lines.sort();
            lines
        };
        Output {
            status: output.code,
            stdout: sorted(&output.stdout),
            stderr: sorted(&output.stderr),
        }
    }

    /// Asserts that two outputs are the same, and shows what is not.
    #[track_caller]
    pub fn assert_equals(&self, expected: &Output) {
        assert_eq!(self.status, expected.status, "{self:#?}");
        let all = |output: &Output| [&output.stdout[..], &["".to_owned()], &output.stderr].concat();
        snapbox::assert_data_eq!(
            all(self).join("\n"),
            all(expected).join("\n").into_data().raw()
        );
    }

    /// Counts the lines of stderr that hold the text.
    pub fn count(&self, text: &str) -> usize {
        let lines = self.stderr.iter();
        lines.filter(|line| line.contains(text)).count()
    }
}

/// Returns the output of `cargo LINE` in the modes `metadata` and `link`, one after the other, each from
/// nothing. `set` is called for both.
pub fn in_both_modes(
    p: &Project,
    line: &str,
    set: impl Fn(&mut Execs) -> &mut Execs,
) -> (Output, Output) {
    let run = |mode| {
        reset(p);
        let mut execs = p.held_in(mode, line);
        Output::of(&set(execs.without_status()).run())
    };
    (run("metadata"), run("link"))
}

/// Removes what a build and the wrapper have left.
pub fn reset(p: &Project) {
    p.build_dir().rm_rf();
    for entry in fs::read_dir(p.root()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name == "go" || name == "linked" || name.starts_with("marked-") {
            fs::remove_file(path).unwrap();
        }
    }
}

/// Asserts that the output of `cargo LINE` is the same in both modes, and does not mention the gate.
#[track_caller]
pub fn assert_same_output(
    p: &Project,
    line: &str,
    set: impl Fn(&mut Execs) -> &mut Execs,
) -> Output {
    let (mut metadata, mut link) = in_both_modes(p, line, set);
    for output in [&mut metadata, &mut link] {
        // Whether other jobs still run is what the modes are about.
        output
            .stderr
            .retain(|line| !line.contains("waiting for other jobs to finish"));
        for line in output.stdout.iter().chain(&output.stderr) {
            assert!(!line.contains("link-gate"), "{line}");
        }
    }
    link.assert_equals(&metadata);
    link
}

/// Returns all that is below a directory, symlinks not followed. What vanishes meanwhile is left out.
pub fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries = WalkDir::new(dir).min_depth(1).sort_by_file_name();
    let entries = entries.into_iter().flatten();
    entries.map(|entry| entry.into_path()).collect()
}

/// Returns the directories of gates.
pub fn gates(root: &Path) -> Vec<PathBuf> {
    let mut found = walk(root);
    found.retain(|path| path.ends_with(".link-gate"));
    found
}

/// Returns the rlibs that have no code.
pub fn hollow_rlibs(root: &Path) -> Vec<PathBuf> {
    let mut found = walk(root);
    found.retain(|path| {
        let content = read_file(path);
        let header = content.len().saturating_sub(60);
        content.starts_with(b"!<arch>\n") && content[header..].starts_with(b"hollow/ ")
    });
    found
}

pub const NONE: [PathBuf; 0] = [];

/// Asserts that nothing of a gate is left.
#[track_caller]
pub fn assert_tidy(root: &Path) {
    assert_eq!(gates(root), NONE);
    assert_eq!(hollow_rlibs(root), NONE);
}

/// Returns the files of a target directory that are run or linked.
pub fn artifacts(target: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for path in walk(target) {
        let content = read_file(&path);
        let is_artifact = match path.extension().map(OsStrExt::as_bytes) {
            Some(extension) => [&b"rlib"[..], b"rmeta", b"so", b"a"].contains(&extension),
            None => content.starts_with(b"\x7fELF"),
        };
        if is_artifact {
            files.insert(path, content);
        }
    }
    files
}

/// Reads a file; what is none, is empty.
fn read_file(path: &Path) -> Vec<u8> {
    let is_file = fs::symlink_metadata(path).is_ok_and(|it| it.is_file());
    let content = is_file.then(|| fs::read(path).unwrap_or_default());
    content.unwrap_or_default()
}
