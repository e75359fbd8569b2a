//! A workspace out of which cargo plans the units of a recording.
//!
//! Each package of the recording becomes a package without sources, with the targets that were built
//! and the dependencies that they needed. Cargo resolves it, fingerprints it and schedules it as any
//! other. Where there would be a source file, there is a [`Plan`].
//!
//! A workspace has no two packages of one name. Where a recording has, their versions are part of
//! their names.
//!
//! # One package, built twice
//!
//! Cargo builds a package twice where the host (build scripts, procedural macros, and what they use)
//! wants it otherwise than the target does: with other features, or in another profile. A recording
//! has two units then, and nothing in it says why. The skeleton gets two units out of the same cargo:
//!
//! - The profile has one optimization level for the target and another one for the host, as soon as
//!   anything was built twice. What was built only once and is used on both sides is put back on one
//!   level by name. So that a library can be built twice whose build script ran once, the sides also
//!   differ in their codegen units, which are nothing to the run of a build script.
//! - Where the build script was compiled twice, or the two need different packages, it was features
//!   that made the difference. Such a package has the features `host` and `target`, which whoever
//!   uses it on one side only asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use fs_err as fs;
use serde::Serialize;

use crate::plan::{
    HOST_CODEGEN_UNITS, HOST_LEVEL, Plan, Planned, RUN, Side, TARGET_CODEGEN_UNITS, TARGET_LEVEL,
};
use crate::recording::{Recording, Role, Unit};

/// A workspace, and how cargo builds of it what was recorded.
#[derive(Clone, Debug)]
pub struct Skeleton {
    root: PathBuf,
    args: Vec<OsString>,
}

impl Skeleton {
    /// Writes the workspace to `root`, which must be empty or not exist.
    ///
    /// # Errors
    ///
    /// A file cannot be written, or the recording has units that a workspace cannot be made to have.
    pub fn lay_out(recording: &Recording, root: &Path) -> Result<Self> {
        let graph = Graph::of(recording)?;
        for (id, package) in &graph.packages {
            let dir = root.join(graph.dir(*id));
            fs::create_dir_all(&dir)?;
            let manifest = graph.manifest(*id, package);
            fs::write(dir.join("Cargo.toml"), toml::to_string(&manifest)?)?;
            for (file, plan) in graph.plans(package) {
                let path = dir.join(file);
                fs::write(&path, serde_json::to_vec(&plan)?)?;
                lay_out_modules(&path, &plan)?;
                lay_out_native(&dir, &plan)?;
            }
        }
        let manifest = toml::to_string(&graph.workspace())?;
        fs::write(root.join("Cargo.toml"), manifest)?;
        Ok(Skeleton {
            root: root.to_path_buf(),
            args: graph.args(),
        })
    }

    /// The directory of the workspace.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The arguments with which cargo builds what was recorded.
    pub fn args(&self) -> &[OsString] {
        &self.args
    }
}

/// Has the crate with this root, whose own file is no Rust, as much source as was recorded.
fn lay_out_modules(root: &Path, plan: &Plan) -> Result<()> {
    let size = source_size(plan, |unit| unit.role() != Role::Run);
    let missing = size.saturating_sub(fs::metadata(root)?.len());
    if missing > 0 {
        let modules = root.with_extension("");
        fs::create_dir_all(&modules)?;
        empty_file(&modules.join("modules.rs"), missing)?;
    }
    Ok(())
}

/// Has the package in `dir` as much for its build script to compile as was recorded.
fn lay_out_native(dir: &Path, plan: &Plan) -> Result<()> {
    match source_size(plan, |unit| unit.role() == Role::Run) {
        0 => Ok(()),
        size => empty_file(&dir.join("native.c"), size),
    }
}

fn source_size(plan: &Plan, counts: impl Fn(&Unit) -> bool) -> u64 {
    let units = plan.units.iter().map(|planned| &planned.unit);
    let sizes = units.filter(|unit| counts(unit)).map(|it| it.source_size);
    sizes.max().unwrap_or(0)
}

