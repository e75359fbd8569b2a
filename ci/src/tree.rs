//! A tree of Cargo's source under `target/upstream`, and what is known about it.
//!
//! A tree is a git repository: one commit for the released crate, one for each applied patch.
//! Beside git's own data lies a *record* of which patches the commits were made from. From the
//! record, the repository and `patches/` it can always be told whether there is something in the
//! tree that is nowhere else, which must never be thrown away unasked.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fs_err as fs;

use crate::cargo::VersionInfo;
use crate::git::{COMMITTER, Git};
use crate::series::Patch;
use crate::shell::count;

/// The commit of the released crate.
const UPSTREAM_REF: &str = "refs/xtask/upstream";

/// The last commit that was made from a patch.
const ASSEMBLED_REF: &str = "refs/xtask/assembled";

/// A patch, as the record knows it: its file name and the digest of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The file name.
    pub name: String,
    /// SHA-256 of the content.
    pub digest: String,
}

impl From<&Patch> for Known {
    fn from(patch: &Patch) -> Self {
        Known {
            name: patch.name.clone(),
            digest: patch.digest.clone(),
        }
    }
}

/// What a tree was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The commit of the released crate.
    pub base: String,
    /// The patches that were applied, each with its commit.
    pub applied: Vec<(Known, String)>,
    /// The patches of the series that were left out, because fewer were asked for or because the
    /// first of them did not apply.
    pub pending: Vec<Known>,
}

impl Record {
    /// The last commit that was made from a patch.
    pub fn tip(&self) -> &str {
        self.applied.last().map_or(&self.base, |(_, commit)| commit)
    }

    /// Whether the tree was made from exactly these patches, applied or not.
    pub fn is_of(&self, patches: &[Patch]) -> bool {
        let known = self.applied.iter().map(|(known, _)| known);
        known
            .chain(&self.pending)
            .cloned()
            .eq(patches.iter().map(Known::from))
    }

    /// How many of the first patches need not be applied again.
    pub fn common(&self, patches: &[Patch]) -> usize {
        self.applied
            .iter()
            .zip(patches)
            .take_while(|((known, _), patch)| *known == Known::from(*patch))
            .count()
    }

    /// The commit with the first `number` patches.
    pub fn commit(&self, number: usize) -> &str {
        match number.checked_sub(1) {
            Some(last) => &self.applied[last].1,
            None => &self.base,
        }
    }

    /// The same, with only the first `number` patches applied.
    pub fn first(&self, number: usize) -> Self {
        let (applied, rest) = self.applied.split_at(number.min(self.applied.len()));
        let rest = rest.iter().map(|(known, _)| known);
        Record {
            base: self.base.clone(),
            applied: applied.to_vec(),
            pending: rest.chain(&self.pending).cloned().collect(),
        }
    }

    fn path(dir: &Path) -> PathBuf {
        dir.join(".git").join("xtask-record")
    }

    fn read(dir: &Path) -> Result<Option<Self>> {
        match fs::read_to_string(Self::path(dir)) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut record = Record {
            base: lines.next()?.strip_prefix("base ")?.to_string(),
            applied: Vec::new(),
            pending: Vec::new(),
        };
        for line in lines {
            let (kind, rest) = line.split_once(' ')?;
            let (digest, rest) = rest.split_once(' ')?;
            let known = |name: &str| Known {
                name: name.to_string(),
                digest: digest.to_string(),
            };
            match kind {
                "applied" => {
                    let (commit, name) = rest.split_once(' ')?;
                    record.applied.push((known(name), commit.to_string()));
                }
                "pending" => record.pending.push(known(rest)),
                _ => return None,
            }
        }
        Some(record)
    }

    fn text(&self) -> String {
        let mut text = format!("base {}\n", self.base);
        for (known, commit) in &self.applied {
            text.push_str(&format!(
                "applied {} {commit} {}\n",
                known.digest, known.name
            ));
        }
        for known in &self.pending {
            text.push_str(&format!("pending {} {}\n", known.digest, known.name));
        }
        text
    }
}

/// What is in the place of a tree.
#[derive(Clone, Debug)]
pub enum State {
    /// Nothing.
    Missing,
    /// Something that was not put there by this program, or is damaged.
    Foreign,
    /// Exactly what the record says.
    Clean(Record),
    /// What the record says, and somebody's work.
    Worked(Record, Work),
}

/// Somebody's work in a tree: what is nowhere else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Commits that were not made from patches.
    pub commits: usize,
    /// The branch does not contain all commits that were made from patches.
    pub rewritten: bool,
    /// There are changes that are not committed.
    pub changes: bool,
    /// A `git am`, rebase or the like has not been finished.
    pub unfinished: bool,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.commits > 0 {
            parts.push(count(self.commits, "local commit", "local commits"));
        } else if self.rewritten {
            parts.push("another commit checked out".to_string());
        }
        if self.unfinished {
            parts.push("an unfinished `git am` or rebase".to_string());
        }
        if self.changes {
            parts.push("uncommitted changes".to_string());
        }
        f.write_str(&parts.join(" and "))
    }
}

