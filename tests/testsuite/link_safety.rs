//! Who can have a say at the gate, what of it can be seen, and how many wait there.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use cargo_test_support::prelude::*;
use cargo_test_support::{Execs, Project, ProjectBuilder};

use crate::support::ProjectExt;
use crate::support::gated::{
    GatedExt, MAIN, Running, assert_tidy, bin_on_slow, foo, forget, gate, hollow_rlibs,
    processes_in, recording_linker, walk, wrapper,
};
use crate::support::replacement;

fn held_until_released() -> Project {
    bin_on_slow()
        .executable("wrapper", &wrapper("released", ""))
        .executable("own-cc", recording_linker())
        .build()
}

/// Asserts that only the user can see what is at the gate.
#[track_caller]
fn assert_private(gate: &Path) {
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(gate), 0o700, "{}", gate.display());
    let (mut dirs, mut files, mut sockets) = (0, 0, 0);
    for path in walk(gate) {
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            dirs += 1;
            assert_eq!(mode(&path), 0o700, "{}", path.display());
        } else if kind.is_file() {
            files += 1;
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        } else if kind.is_socket() {
            sockets += 1;
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        } else {
            assert!(kind.is_symlink(), "{}", path.display());
        }
    }
    assert_eq!((dirs, files, sockets), (1, 1, 1), "{:?}", walk(gate));
}

#[cargo_test]
fn the_gate_is_private() {
    let p = held_until_released();
    let running = Running::parked(&p, "build", 1);
    assert_private(&gate(&p.root()));
    assert_eq!(hollow_rlibs(&p.root()).len(), 1);
    running.finish();
    assert_tidy(&p.root());
}

#[cargo_test]
fn the_gate_is_private_whatever_the_umask() {
    for umask in ["000", "077"] {
        let p = held_until_released();
        let mut held = p.process("sh");
        held.arg("-c")
            .arg(format!("umask {umask}; exec \"$CARGO\" build"))
            .env("CARGO", replacement())
            .env("RUSTC_WRAPPER", p.root().join("wrapper"))
            .env("CARGO_BUILD_JOBS", "4")
            .env("CARGO_BUILD_TRACE", p.root().join("trace.json"))
            .env("HOLD", "1");
        let running = Running::start(&p, &mut held);
        running.await_parked(1);
        assert_private(&gate(&p.root()));
        running.finish();
        assert_tidy(&p.root());
    }
}

/// The names of the variables in what `env` has written, if nothing in it is about the gate.
#[track_caller]
fn names(environment: &str) -> BTreeSet<String> {
    assert!(!environment.contains("link-gate"), "{environment}");
    assert!(!environment.contains("LINK_GATE"), "{environment}");
    environment
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.to_owned())
        .filter(|name| !["HOLD", "_", "OLDPWD"].contains(&&**name))
        .collect()
}

#[cargo_test]
fn nothing_about_the_gate_is_in_the_environment() {
    let p = foo(
        "build-dependencies",
        r#"
            [dependencies]
            derive = { path = "derive" }
        "#,
    )
    .file(
        "build.rs",
        r#"fn main() {
            slow::slow();
            let vars = std::env::vars().map(|(name, value)| format!("{name}={value}\n"));
            std::fs::write("environment-of-build-script", vars.collect::<String>()).unwrap();
        }"#,
    )
    .file("src/main.rs", "derive::nothing!(); fn main() {}")
    .file(
        "derive/Cargo.toml",
        r#"
            [package]
            name = "derive"
            version = "0.1.0"
            edition = "2021"

            [lib]
            proc-macro = true

            [dependencies]
            slow = { path = "../slow" }
        "#,
    )
    .file(
        "derive/src/lib.rs",
        r#"
            #[proc_macro]
            pub fn nothing(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
                slow::slow();
                let vars = std::env::vars().map(|(name, value)| format!("{name}={value}\n"));
                std::fs::write("environment-of-proc-macro", vars.collect::<String>()).unwrap();
                proc_macro::TokenStream::new()
            }
        "#,
    )
    .executable(
        "wrapper",
        &wrapper("parked 1", "env >\"environment-of-rustc-$name\""),
    )
    .executable(
        "own-cc",
        "#!/bin/sh\nenv >environment-of-linker\nexec cc \"$@\"\n",
    )
    .build();
    let seen = |mode| {
        forget(&p);
        let mut cargo = p.held("build");
        cargo
            .env("CARGO_BUILD_PIPELINING", mode)
            .env("RUSTFLAGS", "-Clinker=./own-cc")
            .env("HOLD", if mode == "link" { "1" } else { "" })
            .run();
        [
            "build-script",
            "proc-macro",
            "rustc-foo",
            "rustc-derive",
            "rustc-build_script_build",
            "linker",
        ]
        .map(|whose| {
            (
                whose,
                names(&p.read_file(format!("environment-of-{whose}"))),
            )
        })
    };
    let metadata = seen("metadata");
    let link = seen("link");
    assert_ne!(p.trace().parked(), 0);
    assert_eq!(metadata, link);
}