/// Has so many bytes without any content, and so takes no space.
fn empty_file(path: &Path, size: u64) -> Result<()> {
    Ok(fs::File::create(path)?.set_len(size)?)
}

/// A name and a version.
type Id<'r> = (&'r str, &'r str);

/// On which sides a unit is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sides {
    host: bool,
    target: bool,
}

impl Sides {
    fn include(&mut self, others: Sides) {
        self.host |= others.host;
        self.target |= others.target;
    }

    fn has(self, side: Side) -> bool {
        match side {
            Side::Host => self.host,
            Side::Target => self.target,
        }
    }

    /// The side, if it is one.
    fn only(self) -> Option<Side> {
        match (self.host, self.target) {
            (true, false) => Some(Side::Host),
            (false, true) => Some(Side::Target),
            _ => None,
        }
    }
}

/// The places of the units of a package.
#[derive(Debug, Default)]
struct Package {
    units: Vec<usize>,
    /// Whether the build scripts of dependents read what its own has printed.
    has_links: bool,
    /// Whether it has features for the sides.
    has_features: bool,
}

struct Graph<'r> {
    units: &'r [Unit],
    sides: Vec<Sides>,
    /// Whether nothing needs it.
    is_root: Vec<bool>,
    packages: BTreeMap<Id<'r>, Package>,
    /// Whether anything was built twice.
    is_split: bool,
    lto: bool,
}

/// What tells a unit from the others of its package, but for the side.
fn target_of(unit: &Unit) -> (&str, &[String], &str) {
    (&unit.target, &unit.kind, &unit.mode)
}

fn id(unit: &Unit) -> Id<'_> {
    (&unit.package, &unit.version)
}

impl<'r> Graph<'r> {
    fn of(recording: &'r Recording) -> Result<Self> {
        let units = recording.units.as_slice();
        let mut is_root = vec![true; units.len()];
        let mut sides = vec![Sides::default(); units.len()];
        for (place, unit) in units.iter().enumerate().rev() {
            match unit.role() {
                Role::ProcMacro | Role::BuildScript => {
                    sides[place] = Sides {
                        host: true,
                        target: false,
                    }
                }
                _ if is_root[place] => sides[place].target = true,
                _ => {}
            }
            for need in &unit.needs {
                is_root[*need] = false;
                let above = sides[place];
                sides[*need].include(above);
            }
        }
        let mut packages: BTreeMap<_, Package> = BTreeMap::new();
        for (place, unit) in units.iter().enumerate() {
            packages.entry(id(unit)).or_default().units.push(place);
        }
        let mut graph = Graph {
            units,
            sides,
            is_root,
            packages,
            is_split: false,
            lto: recording.lto,
        };
        graph.find_links();
        graph.find_splits()?;
        Ok(graph)
    }

    fn find_links(&mut self) {
        for unit in self.units.iter().filter(|unit| unit.role() == Role::Run) {
            for need in &unit.needs {
                let need = &self.units[*need];
                if need.role() == Role::Run
                    && let Some(package) = self.packages.get_mut(&id(need))
                {
                    package.has_links = true;
                }
            }
        }
    }

