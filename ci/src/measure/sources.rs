//! The recorded builds.
//!
//! The rules of the scheduler were made on those that are directly in the directory of recordings. All others, in
//! directories that say when they were made, are in two halves by the hash of the program's name: some to learn
//! from, some that are only reported on.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use ::replay::Recording;
use anyhow::{Result, bail};
use serde::Serialize;
use walkdir::WalkDir;

use crate::project::Project;

pub const ENDING: &str = ".json.gz";

/// What a recording may be used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Set {
    /// The rules of the scheduler were made on it.
    #[default]
    First,
    /// To learn from.
    Learning,
    /// Only to be reported on: nothing may be tuned on it.
    Reporting,
}

impl Set {
    pub const ALL: [Set; 3] = [Set::First, Set::Learning, Set::Reporting];

    /// The set of a recording in a directory of its own.
    fn of(name: &str) -> Self {
        match blake3::hash(program(name).as_bytes()).as_bytes()[0] % 2 {
            0 => Set::Reporting,
            _ => Set::Learning,
        }
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

#[derive(Debug)]
pub struct Source {
    pub name: String,
    pub set: Set,
    pub recording: Recording,
}

/// The name of a recording without the kind of build, which is one word: `ripgrep` of `ripgrep-dev`.
fn program(name: &str) -> &str {
    name.rsplit_once('-').map_or(name, |(program, _)| program)
}

impl Source {
    /// What was built, in whatever way.
    pub fn program(&self) -> &str {
        program(&self.name)
    }
}

/// Reads the recordings, by set and name.
pub fn sources(project: &Project) -> Result<Vec<Source>> {
    let dir = project.recordings();
    let mut files = BTreeMap::new();
    for entry in WalkDir::new(&dir).min_depth(1) {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        if let Some(name) = name.strip_suffix(ENDING) {
            let set = match entry.depth() {
                1 => Set::First,
                _ => Set::of(name),
            };
            files.insert((set, name.to_owned()), entry.into_path());
        }
    }
    if files.is_empty() {
        bail!(
            "there is no recording of a build in {}",
            project.shown(&dir)
        );
    }
    let read = |((set, name), path): ((Set, String), PathBuf)| {
        let recording = Recording::read(&path)?;
        Ok(Source {
            name,
            set,
            recording,
        })
    };
    files.into_iter().map(read).collect()
}

/// Returns those whose names contain `part`.
pub fn named<'s>(sources: &'s [Source], part: &str) -> Result<Vec<&'s Source>> {
    let named: Vec<&Source> = sources.iter().filter(|it| it.name.contains(part)).collect();
    if named.is_empty() {
        let names: Vec<&str> = sources.iter().map(|source| &*source.name).collect();
        let names = names.join(", ");
        bail!("no recording has a name that contains `{part}`; there are: {names}");
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ::replay::recording::Unit;
    use fs_err as fs;

    fn project(files: &[&str]) -> (tempfile::TempDir, Project) {
        let dir = tempfile::tempdir().unwrap();
        let project = Project {
            root: dir.path().to_path_buf(),
            ..Project::default()
        };
        for file in files {
            let path = project.recordings().join(format!("{file}{ENDING}"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut recording = Recording::new(*file, "none", "anywhere");
            recording.units.push(Unit::default());
            recording.write(&path).unwrap();
        }
        (dir, project)
    }

    fn names(project: &Project, part: &str) -> Result<Vec<String>> {
        let sources = sources(project)?;
        let named = named(&sources, part)?.into_iter();
        Ok(named.map(|source| source.name.clone()).collect())
    }

    #[test]
    fn recordings_are_chosen_by_name() {
        let (_dir, project) = project(&["ripgrep", "cargo-dev", "cargo-release", "bat"]);
        fs::write(project.recordings().join("README.md"), "").unwrap();
        let all = ["bat", "cargo-dev", "cargo-release", "ripgrep"];
        assert_eq!(names(&project, "").unwrap(), all);
        let cargo = ["cargo-dev", "cargo-release"];
        assert_eq!(names(&project, "cargo").unwrap(), cargo);
        let error = names(&project, "fd").unwrap_err().to_string();
        assert_eq!(
            error,
            "no recording has a name that contains `fd`; there are: bat, cargo-dev, cargo-release, ripgrep"
        );
    }

    /// The halves never change: a rule could have been made on what is now to judge it.
    #[test]
    fn halves_go_by_the_program() {
        let (_dir, project) = project(&["bat-dev", "x/rage-dev", "x/rage-release", "x/dufs-dev"]);
        let sources = sources(&project).unwrap();
        let sets: Vec<_> = sources.iter().map(|it| (&*it.name, it.set)).collect();
        let expected = [
            ("bat-dev", Set::First),
            ("dufs-dev", Set::Learning),
            ("rage-dev", Set::Reporting),
            ("rage-release", Set::Reporting),
        ];
        assert_eq!(sets, expected);
    }
}