/// What the linker has of the process that it was: open files, signals, and where it is.
#[cargo_test]
fn the_linker_inherits_what_it_would_otherwise() {
    let p = bin_on_slow()
        .executable(
            "own-cc",
            r#"#!/bin/sh
pwd >inherited
umask >>inherited
ulimit -a >>inherited
grep -E '^(SigIgn|NoNewPrivs)' /proc/self/status >>inherited
for file in /proc/$$/fd/*; do readlink $file; done | sed 's/:.*//' | grep -v -e inherited -e own-cc | sort >>inherited
exec cc "$@"
"#,
        )
        .build();
    let inherited = |mode| {
        forget(&p);
        p.held("build")
            .env("CARGO_BUILD_PIPELINING", mode)
            .env("RUSTFLAGS", "-Clinker=./own-cc")
            .env("HOLD", if mode == "link" { "1" } else { "" })
            .run();
        p.read_file("inherited")
    };
    let metadata = inherited("metadata");
    assert!(metadata.contains("SigIgn") && metadata.contains("pipe"));
    assert_eq!(inherited("link"), metadata);
    assert_eq!(p.trace().parked(), 1);
}

/// Where the gate listens, however long its name is.
struct Door {
    dir: File,
}

impl Door {
    fn of(p: &Project) -> Self {
        Door {
            dir: File::open(gate(&p.root())).unwrap(),
        }
    }

    fn knock(&self) -> std::io::Result<UnixStream> {
        let dir = format!("/proc/self/fd/{}/socket", self.dir.as_raw_fd());
        let stream = UnixStream::connect(dir)?;
        // Nobody here waits for ever.
        stream.set_read_timeout(Some(std::time::Duration::from_secs(60)))?;
        stream.set_write_timeout(Some(std::time::Duration::from_secs(60)))?;
        Ok(stream)
    }
}

/// What the shim of the one job says, as it stands in the file of the job: number and secret.
fn job(p: &Project) -> (String, String) {
    let files: Vec<PathBuf> = walk(&gate(&p.root()))
        .into_iter()
        .filter(|path| fs::symlink_metadata(path).unwrap().is_file())
        .collect();
    let [file] = &files[..] else {
        panic!("not one job: {files:?}");
    };
    let content = fs::read(file).unwrap();
    let fields: Vec<_> = content.split(|byte| *byte == 0).collect();
    let text = |at: usize| String::from_utf8(fields[at].to_vec()).unwrap();
    (text(1), text(2))
}

fn hello((number, secret): &(String, String), kind: char) -> Vec<u8> {
    let hello = format!("lnkgate1{number}{secret}{kind}").into_bytes();
    assert_eq!(hello.len(), 57);
    hello
}

#[cargo_test]
fn ten_thousand_strangers() {
    let p = held_until_released();
    let running = Running::start(&p, p.held("build").env("RUSTFLAGS", "-Clinker=./own-cc"));
    running.await_parked(1);
    let door = Door::of(&p);
    let job = job(&p);
    let right = hello(&job, 'P');
    let wrong_secret = hello(&(job.0.clone(), "0".repeat(32)), 'P');
    let wrong_job = hello(&("f".repeat(16), job.1.clone()), 'P');
    let wrong_kind = hello(&job, 'X');
    let too_much = [&right[..], &[b'x'; 5000]].concat();
    // Those that stay, most of them in silence.
    let mut open = VecDeque::new();
    for number in 0..10_000 {
        let Ok(mut stream) = door.knock() else {
            panic!("the gate does not answer any more, at {number}");
        };
        let says: &[u8] = match number % 10 {
            0 => b"",
            1 => b"GET / HTTP/1.1\r\n\r\n",
            2 => &right[..number % right.len()],
            3 => &wrong_secret,
            4 => &wrong_job,
            5 => &wrong_kind,
            6 => &too_much,
            7 => b"lnkgate2",
            8 => &[0; 57],
            _ => b"",
        };
        // It may be shut before it is said.
        let _ = stream.write_all(says);
        open.push_back(stream);
        while open.len() > 200 {
            let mut stream = open.pop_front().unwrap();
            let mut answer = [0];
            stream.set_nonblocking(true).unwrap();
            // Nobody is let in.
            if let Ok(1) = stream.read(&mut answer) {
                assert_eq!(answer, *b"R", "stranger {number}");
            }
        }
    }
    assert!(processes_in(&p.root()).iter().any(|it| it.is_shim()));
    assert!(!p.root().join("linked").exists());
    running.finish();
    drop(open);
    assert_eq!(p.read_file("linked").lines().count(), 1);
    let trace = p.trace();
    trace.assert_sound(4);
    assert_eq!(trace.bin("foo").phases, ["compile", "parked", "link"]);
    assert_tidy(&p.root());
    p.run_foo();
}