    /// Finds out what was built twice, and whether features were the reason.
    fn find_splits(&mut self) -> Result<()> {
        for (id, package) in &mut self.packages {
            let mut by_target: BTreeMap<_, Vec<usize>> = BTreeMap::new();
            for place in &package.units {
                let target = target_of(&self.units[*place]);
                by_target.entry(target).or_default().push(*place);
            }
            for places in by_target.values().filter(|places| places.len() > 1) {
                self.is_split = true;
                let unit = &self.units[places[0]];
                if unit.role() == Role::BuildScript {
                    package.has_features = true;
                    continue;
                }
                let sides: BTreeSet<_> = places
                    .iter()
                    .map(|place| self.sides[*place].only())
                    .collect();
                if places.len() > 2 || sides.len() < 2 || sides.contains(&None) {
                    bail!(
                        "{} of {} {} was built {} times in ways that cannot be told apart: a replay \
                         can have one unit for the host and one for the target",
                        unit.target,
                        id.0,
                        id.1,
                        places.len()
                    );
                }
                let needs = |place: &usize| -> BTreeSet<Id<'r>> {
                    let needs = self.units[*place].needs.iter();
                    needs.map(|need| self::id(&self.units[*need])).collect()
                };
                package.has_features |= needs(&places[0]) != needs(&places[1]);
            }
        }
        Ok(())
    }

    fn dir(&self, (name, version): Id<'_>) -> String {
        format!("packages/{name}-{version}")
    }

    /// What a package is called in the skeleton.
    fn name(&self, id: Id<'_>) -> String {
        let namesakes = self.packages.range((id.0, "")..);
        match namesakes.take_while(|(other, _)| other.0 == id.0).count() {
            1 => id.0.to_owned(),
            _ => key(id),
        }
    }

    /// The side that a build script was compiled for, if it was compiled twice: that of its run.
    fn side_of_build_script(&self, place: usize) -> Option<Side> {
        let runs = self.units.iter().zip(&self.sides);
        let mut sides = runs
            .filter(|(unit, _)| unit.role() == Role::Run && unit.needs.contains(&place))
            .map(|(_, sides)| sides.only());
        sides.next().flatten()
    }

    /// The dependencies of the units of a package that `wants`.
    fn dependencies(
        &self,
        own: Id<'r>,
        package: &Package,
        wants: impl Fn(&Unit) -> bool,
    ) -> BTreeMap<Id<'r>, Sides> {
        let mut dependencies: BTreeMap<Id<'r>, Sides> = BTreeMap::new();
        for place in &package.units {
            let unit = &self.units[*place];
            if !wants(unit) {
                continue;
            }
            for need in &unit.needs {
                let need = &self.units[*need];
                let is_wanted = match need.role() {
                    // A run reads what the scripts of the package's own dependencies have printed.
                    Role::Run => unit.role() == Role::Run,
                    Role::BuildScript => false,
                    Role::Library | Role::ProcMacro | Role::Linked => true,
                };
                if is_wanted && id(need) != own {
                    let sides = dependencies.entry(id(need)).or_default();
                    sides.include(self.sides[*place]);
                }
            }
        }
        dependencies
    }

    fn manifest(&self, own: Id<'r>, package: &Package) -> Manifest {
        let is_dev =
            |unit: &Unit| unit.mode == "test" || is_one_of(unit, &["test", "bench", "example"]);
        let normal = self.dependencies(own, package, |unit| {
            unit.role() != Role::BuildScript && !is_dev(unit)
        });
        let build = self.dependencies(own, package, |unit| unit.role() == Role::BuildScript);
        let mut dev = self.dependencies(own, package, is_dev);
        dev.retain(|id, _| !normal.contains_key(id));

        let mut features = BTreeMap::new();
        if package.has_features {
            for side in [Side::Host, Side::Target] {
                features.insert(
                    side.feature().to_owned(),
                    self.enabled(&normal, &build, side),
                );
            }
        }
        // Which of its units need a dependency decides who may ask for that dependency's features.
        let depends = |dependencies: &BTreeMap<Id<'r>, Sides>, may_be_optional: bool| {
            dependencies
                .iter()
                .map(|(id, sides)| {
                    let has_features = self.packages[id].has_features && !package.has_features;
                    let dependency = Dependency {
                        package: self.name(*id),
                        version: format!("={}", id.1),
                        path: format!("../{}-{}", id.0, id.1),
                        features: (sides.only().filter(|_| has_features))
                            .map(|side| side.feature().to_owned())
                            .into_iter()
                            .collect(),
                        optional: may_be_optional && package.has_features && sides.only().is_some(),
                    };
                    (key(*id), dependency)
                })
                .collect::<BTreeMap<_, _>>()
        };
        let mut manifest = Manifest {
            package: PackageTable {
                name: self.name(own),
                version: own.1.to_owned(),
                edition: "2024",
                links: package.has_links.then(|| key(own)),
                build: None,
                autolib: false,
                autobins: false,
                autoexamples: false,
                autotests: false,
                autobenches: false,
            },
            features,
            lib: None,
            bin: Vec::new(),
            example: Vec::new(),
            test: Vec::new(),
            bench: Vec::new(),
            dependencies: depends(&normal, true),
            build_dependencies: depends(&build, false),
            dev_dependencies: depends(&dev, false),
        };
        for place in &package.units {
            self.add_target(&mut manifest, &self.units[*place]);
        }
        manifest
    }

    /// What a feature for one side enables: the dependencies of that side, and their features.
    fn enabled(
        &self,
        normal: &BTreeMap<Id<'r>, Sides>,
        build: &BTreeMap<Id<'r>, Sides>,
        side: Side,
    ) -> Vec<String> {
        let mut enabled = Vec::new();
        for (id, sides) in normal {
            if sides.only().is_some_and(|only| only == side) {
                enabled.push(format!("dep:{}", key(*id)));
            }
            if sides.has(side) && self.packages[id].has_features {
                enabled.push(format!("{}/{}", key(*id), side.feature()));
            }
        }
        for id in build.keys().filter(|id| self.packages[*id].has_features) {
            enabled.push(format!("{}/{}", key(*id), Side::Host.feature()));
        }
        enabled
    }

    fn add_target(&self, manifest: &mut Manifest, unit: &Unit) {
        if unit.role() == Role::Run {
            return;
        }
        if unit.role() == Role::BuildScript {
            manifest.package.build = Some(file_of(unit));
            return;
        }
        let is_test = unit.mode == "test";
        let mut target = Target {
            name: unit.target.clone(),
            path: file_of(unit),
            test: is_test,
            bench: false,
            doctest: None,
            doc: false,
            harness: true,
            proc_macro: None,
            crate_type: None,
        };
        let tables = match unit.kind.first().map(String::as_str) {
            Some("bin") => &mut manifest.bin,
            Some("example") => &mut manifest.example,
            Some("test") => &mut manifest.test,
            Some("bench") => &mut manifest.bench,
            _ => {
                target.doctest = Some(false);
                if unit.role() == Role::ProcMacro || is_one_of(unit, &["proc-macro"]) {
                    target.proc_macro = Some(true);
                } else {
                    target.crate_type = Some(unit.kind.clone());
                }
                if let Some(lib) = &mut manifest.lib {
                    lib.test |= is_test;
                } else {
                    manifest.lib = Some(target);
                }
                return;
            }
        };
        match tables.iter_mut().find(|other| other.name == unit.target) {
            Some(other) => other.test |= is_test,
            None => tables.push(target),
        }
    }

    /// The plans of a package, by the files that they are in.
    fn plans(&self, package: &Package) -> BTreeMap<String, Plan> {
        let mut plans: BTreeMap<String, Plan> = BTreeMap::new();
        for place in &package.units {
            let unit = &self.units[*place];
            let is_twin = |other: &&usize| {
                *other != place && target_of(&self.units[**other]) == target_of(unit)
            };
            let side = match package.units.iter().find(is_twin) {
                None => None,
                Some(_) if unit.role() == Role::BuildScript => self.side_of_build_script(*place),
                Some(_) => self.sides[*place].only(),
            };
            let planned = Planned {
                place: *place,
                is_test: unit.mode == "test",
                side,
                unit: Unit {
                    needs: Vec::new(),
                    ..unit.clone()
                },
            };
            plans.entry(file_of(unit)).or_default().units.push(planned);
        }
        plans
    }

    fn workspace(&self) -> Workspace {
        let mut shared = BTreeMap::new();
        if self.is_split {
            for (id, package) in &self.packages {
                let is_shared = |place: &usize| {
                    let sides = self.sides[*place];
                    sides.host && sides.target
                };
                let shared_units = || package.units.iter().filter(|place| is_shared(place));
                if shared_units().next().is_some() {
                    let is_run = |place: &usize| self.units[*place].role() == Role::Run;
                    let level = Level {
                        opt_level: TARGET_LEVEL,
                        codegen_units: (!shared_units().all(is_run))
                            .then_some(TARGET_CODEGEN_UNITS),
                    };
                    shared.insert(self.name(*id), level);
                }
            }
        }
        let (host, host_codegen_units) = if self.is_split {
            (HOST_LEVEL, HOST_CODEGEN_UNITS)
        } else {
            (TARGET_LEVEL, TARGET_CODEGEN_UNITS)
        };
        Workspace {
            workspace: Members {
                resolver: "2",
                members: vec!["packages/*"],
            },
            profile: Profiles {
                dev: Dev {
                    debug: false,
                    incremental: false,
                    codegen_units: TARGET_CODEGEN_UNITS,
                    lto: self.lto,
                    opt_level: TARGET_LEVEL,
                    build_override: BuildOverride {
                        codegen_units: host_codegen_units,
                        opt_level: host,
                    },
                    package: shared,
                },
            },
        }
    }

    /// Builds the units that nothing needs, and with them all the others.
    fn args(&self) -> Vec<OsString> {
        let mut args: BTreeSet<String> = BTreeSet::new();
        let mut packages: BTreeSet<String> = BTreeSet::new();
        let mut is_check = !self.units.is_empty();
        for (unit, is_root) in self.units.iter().zip(&self.is_root) {
            let made_of_metadata = matches!(unit.role(), Role::Library | Role::Linked);
            is_check &= unit.mode == "check" || !made_of_metadata;
            if !is_root {
                continue;
            }
            packages.insert(format!("--package={}", self.name(id(unit))));
            let kind = unit.kind.first().map(String::as_str);
            let selection = match kind {
                _ if unit.mode == "test" => "--tests",
                Some("bin") => "--bins",
                Some("example") => "--examples",
                Some("test") => "--tests",
                Some("bench") => "--benches",
                _ => "--lib",
            };
            args.insert(selection.to_owned());
        }
        let command = if is_check { "check" } else { "build" };
        let command = [command.to_owned()];
        let all = command.into_iter().chain(args).chain(packages);
        all.map(OsString::from).collect()
    }
}

