//! Whatever happens to a workspace, what is built in the end is what a clean build makes.
//!
//! `CUTOFF_SEED` and `CUTOFF_STEPS` set what happens, and for how long; see CONTRIBUTING.md.

use std::collections::HashMap;
use std::fs;

use cargo_test_support::prelude::*;
use cargo_test_support::{Project, project};

use crate::support::cutoff::CutoffExt;

/// Libraries, each with those that it uses. `s` has a build script, `m` is a procedural macro.
const LIBRARIES: [(&str, &[&str]); 8] = [
    ("a", &[]),
    ("s", &[]),
    ("m", &[]),
    ("b", &["a", "m"]),
    ("c", &["a", "s"]),
    ("d", &["b", "c"]),
    ("e", &["a"]),
    ("f", &["d", "e"]),
];

/// Binaries, likewise.
const BINARIES: [(&str, &[&str]); 2] = [("x", &["f", "s"]), ("y", &["c", "e"])];

/// Splitmix64: the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// The text of one package.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Text {
    /// In the body of a private function; of `s`, in what its script reads.
    value: u8,
    has_comment: bool,
    has_more: bool,
}

/// The text of all packages, in the order of the lists.
type Texts = [Text; LIBRARIES.len()];

fn source(at: usize, text: Text) -> String {
    let (name, deps) = LIBRARIES[at];
    let value = text.value;
    let mut source = match name {
        "m" => format!(
            "#[proc_macro]
             pub fn m(_: proc_macro::TokenStream) -> proc_macro::TokenStream {{
                 \"{value}\".parse().unwrap()
             }}\n"
        ),
        "s" => "include!(concat!(env!(\"OUT_DIR\"), \"/value.rs\"));
                pub fn s() -> u64 { VALUE }\n"
            .to_owned(),
        _ => {
            let sum: String = (deps.iter())
                .map(|dep| match *dep {
                    "m" => " + 10 * m::m!()".to_owned(),
                    dep => format!(" + 10 * {dep}::{dep}()"),
                })
                .collect();
            format!(
                "pub fn {name}() -> u64 {{ private(){sum} }}\nfn private() -> u64 {{ {value} }}\n"
            )
        }
    };
    if text.has_more && name != "m" {
        source += &format!("pub fn more_of_{name}() -> u64 {{ {name}() }}\n");
    }
    if text.has_comment {
        source += "// A comment.\n";
    }
    source
}

/// What a package comes to.
fn value_of(name: &str, texts: &Texts) -> u64 {
    let sum = |deps: &[&str]| -> u64 { deps.iter().map(|dep| 10 * value_of(dep, texts)).sum() };
    match LIBRARIES.iter().position(|(library, _)| *library == name) {
        Some(at) => u64::from(texts[at].value) + sum(LIBRARIES[at].1),
        None => sum(BINARIES
            .iter()
            .find(|(binary, _)| *binary == name)
            .unwrap()
            .1),
    }
}

struct World {
    p: Project,
    texts: Texts,
    /// What clean builds have made of texts.
    clean: HashMap<Texts, Vec<(String, Vec<u8>)>>,
}