/// A tree, or the place for one.
#[derive(Clone, Debug)]
pub struct Tree {
    git: Git,
}

impl Tree {
    /// The tree at `dir`.
    pub fn new(dir: &Path) -> Result<Self> {
        Ok(Tree {
            git: Git::new(dir)?,
        })
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        self.git.dir()
    }

    /// Git in this tree.
    pub fn git(&self) -> &Git {
        &self.git
    }

    /// What is there.
    pub fn state(&self) -> Result<State> {
        if fs::symlink_metadata(self.dir()).is_err() {
            return Ok(State::Missing);
        }
        let Some(record) = Record::read(self.dir())? else {
            return Ok(State::Foreign);
        };
        let Ok(head) = self
            .git
            .run(["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])
        else {
            return Ok(State::Foreign);
        };
        let tip = record.tip();
        let mut work = Work::default();
        if head != tip {
            let ahead = self
                .git
                .run(["rev-list", "--count", &format!("{tip}..{head}")])?;
            let behind = self
                .git
                .run(["rev-list", "--count", &format!("{head}..{tip}")])?;
            work.commits = ahead
                .parse()
                .context("git counted commits in an unknown way")?;
            work.rewritten = behind != "0";
        }
        work.changes = !self.git.run(["status", "--porcelain"])?.is_empty();
        let git_dir = self.dir().join(".git");
        work.unfinished = [
            "rebase-apply",
            "rebase-merge",
            "MERGE_HEAD",
            "CHERRY_PICK_HEAD",
        ]
        .iter()
        .any(|name| git_dir.join(name).exists());
        if work == Work::default() {
            Ok(State::Clean(record))
        } else {
            Ok(State::Worked(record, work))
        }
    }

    /// Makes a repository of the released source in `source` and moves it to its place. `subject` is
    /// that of its commit.
    pub fn found(&self, source: &Path, subject: &str) -> Result<Record> {
        let git = self.git.at(source);
        // No templates: they bring hooks.
        git.run(["init", "--quiet", "--template="])?;
        // For those who use git here by hand: the series is about bytes.
        git.run(["config", "core.autocrlf", "false"])?;
        // Upstream ignores its `Cargo.lock`, which the crate ships all the same.
        git.run(["add", "--all", "--force"])?;
        git.run(["commit", "--quiet", "--no-verify", "--message", subject])?;
        let record = Record {
            base: git.run(["rev-parse", "HEAD"])?,
            applied: Vec::new(),
            pending: Vec::new(),
        };
        fs::write(Record::path(source), record.text())?;
        git.run(["update-ref", UPSTREAM_REF, &record.base])?;
        git.run(["update-ref", ASSEMBLED_REF, &record.base])?;
        fs::rename(source, self.dir())?;
        Ok(record)
    }

    /// Moves the tree to the last commit of `record`. Only files that differ are written, so the
    /// next build finds everything else as it was.
    pub fn move_to(&self, record: &Record) -> Result<()> {
        self.git.run(["reset", "--quiet", "--hard", record.tip()])?;
        self.remember(record)
    }

    /// Notes what the tree was made from.
    pub fn remember(&self, record: &Record) -> Result<()> {
        self.git.run(["update-ref", UPSTREAM_REF, &record.base])?;
        self.git.run(["update-ref", ASSEMBLED_REF, record.tip()])?;
        // In one step: a record that is half written would make the tree a stranger.
        let path = Record::path(self.dir());
        let beside = path.with_extension("new");
        fs::write(&beside, record.text())?;
        fs::rename(&beside, &path)?;
        Ok(())
    }

    /// Rebases the commits of `other`, a tree of another release, on the release `base` of this one.
    /// Returns whether nothing conflicts; otherwise it is left to be continued by hand.
    ///
    /// # Errors
    ///
    /// If git fails for another reason.
    pub fn rebase_from(&self, other: &Tree, base: &str) -> Result<bool> {
        // These count for a `git rebase --continue`, too.
        for (key, value) in [
            ("merge.directoryRenames", "true"),
            ("merge.renameLimit", "100000"),
            ("user.name", COMMITTER.0),
            ("user.email", COMMITTER.1),
        ] {
            self.git.run(["config", key, value])?;
        }
        let from = other.dir().to_str().context("the path is not UTF-8")?;
        let branch = self.git.run(["symbolic-ref", "--short", "HEAD"])?;
        self.git.run(["fetch", "--quiet", from, UPSTREAM_REF])?;
        let other_base = self.git.run(["rev-parse", "FETCH_HEAD"])?;
        self.git.run(["fetch", "--quiet", from, ASSEMBLED_REF])?;
        self.git
            .run(["checkout", "--quiet", "-B", &branch, "FETCH_HEAD"])?;
        match self
            .git
            .attempt(["rebase", "--quiet", "--onto", base, &other_base])?
        {
            Ok(_) => Ok(true),
            Err(_) if self.git.attempt(["rev-parse", "REBASE_HEAD"])?.is_ok() => Ok(false),
            Err(error) => bail!("`git rebase` failed: {error}"),
        }
    }

    /// Throws somebody's work away. Only ever on request.
    pub fn discard(&self, record: &Record) -> Result<()> {
        for unfinished in ["rebase-apply", "rebase-merge"] {
            let path = self.dir().join(".git").join(unfinished);
            if path.exists() {
                fs::remove_dir_all(path)?;
            }
        }
        self.git.run(["reset", "--quiet", "--hard", record.tip()])?;
        self.git.run(["clean", "--quiet", "-d", "--force"])?;
        Ok(())
    }

    /// A second working tree of the same repository, beside this one, at `commit`.
    ///
    /// Patches are applied there: an interrupted or failing `git am` never leaves a mess in the
    /// tree itself, and a file that one patch changes and a later one changes back is not
    /// written at all.
    pub fn scratch(&self, commit: &str) -> Result<Scratch> {
        let parent = self
            .dir()
            .parent()
            .context("the tree has no parent directory")?;
        let dir = tempfile::Builder::new()
            .prefix(".applying-")
            .tempdir_in(parent)
            .context("could not create a directory to apply patches in")?;
        // Left behind where an earlier run was killed.
        self.git.run(["worktree", "prune"])?;
        let path = dir.path().join("tree");
        let arg = path
            .to_str()
            .context("the path of the checkout is not UTF-8")?;
        self.git
            .run(["worktree", "add", "--quiet", "--detach", arg, commit])?;
        Ok(Scratch {
            git: self.git.at(&path),
            owner: self.git.clone(),
            _dir: dir,
        })
    }

    /// What `cargo --version` is to say.
    pub fn version(&self) -> Result<VersionInfo> {
        let text = self.git.run(["log", "-1", "--format=%T %as"])?;
        let range = format!("{UPSTREAM_REF}..HEAD");
        let patches = self.git.run(["rev-list", "--count", &range])?;
        match text.split_once(' ') {
            Some((hash, date)) => Ok(VersionInfo {
                hash: hash.to_string(),
                date: date.to_string(),
                patches: patches.parse().context("git counted in an unknown way")?,
            }),
            None => bail!("git described a commit as `{text}`"),
        }
    }
}

/// A working tree that lasts as long as this.
#[derive(Debug)]
pub struct Scratch {
    git: Git,
    owner: Git,
    _dir: tempfile::TempDir,
}

impl Scratch {
    /// Applies a patch and returns its commit, or what git says against it.
    pub fn apply(&self, patch: &Patch) -> Result<std::result::Result<String, String>> {
        match self.git.am(&patch.bytes)? {
            Ok(()) => Ok(Ok(self.git.run(["rev-parse", "HEAD"])?)),
            Err(said) => Ok(Err(said)),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The next one prunes what is left where this fails.
        let _ = self.owner.run([
            "worktree".as_ref(),
            "remove".as_ref(),
            "--force".as_ref(),
            self.git.dir().as_os_str(),
        ]);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn patch(name: &str, content: &str) -> Patch {
        Patch::new(name.to_string(), content.as_bytes().to_vec())
    }

    #[test]
    fn a_record_survives_being_written() {
        let (one, two) = (patch("one.patch", "1"), patch("two.patch", "2"));
        let record = Record {
            base: "b0".into(),
            applied: vec![(Known::from(&one), "c1".into())],
            pending: vec![Known::from(&two)],
        };
        assert_eq!(Record::parse(&record.text()).as_ref(), Some(&record));
        assert_eq!(record.tip(), "c1");
        assert_eq!(record.commit(0), "b0");
        assert!(record.is_of(&[one.clone(), two.clone()]));
        assert!(!record.is_of(std::slice::from_ref(&one)));
        assert!(!record.is_of(&[two.clone(), one.clone()]));
        assert_eq!(record.common(&[one, two.clone()]), 1);
        assert_eq!(record.common(&[two]), 0);
        assert_eq!(Record::parse("bas"), None);
    }

    #[test]
    fn work_is_described() {
        let work = Work {
            commits: 2,
            changes: true,
            ..Work::default()
        };
        assert_eq!(work.to_string(), "2 local commits and uncommitted changes");
    }
}