fn is_one_of(unit: &Unit, kinds: &[&str]) -> bool {
    unit.kind.iter().any(|kind| kinds.contains(&kind.as_str()))
}

/// What a dependency is called in a manifest: two versions of a package may be used side by side.
fn key((name, version): Id<'_>) -> String {
    let version: String = version
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    format!("{name}-{version}")
}

/// The file that holds the plan of a unit.
fn file_of(unit: &Unit) -> String {
    match (unit.role(), unit.kind.first().map(String::as_str)) {
        (Role::Run, _) => RUN.to_owned(),
        (Role::BuildScript, _) => "build.json".to_owned(),
        (_, Some(kind @ ("bin" | "example" | "test" | "bench"))) => {
            format!("{kind}-{}.json", unit.target)
        }
        _ => "library.json".to_owned(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Manifest {
    package: PackageTable,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    features: BTreeMap<String, Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lib: Option<Target>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bin: Vec<Target>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    example: Vec<Target>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    test: Vec<Target>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bench: Vec<Target>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    dependencies: BTreeMap<String, Dependency>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    build_dependencies: BTreeMap<String, Dependency>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    dev_dependencies: BTreeMap<String, Dependency>,
}

#[derive(Serialize)]
struct PackageTable {
    name: String,
    version: String,
    edition: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    build: Option<String>,
    autolib: bool,
    autobins: bool,
    autoexamples: bool,
    autotests: bool,
    autobenches: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Target {
    name: String,
    path: String,
    test: bool,
    bench: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    doctest: Option<bool>,
    doc: bool,
    harness: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    proc_macro: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    crate_type: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Dependency {
    package: String,
    version: String,
    path: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    features: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    optional: bool,
}

#[derive(Serialize)]
struct Workspace {
    workspace: Members,
    profile: Profiles,
}

#[derive(Serialize)]
struct Members {
    resolver: &'static str,
    members: Vec<&'static str>,
}

#[derive(Serialize)]
struct Profiles {
    dev: Dev,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Dev {
    debug: bool,
    incremental: bool,
    codegen_units: u32,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    lto: bool,
    opt_level: u32,
    build_override: BuildOverride,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    package: BTreeMap<String, Level>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct BuildOverride {
    codegen_units: u32,
    opt_level: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Level {
    opt_level: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    codegen_units: Option<u32>,
}
