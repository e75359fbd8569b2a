//! Wrappers around rustc that change how something is linked: the gate notices, and compiles again.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use cargo_pipelining::trace::Phase;
use cargo_test_support::prelude::*;

use crate::link_faults::assert_fails;
use crate::support::gated::{
    GatedExt, MAIN, RECORDING_LINKER, UNDEFINED, assert_tidy, bin_on_slow, foo_on_slow,
    in_both_modes, wrapper,
};
use crate::support::{BuilderExt, ProjectExt};

/// Links the binary with another linker than cargo knows of.
const BYPASS: &str = r#"if [ "$name/$type" = foo/bin ]; then
    echo foo >>compiled
    exec "$@" -C linker=./other-cc
fi"#;

/// The first time from a hollow rlib.
#[cargo_test]
fn wrapper_has_its_own_linker() {
    for variable in ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
        let p = bin_on_slow()
            .executable("other-cc", RECORDING_LINKER)
            .wrapper("parked 1", BYPASS)
            .build();
        let build = || {
            let mut cargo = p.held("build");
            let wrapper = p.root().join("wrapper");
            cargo.env_remove("RUSTC_WRAPPER").env(variable, wrapper);
            cargo
        };
        let trace = p.built_by(&mut build());
        p.run_foo();
        let (slow, bin) = (trace.lib("slow"), trace.bin("foo"));
        assert!(bin.began < slow.all.unwrap());
        // The next build has nothing to do.
        let again = p.built_by(&mut build());
        assert!(again.units().all(|unit| unit.phases == [Phase::Replay]));
        p.run_foo();
        assert_eq!((p.count_lines("compiled"), p.count_lines("linked")), (2, 2));
    }
}

/// As Python's `subprocess` does: the shim has no socket, and the compiler runs again.
#[cargo_test(requires = "bash")]
fn wrapper_that_closes_descriptors() {
    let close = "for path in /proc/$$/fd/*; do fd=${path##*/}; \
        if [ $fd -gt 2 ]; then eval \"exec $fd>&-\"; fi; done";
    let body = format!("if [ $type = bin ]; then mark foo; echo foo >>compiled; {close}; fi");
    let wrapper = wrapper("compiled foo", &body).replace("#!/bin/sh", "#!/usr/bin/env bash");
    let p = bin_on_slow().executable("wrapper", &wrapper).build();
    let note = "[NOTE] a linker was not held back, [..]";
    p.built_by(p.held("build -v").with_stderr_contains(note));
    assert_eq!(p.count_lines("compiled"), 2);
    p.run_foo();
}

/// rustc optimizes across crates although cargo does not know, and gives the linker a copy of the hollow
/// rlib.
#[cargo_test]
fn wrapper_adds_lto() {
    let body = r#"if [ $type = bin ]; then echo foo >>compiled; set -- "$@" -C lto=fat; fi"#;
    let p = bin_on_slow().wrapper("parked 1", body).build();
    p.built_by(p.held("build").env("RUSTFLAGS", "-C embed-bitcode=yes"));
    assert_eq!(p.read_file("compiled"), "foo\nfoo\n");
    p.run_foo();
}

#[cargo_test]
fn wrapper_retries_a_failed_link() {
    let body = r#"if [ $type = bin ]; then "$@" || "$@"; exit; fi"#;
    let p = bin_on_slow()
        .wrapper("parked 1", body)
        .executable("own-cc", "# no interpreter\n")
        .build();
    let mut cargo = p.held("build");
    cargo
        .env("RUSTFLAGS", "-C linker=./own-cc")
        .with_status(101)
        .with_stderr_contains("[ERROR] could not exec the linker `./own-cc`");
    let stderr = String::from_utf8(cargo.run().stderr).unwrap();
    let message = "error: could not exec the linker `./own-cc`";
    assert_eq!(stderr.matches(message).count(), 2, "{stderr}");
    assert_tidy(&p.root());
}

