//! Whatever happens to a workspace, its programs print what they print after the released cargo has built
//! a copy of the same sources and target directory, in which files are as new as their content; and they are,
//! byte for byte, those of a clean build. What was only touched is not built.
//!
//! `CUTOFF_SEED` and `CUTOFF_STEPS` set what happens, and for how long; see CONTRIBUTING.md.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use cargo_test_support::prelude::*;
use cargo_test_support::{Execs, Project};
use cargo_util::paths;
use fastrand::Rng;

use crate::support::ProjectExt;
use crate::support::cutoff::{CutoffExt, copied, made, set_modified, touch};
use crate::support::gated::walk;
use crate::support::programs::{PACKAGES, PROGRAMS, programs};
use crate::support::running::await_no_process;

const BUILD: &str = "build --workspace";

/// Directories that the build scripts of their packages do not name.
const UNNAMED: [&str; 4] = ["by-directory/src", "by-variable/src", "chain/src", "z/src"];

fn digit(random: &mut Rng) -> u8 {
    random.u8(..4)
}

fn is_one_in(random: &mut Rng, many: usize) -> bool {
    random.usize(..many) == 0
}

fn pick<T: Clone>(random: &mut Rng, of: &[T]) -> T {
    of[random.usize(..of.len())].clone()
}

/// What is in a file that is edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Text {
    value: u8,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum End {
    Plain,
    Comment,
    /// Another item, in a library.
    Item,
    /// There is no such file.
    Missing,
}

/// All files that are edited, and the variable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    texts: Vec<Text>,
    variable: u8,
}

/// Who builds in the target directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The replacement. It notices all changes.
    Alone,
    /// Also the released cargo, which notices less, and leaves nothing to compare with.
    InTurns,
}

struct World {
    p: Project,
    phase: Phase,
    /// When the content of a file has changed.
    changed: HashMap<PathBuf, SystemTime>,
    /// Whether a file may have a time in the future.
    has_future: bool,
    /// Whether a script, which may have read anything, ran a compiler.
    has_unknown: bool,
    /// Whether files were edited that nothing declares, and no compiler has read since.
    has_undeclared: bool,
    /// Whether files were touched that not all of their compilers have read since.
    has_touched: bool,
    /// Whether a file was edited that the build script of its package does not name, and the script has not run
    /// since. It does when it is touched.
    has_unnamed: bool,
    /// The paths and templates of the files that are edited.
    files: Vec<(String, &'static str)>,
    state: State,
    earlier: Vec<State>,
    /// Programs of clean builds.
    clean: HashMap<State, Vec<Vec<u8>>>,
    /// A clean build may differ: a file was edited that only a build script writes, that nothing declares,
    /// or to another time.
    is_tainted: bool,
}

impl World {
    fn new() -> Self {
        let p = programs()
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
            )
            .build();
        let files = PACKAGES.iter().flat_map(|package| {
            let files = package.files.iter();
            files.map(|(path, template)| (format!("{}/{path}", package.name), *template))
        });
        let files: Vec<_> = files.collect();
        let (value, end) = (0, End::Plain);
        let text = Text { value, end };
        let state = State {
            texts: vec![text; files.len()],
            variable: 0,
        };
        let mut world = World {
            p,
            phase: Phase::Alone,
            changed: HashMap::new(),
            has_future: false,
            has_unknown: false,
            has_undeclared: false,
            has_touched: false,
            has_unnamed: false,
            files,
            earlier: vec![state.clone()],
            state,
            clean: HashMap::new(),
            is_tainted: false,
        };
        for path in world.sources() {
            let modified = fs::metadata(&path).unwrap().modified().unwrap();
            world.changed.insert(path, modified);
        }
        world
    }

    fn sources(&self) -> Vec<PathBuf> {
        let mut files = walk(&self.p.root());
        let (build_dir, root) = (self.p.build_dir(), self.p.root());
        files.retain(|path| path.is_file() && !path.starts_with(&build_dir));
        files.retain(|path| path.parent() != Some(&root) || path.extension().is_some());
        files
    }