#[cargo_test]
fn strangers_before_the_linker_comes() {
    // 200 that stay are there when the shim of the second one knocks.
    let p = bin_on_slow()
        .file("src/bin/second.rs", MAIN)
        .executable(
            "wrapper",
            &wrapper(
                "parked 2",
                r#"if [ "$name" = second ]; then await released; fi"#,
            ),
        )
        .build();
    let running = Running::parked(&p, "build", 1);
    let door = Door::of(&p);
    let strangers: Vec<_> = (0..200).map(|_| door.knock().unwrap()).collect();
    running.release();
    running.await_parked(2);
    running.finish();
    drop(strangers);
    let trace = p.trace();
    trace.assert_sound(4);
    assert_eq!(trace.parked(), 2);
    assert_tidy(&p.root());
}

#[cargo_test]
fn a_second_one_that_knows_the_secret_is_refused() {
    let p = held_until_released();
    let running = Running::start(&p, p.held("build").env("RUSTFLAGS", "-Clinker=./own-cc"));
    running.await_parked(1);
    let door = Door::of(&p);
    let job = job(&p);
    let mut waiting = Vec::new();
    for kind in ['P', 'P', 'I', 'N'] {
        let mut stream = door.knock().unwrap();
        stream.write_all(&hello(&job, kind)).unwrap();
        waiting.push((kind, stream));
    }
    for (kind, mut stream) in waiting {
        let mut answer = Vec::new();
        // To the end: no permit comes later.
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"R", "{kind}");
    }
    assert!(!p.root().join("linked").exists());
    running.finish();
    assert_eq!(p.read_file("linked").lines().count(), 1);
    let trace = p.trace();
    trace.assert_sound(4);
    assert_eq!(trace.bin("foo").phases, ["compile", "parked", "link"]);
    assert_tidy(&p.root());
    p.run_foo();
}

/// Eight binaries on `slow`.
fn eight_binaries() -> ProjectBuilder {
    (1..=8).fold(foo("dependencies", ""), |p, number| {
        p.file(format!("src/bin/b{number}.rs"), MAIN)
    })
}

/// The greatest number of units that are early at a time: begun, not all that they link there.
fn most_early(p: &Project) -> usize {
    let trace = p.trace();
    let early = |at: usize| {
        trace
            .units()
            .filter(|unit| unit.parked.is_some())
            .filter(|unit| unit.began <= at && unit.linking.is_none_or(|linking| at < linking))
            .count()
    };
    (0..trace.events.len()).map(early).max().unwrap()
}

#[cargo_test]
fn two_for_each_job_and_no_more() {
    let p = eight_binaries()
        .executable("wrapper", &wrapper("parked 4", ""))
        .build();
    p.held("build -j2").run();
    let trace = p.trace();
    trace.assert_sound(2);
    assert_eq!(trace.units().count(), 9);
    assert_eq!(most_early(&p), 4);
    let all = trace.lib("slow").all.unwrap();
    let began = trace
        .units()
        .filter(|unit| unit.kind == ["bin"] && unit.began < all);
    assert_eq!(began.count(), 4);
    assert_tidy(&p.root());
}

#[cargo_test]
fn the_bound_grows_with_the_jobs() {
    let p = eight_binaries()
        .executable("wrapper", &wrapper("parked 6", ""))
        .build();
    p.held("build -j3").run();
    p.trace().assert_sound(3);
    assert_eq!(most_early(&p), 6);
    forget(&p);
    p.change_file("wrapper", &wrapper("parked 8", ""));
    p.held("build -j4").run();
    p.trace().assert_sound(4);
    assert_eq!(most_early(&p), 8);
}

#[cargo_test]
fn a_cargo_that_is_a_symlink_is_no_shim() {
    let p = bin_on_slow().build();
    p.symlink(replacement(), "own-cargo");
    let version = |execs: &mut Execs| execs.arg("--version").run().stdout;
    let own = version(&mut p.process(p.root().join("own-cargo")));
    assert_eq!(own, version(&mut p.process(replacement())));
}