#[cargo_test]
fn one_bypassed_linker_ends_early_starts() {
    let body = r#"if [ $type = bin ]; then echo "$name" >>compiled; exec "$@" -C linker=cc; fi"#;
    let p = foo_on_slow("")
        .file("src/bin/one.rs", MAIN)
        .file("src/bin/two.rs", MAIN)
        .wrapper("parked 1", body)
        .build();
    // With one slot beside the library's: the second could start early when the first waits for the
    // library, to be compiled again.
    let note = "a linker was not held back, so nothing else starts before what it links is ready";
    let output = p
        .held("build -v -j2")
        .env("CARGO_BUILD_JOBS", "2")
        .with_stderr_contains(format!("[NOTE] {note} in this build"))
        .run();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.matches(note).count(), 1);
    let trace = p.trace();
    let library = trace.lib("slow").all.unwrap();
    let bins = trace.units().filter(|unit| unit.kind == ["bin"]);
    assert_eq!(bins.filter(|bin| bin.began < library).count(), 1);
    assert_eq!(p.count_lines("compiled"), 3);
}

#[cargo_test]
fn second_compilation_repeats_no_messages() {
    let p = bin_on_slow()
        .file("src/main.rs", &format!("{MAIN} fn unused() {{}}"))
        .executable("other-cc", RECORDING_LINKER)
        .wrapper("parked 1", BYPASS)
        .build();
    for line in ["build", "build -vv", "build --message-format=json"] {
        let (metadata, mut link) = in_both_modes(&p, line, |cargo| cargo);
        assert_eq!(link.status, Some(0));
        // That it was compiled twice is all that is new.
        let is_note = |line: &String| line.starts_with("note: a linker was not held back");
        let lines = link.stderr.len();
        link.stderr.retain(|line| !is_note(line));
        assert_eq!(lines - link.stderr.len(), usize::from(line == "build -vv"));
        link.assert_equals(&metadata);
        assert_eq!(p.count_lines("linked"), 2, "{line}");
    }
}

#[cargo_test]
fn second_compilation_shows_its_error() {
    let p = bin_on_slow()
        .file("src/main.rs", UNDEFINED)
        .executable("other-cc", RECORDING_LINKER)
        .wrapper("parked 1", BYPASS)
        .build();
    let output = assert_fails(&p, "build", 1, |cargo| cargo);
    assert_eq!(output.count("error: linking with `./other-cc` failed"), 1);
}

/// Nothing of `slow` is needed: the link from the hollow rlib succeeds, and must not count.
#[cargo_test]
fn early_link_that_succeeds_is_repeated() {
    let main = r#"#[allow(unused_imports)] use slow as _; fn main() { println!("slow says 1"); }"#;
    let p = bin_on_slow()
        .file("src/main.rs", main)
        .executable("other-cc", RECORDING_LINKER)
        .wrapper("parked 1", BYPASS)
        .build();
    let trace = p.built("build");
    assert!(trace.bin("foo").began < trace.lib("slow").all.unwrap());
    assert_eq!(p.count_lines("linked"), 2);
    p.run_foo();
}

#[cargo_test]
fn plain_wrapper() {
    for variable in ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
        let p = bin_on_slow()
            .executable("plain", "#!/bin/sh\nexec \"$@\"\n")
            .build();
        // The compiler itself is what holds `slow`.
        p.change_file(
            "rustc",
            &wrapper("parked 1", "").replace("#!/bin/sh\n", "#!/bin/sh\nset -- rustc \"$@\"\n"),
        );
        let rustc = p.root().join("rustc");
        fs::set_permissions(&rustc, PermissionsExt::from_mode(0o755)).unwrap();
        let mut cargo = p.held("build");
        cargo
            .env_remove("RUSTC_WRAPPER")
            .env("RUSTC", &rustc)
            .env(variable, p.root().join("plain"));
        assert_eq!(p.built_by(&mut cargo).parked(), 1);
        p.run_foo();
    }
}

#[cargo_test]
fn wrapper_passes_output_on_at_the_end() {
    let p = bin_on_slow().build();
    let trace = p.built_by(p.held("build").env("SILENT", "1"));
    assert!(trace.bin("foo").began < trace.lib("slow").all.unwrap());
    assert_eq!(trace.parked(), 1);
    p.run_foo();
}