    fn write(&mut self, at: usize) {
        let (path, template) = &self.files[at];
        let is_undeclared = path.starts_with("undeclared/list");
        let is_unnamed = UNNAMED.iter().any(|dir| path.starts_with(dir));
        let path = paths::normalize_path(&self.p.root().join(path));
        let Text { value, end } = self.state.texts[at];
        let end = match end {
            End::Plain | End::Missing => "",
            End::Comment => "// A comment.",
            End::Item => "pub fn more() {}",
        };
        let mut text = template.replace("{value}", &value.to_string());
        if !end.is_empty() {
            text += &format!("\n{end}\n");
        }
        let is_missing = self.state.texts[at].end == End::Missing;
        let is_same = match fs::read_to_string(&path) {
            Ok(before) => !is_missing && before == text,
            Err(_) => is_missing,
        };
        if is_missing {
            let _ = fs::remove_file(&path);
        } else {
            fs::write(&path, text).unwrap();
        }
        if is_same {
            return self.touched();
        }
        self.is_tainted |= is_undeclared;
        self.has_undeclared |= is_undeclared;
        self.has_unnamed |= is_unnamed;
        let now = SystemTime::now();
        self.changed.insert(path.clone(), now);
        if is_undeclared && self.has_touched {
            self.touched();
        }
        // The released cargo does not notice that a file is gone where a build script names none.
        let package = path.parent().unwrap().parent().unwrap();
        if is_missing && package.ends_with("by-nothing") {
            self.changed.insert(package.join("Cargo.toml"), now);
        }
    }

    /// All is built, and the released cargo would have built it, too: also what has changed and changed back.
    fn settled(&mut self) {
        for changed in self.changed.values_mut() {
            *changed = SystemTime::UNIX_EPOCH;
        }
        self.has_touched = false;
    }

    /// Compilers of touched files take up what nothing declares.
    fn touched(&mut self) {
        self.has_touched = true;
        if std::mem::take(&mut self.has_undeclared) {
            let path = self.p.root().join("undeclared/src/lib.rs");
            touch(&path);
            self.changed.insert(path, SystemTime::now());
        }
    }

    /// Writes all files again, as they are.
    fn check_out(&mut self, random: &mut Rng) {
        let replaces = random.bool();
        for path in self.sources() {
            if !replaces {
                touch(&path);
                continue;
            }
            let dir = fs::File::open(path.parent().unwrap()).unwrap();
            let modified = dir.metadata().unwrap().modified().unwrap();
            let mut copy = path.clone();
            copy.set_extension("copy");
            fs::copy(&path, &copy).unwrap();
            fs::rename(&copy, &path).unwrap();
            dir.set_modified(modified).unwrap();
        }
        self.touched();
    }

    /// Another text for this file.
    fn edited(&self, at: usize, random: &mut Rng) -> Text {
        let (path, template) = &self.files[at];
        let mut text = self.state.texts[at];
        let is_missed = self.phase == Phase::InTurns && path.starts_with("by-nothing");
        let ends: &[End] = if path.ends_with("optional") && !is_missed {
            &[End::Plain, End::Missing]
        } else if path.ends_with("lib.rs") && !template.contains("proc_macro") {
            &[End::Plain, End::Comment, End::Item]
        } else if path.ends_with(".rs") || path.ends_with(".c") {
            &[End::Plain, End::Comment]
        } else {
            &[End::Plain]
        };
        if is_one_in(random, 2) {
            text.end = pick(random, ends);
        } else {
            text.value = digit(random);
        }
        text
    }

    fn edit(&mut self, random: &mut Rng) -> String {
        let at = random.usize(..self.files.len());
        if self.phase == Phase::InTurns && self.files[at].0.starts_with("undeclared/list") {
            return String::new();
        }
        self.state.texts[at] = match random.usize(..6) {
            0 => self.state.texts[at],
            1 => self.earlier[0].texts[at],
            _ => self.edited(at, random),
        };
        self.write(at);
        let path = &self.files[at].0;
        let mut done = format!("edit {path}: {:?}", self.state.texts[at]);
        let file = self.p.root().join(path);
        if file.exists() && is_one_in(random, 12) {
            let hour = Duration::from_secs(3600);
            let now = SystemTime::now();
            let is_old = self.phase == Phase::Alone && is_one_in(random, 2);
            let time = if is_old { now - hour } else { now + hour };
            set_modified(&file, time);
            self.has_future |= !is_old;
            done += &format!(", an hour old: {is_old}");
        }
        done
    }