impl World {
    fn new() -> Self {
        let mut p = project();
        let mut members = Vec::new();
        for (name, deps) in LIBRARIES.iter().chain(&BINARIES) {
            members.push(format!("{name:?}"));
            let deps: String = (deps.iter())
                .map(|dep| format!("{dep}.path = \"../{dep}\"\n"))
                .collect();
            let lib = match *name {
                "m" => "[lib]\nproc-macro = true\n",
                _ => "",
            };
            p = p.file(
                format!("{name}/Cargo.toml"),
                &format!(
                    "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n{lib}[dependencies]\n{deps}"
                ),
            );
        }
        for (name, deps) in BINARIES {
            let sum: String = deps
                .iter()
                .map(|dep| format!(" + 10 * {dep}::{dep}()"))
                .collect();
            let main = format!("fn main() {{ println!(\"{{}}\", 0{sum}) }}");
            p = p.file(format!("{name}/src/main.rs"), &main);
        }
        let p = p
            .file(
                "Cargo.toml",
                &format!(
                    "[workspace]\nresolver = \"2\"\nmembers = [{}]",
                    members.join(", ")
                ),
            )
            .file(
                "s/build.rs",
                r#"fn main() {
                    let value = std::fs::read_to_string("value").unwrap();
                    let out_dir = std::env::var("OUT_DIR").unwrap();
                    let source = format!("pub const VALUE: u64 = {value};");
                    std::fs::write(format!("{out_dir}/value.rs"), source).unwrap();
                    println!("cargo::rerun-if-changed=value");
                }"#,
            )
            // Kills cargo before or after the compiler of one crate has run.
            .executable(
                "wrapper",
                r#"#!/bin/sh
case "$*" in
*"--crate-name $KILL_BEFORE "*) kill -9 $PPID; exit 1;;
*"--crate-name $KILL_AFTER "*) "$@"; kill -9 $PPID; exit 1;;
esac
exec "$@"
"#,
            );
        let texts = Texts::default();
        let world = World {
            p: p.build(),
            texts,
            clean: HashMap::new(),
        };
        (0..texts.len()).for_each(|at| world.write(at));
        world
    }

    fn write(&self, at: usize) {
        let (name, text) = (LIBRARIES[at].0, self.texts[at]);
        self.p
            .change_file(format!("{name}/src/lib.rs"), &source(at, text));
        if name == "s" {
            self.p.change_file("s/value", &text.value.to_string());
        }
    }

    fn edit(&mut self, random: &mut Random) -> String {
        let at = random.below(self.texts.len());
        let text = &mut self.texts[at];
        let what = random.below(5);
        match what {
            0 => text.value = (text.value + 1) % 3,
            1 => text.has_comment = !text.has_comment,
            2 => text.has_more = !text.has_more,
            3 => *text = Text::default(),
            _ => {}
        }
        self.write(at);
        format!("edit {} ({what})", LIBRARIES[at].0)
    }

    /// Everything is as it was once, as after a switch of the branch.
    fn switch(&mut self, random: &mut Random, known: &[Texts]) -> String {
        let before = self.texts;
        self.texts = random.pick(known);
        for (at, text) in before.iter().enumerate() {
            if *text != self.texts[at] {
                self.write(at);
            }
        }
        "switch".to_owned()
    }

    fn build(&self, random: &mut Random) -> String {
        let names: Vec<&str> = LIBRARIES
            .iter()
            .chain(&BINARIES)
            .map(|(name, _)| *name)
            .collect();
        let name = random.pick(&names);
        let line = match random.below(4) {
            0 => "build --workspace".to_owned(),
            1 => format!("build -p {name}"),
            2 => "test --workspace --no-run".to_owned(),
            _ => format!("check -p {name}"),
        };
        let who = random.below(6);
        let mut cargo = match who {
            0 | 1 => self.p.released(&line),
            _ => self.p.incremental(&line),
        };
        match who {
            2 => cargo.env("CARGO_BUILD_PIPELINING", "metadata"),
            3 => cargo.env("CARGO_BUILD_JOBS", "1"),
            _ => &mut cargo,
        };
        match random.below(3) {
            0 => {
                let variable = random.pick(&["KILL_BEFORE", "KILL_AFTER"]);
                cargo.env("RUSTC_WRAPPER", self.p.root().join("wrapper"));
                cargo.env(variable, name);
                // It may get to its end.
                let _ = cargo.build_command().output().unwrap();
                format!("{line} by {who}, {variable} {name}")
            }
            _ => {
                cargo.run();
                format!("{line} by {who}")
            }
        }
    }

    fn artifacts(&self) -> Vec<(String, Vec<u8>)> {
        let read = |(name, _): (&str, _)| (name.to_owned(), fs::read(self.p.bin(name)).unwrap());
        BINARIES.into_iter().map(read).collect()
    }

    /// Builds everything, and compares it with what it should be.
    fn check(&mut self, history: &[String], is_byte_for_byte: bool) {
        self.p.incremental("build --workspace").run();
        for (name, _) in BINARIES {
            let output = self.p.process(self.p.bin(name)).run();
            let said = String::from_utf8(output.stdout).unwrap();
            let expected = format!("{}\n", value_of(name, &self.texts));
            assert_eq!(said, expected, "{name} after {history:#?}");
        }
        if !is_byte_for_byte {
            return;
        }
        let made = self.artifacts();
        if !self.clean.contains_key(&self.texts) {
            let (target, aside) = (self.p.root().join("target"), self.p.root().join("aside"));
            fs::rename(&target, &aside).unwrap();
            self.p.released("build --workspace").run();
            self.clean.insert(self.texts, self.artifacts());
            fs::remove_dir_all(&target).unwrap();
            fs::rename(&aside, &target).unwrap();
        }
        for ((name, made), (_, clean)) in std::iter::zip(&made, &self.clean[&self.texts]) {
            assert!(
                made == clean,
                "{name} differs from a clean build after {history:#?}"
            );
        }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(value) => value.parse().unwrap(),
        Err(_) => default,
    }
}

#[cargo_test]
fn whatever_happens() {
    let mut random = Random(setting("CUTOFF_SEED", 1));
    let steps = setting("CUTOFF_STEPS", 40);
    let is_long = steps > 100;
    let mut world = World::new();
    let mut known = vec![world.texts];
    let mut history = Vec::new();
    for step in 0..steps {
        for _ in 0..random.below(3) {
            history.push(match random.below(8) {
                0 => world.switch(&mut random, &known),
                _ => world.edit(&mut random),
            });
            if random.below(3) == 0 {
                history.push(world.build(&mut random));
            }
        }
        if random.below(2) == 0 {
            history.push(world.build(&mut random));
        }
        history.push(format!("step {step}"));
        world.check(&history, is_long || step % 8 == 0);
        known.push(world.texts);
    }
}