#[cargo_test]
fn wrapper_fails_after_metadata_was_seen() {
    let replace = r#"echo more >>"$out/lib$name$extra.rmeta""#;
    let replaced =
        "[..]libslow-[..].rmeta` was replaced after dependents had started to read it; [..]";
    let failed = "[ERROR] could not compile `slow` [..]";
    for (at_the_end, error) in [(replace, replaced), ("status=1", failed)] {
        let p = bin_on_slow().build();
        p.held("build")
            .env("SILENT", "1")
            .env("AT_THE_END", at_the_end)
            .with_status(101)
            .with_stderr_contains(error)
            .run();
        assert_tidy(&p.root());
        p.built_by(p.held("build").env("SILENT", "1"));
        p.run_foo();
    }
}

/// It runs rustc twice for a crate, which then has other metadata.
#[cargo_test]
fn fix_behind_a_wrapper() {
    for (variable, line) in [
        ("RUSTC_WRAPPER", "fix --allow-no-vcs"),
        ("RUSTC_WORKSPACE_WRAPPER", "fix --allow-no-vcs"),
        ("RUSTC_WRAPPER", "clippy --fix --allow-no-vcs"),
    ] {
        let p = foo_on_slow("")
            .file("src/lib.rs", "pub fn fixed() { let mut x = 1; drop(x) }")
            .file(
                "src/main.rs",
                "fn main() { let mut x = 1; foo::fixed(); drop(x) }",
            )
            .executable("plain", "#!/bin/sh\nexec \"$@\"\n")
            .build();
        p.cargo(line).env(variable, p.root().join("plain")).run();
        for file in ["src/lib.rs", "src/main.rs"] {
            assert!(!p.read_file(file).contains("mut"), "{line} {file}");
        }
    }
}

#[cargo_test]
fn wrapper_runs_rustc_as_child() {
    let p = bin_on_slow().wrapper("parked 1", "\"$@\"\nexit $?").build();
    assert_eq!(p.built("build").parked(), 1);
    p.run_foo();
}

#[cargo_test]
fn wrapper_succeeds_without_linking() {
    let body = r#"if [ "$name/$type" = foo/bin ]; then
        echo foo >>compiled
        [ -e compiled-before ] || { : >compiled-before; exit 0; }
    fi"#;
    let p = bin_on_slow().wrapper("parked 1", body).build();
    p.held("build").run();
    p.run_foo();
    assert_eq!(p.read_file("compiled"), "foo\nfoo\n");
    assert_tidy(&p.root());
}

/// Children of rustc have the socket, too. This one sends what a shim does, and reads all there is.
#[cargo_test]
fn macro_reads_and_floods_the_socket() {
    let greedy = r#"
        use std::fs::{self, File};
        use std::io::Write;
        use std::os::fd::FromRawFd;
        use std::process::{Command, Stdio};

        #[proc_macro]
        pub fn greedy(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
            for entry in fs::read_dir("/proc/self/fd").unwrap() {
                let path = entry.unwrap().path();
                let is_socket = fs::read_link(&path)
                    .is_ok_and(|it| it.to_string_lossy().starts_with("socket:"));
                if !is_socket {
                    continue;
                }
                let fd = path.file_name().unwrap().to_str().unwrap();
                Command::new("sh")
                    .args(["-c", &format!("cat <&{fd}")])
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap();
                let mut socket = unsafe { File::from_raw_fd(fd.parse().unwrap()) };
                for _ in 0..3_000 {
                    socket.write_all(b"P").unwrap();
                }
                std::mem::forget(socket);
            }
            proc_macro::TokenStream::new()
        }
    "#;
    let p = foo_on_slow("[dependencies.greedy]\npath = 'greedy'")
        .file("src/main.rs", &format!("greedy::greedy!(); {MAIN}"))
        .lib("greedy", "[lib]\nproc-macro = true", greedy)
        .build();
    let trace = p.built("build");
    let expected = [Phase::Compile, Phase::Parked, Phase::Link];
    assert_eq!(trace.bin("foo").phases, expected);
    p.run_foo();
}