    /// Everything is as it was once, as after a switch of the branch.
    fn switch(&mut self, random: &mut Rng) -> String {
        if self.phase == Phase::InTurns {
            return String::new();
        }
        let target = pick(random, &self.earlier);
        let before = std::mem::replace(&mut self.state, target);
        for at in 0..self.files.len() {
            if before.texts[at] != self.state.texts[at] {
                self.write(at);
            }
        }
        "switch".to_owned()
    }

    /// Something that happens in the target directory, or to what triggers build scripts.
    fn disturb(&mut self, random: &mut Rng) -> String {
        let package = PACKAGES[random.usize(..PACKAGES.len())].name;
        match random.usize(..7) {
            0 => {
                let generated = self.p.in_target("generated.rs");
                if generated.is_empty() {
                    return String::new();
                }
                let path = pick(random, &generated);
                let number = digit(random);
                fs::write(&path, format!("pub const GENERATED: u32 = {number};")).unwrap();
                self.is_tainted = true;
                format!("edit {} by hand", path.display())
            }
            1 => {
                let line = format!("clean -p {package}");
                let is_released = self.phase == Phase::InTurns;
                let mut cargo = if is_released {
                    self.p.released(&line)
                } else {
                    self.incremental(&line)
                };
                cargo.run();
                format!("{line}, by the released cargo: {is_released}")
            }
            2 => {
                let program = self.p.bin(pick(random, &PROGRAMS));
                let kept = format!("kept-{}", random.u64(..));
                let _ = if random.bool() {
                    fs::hard_link(&program, self.p.root().join(kept))
                } else {
                    fs::remove_file(&program)
                };
                format!("link or remove {}", program.display())
            }
            3 => {
                self.state.variable = digit(random);
                format!("variable {}", self.state.variable)
            }
            4 | 5 => {
                let script = self.p.root().join(package).join("build.rs");
                if script.exists() {
                    touch(&script);
                }
                format!("touch the script of {package}")
            }
            _ => {
                touch(&self.p.root().join("low/src/lib.rs"));
                self.touched();
                "touch low".to_owned()
            }
        }
    }

    fn build(&mut self, random: &mut Rng) -> String {
        let name = PACKAGES[random.usize(..PACKAGES.len())].name;
        let line = match random.usize(..5) {
            0 => BUILD.to_owned(),
            1 => format!("build -p {name}"),
            2 => "test --workspace --no-run".to_owned(),
            3 => format!("{BUILD} --features top/extra"),
            _ => format!("check -p {name}"),
        };
        let who = random.usize(..6);
        let mut cargo = if who < 2 && self.phase == Phase::InTurns {
            self.p.released(&line)
        } else {
            self.incremental(&line)
        };
        cargo.env("VARIABLE", self.state.variable.to_string());
        match who {
            2 => cargo.env("CARGO_BUILD_PIPELINING", "metadata"),
            3 => cargo.env("CARGO_BUILD_JOBS", "1"),
            _ => &mut cargo,
        };
        if !is_one_in(random, 3) {
            cargo.run();
            return format!("{line} by {who}");
        }
        self.has_unknown = true;
        let variable = pick(random, &["KILL_BEFORE", "KILL_AFTER"]);
        let name = name.replace('-', "_");
        cargo.env("RUSTC_WRAPPER", self.p.root().join("wrapper"));
        cargo.env(variable, &name);
        // It may get to its end.
        let _ = cargo.build_command().output().unwrap();
        // Compilers outlive a cargo that was killed.
        await_no_process(&self.p.root());
        format!("{line} by {who}, {variable} {name}")
    }

    fn incremental(&self, line: &str) -> Execs {
        let mut cargo = self.p.incremental(line);
        cargo.env("CARGO_BUILD_FINGERPRINT", "content");
        cargo
    }

    /// Builds everything, and returns the units that were made.
    fn build_all(&self) -> BTreeSet<String> {
        self.incremental(BUILD)
            .env("VARIABLE", self.state.variable.to_string())
            .env("CARGO_BUILD_TRACE", "trace.json")
            .run();
        made(&self.p.trace())
    }

    /// After a check, whatever is only touched is fresh.
    fn check_touched(&mut self, random: &mut Rng, history: &[String]) {
        let is_known = !self.has_future && !self.has_undeclared && !self.has_unknown;
        let is_fresh = self.phase == Phase::Alone && is_known && !self.has_unnamed;
        self.check_out(random);
        let made = self.build_all();
        (self.has_future, self.has_unknown) = (false, false);
        self.has_unnamed = false;
        self.settled();
        assert!(
            !is_fresh || made.is_empty(),
            "made {made:?}, after {history:#?}"
        );
    }

    fn print(&self) -> Vec<String> {
        let print = |name| {
            let output = self.p.process(self.p.bin(name)).run();
            String::from_utf8(output.stdout).unwrap()
        };
        PROGRAMS.map(print).to_vec()
    }

    fn programs(&self) -> Vec<Vec<u8>> {
        let program = |name| fs::read(self.p.bin(name)).unwrap();
        PROGRAMS.map(program).to_vec()
    }

    /// Builds everything, and compares it with what it should be.
    fn check(&mut self, history: &[String], is_byte_for_byte: bool) {
        let variable = self.state.variable.to_string();
        let expected = copied(&self.p, |p| {
            for (path, time) in &self.changed {
                if path.exists() {
                    set_modified(path, *time);
                }
            }
            p.released(BUILD).env("VARIABLE", &variable).run();
            self.print()
        });
        self.build_all();
        let printed = self.print();
        assert_eq!(printed, expected, "after {history:#?}");
        self.settled();
        if !is_byte_for_byte || self.is_tainted {
            return;
        }
        let made = self.programs();
        if !self.clean.contains_key(&self.state) {
            let (target, aside) = (self.p.build_dir(), self.p.root().join("aside"));
            fs::rename(&target, &aside).unwrap();
            self.p.released(BUILD).env("VARIABLE", &variable).run();
            self.clean.insert(self.state.clone(), self.programs());
            fs::remove_dir_all(&target).unwrap();
            fs::rename(&aside, &target).unwrap();
        }
        assert!(
            made == self.clean[&self.state],
            "not as a clean build, after {history:#?}"
        );
    }

    /// Makes files as old as they are, and builds from nothing the next time.
    fn heal(&mut self, random: &mut Rng) {
        fs::remove_dir_all(self.p.build_dir()).unwrap();
        (0..self.files.len()).for_each(|at| self.write(at));
        (self.is_tainted, self.has_undeclared) = (false, false);
        self.has_unnamed = false;
        (self.has_future, self.has_unknown) = (false, false);
        self.phase = pick(random, &[Phase::Alone, Phase::InTurns]);
    }
}

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(value) => value.parse().unwrap(),
        Err(_) => default,
    }
}

#[cargo_test]
fn random_histories() {
    let seed = setting("CUTOFF_SEED", 1);
    let random = &mut Rng::with_seed(seed);
    let steps = setting("CUTOFF_STEPS", 25);
    let mut world = World::new();
    let mut history = vec![format!("seed {seed}")];
    for step in 0..steps {
        for _ in 0..random.usize(..4) {
            history.push(match random.usize(..10) {
                0 => world.switch(random),
                1..=3 => world.disturb(random),
                _ => world.edit(random),
            });
            if is_one_in(random, 5) {
                history.push(world.build(random));
            }
        }
        if is_one_in(random, 3) {
            history.push(world.build(random));
        }
        history.push(format!("step {step}"));
        world.check(&history, step % 8 == 0);
        world.earlier.push(world.state.clone());
        if is_one_in(random, 3) {
            history.push("check out".to_owned());
            world.check_touched(random, &history);
        }
        if is_one_in(random, if world.is_tainted { 4 } else { 20 }) {
            world.heal(random);
            history.push("heal".to_owned());
        }
    }
}
