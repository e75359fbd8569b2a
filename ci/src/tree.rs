//! A tree of Cargo's source under `target/upstream`.
//!
//! A tree is a git repository: one commit for the released crate, one for each applied patch. A *record* in
//! `.git` lists the patches that the commits were made from. So work that is nowhere else is known, and never
//! thrown away without `--force`.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fs_err as fs;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::git::{COMMITTER, Git};
use crate::project::remove_dir;
use crate::series::Patch;
use crate::shell::count;

/// The commit of the released crate.
const UPSTREAM_REF: &str = "refs/xtask/upstream";

/// The last commit that was made from a patch.
const ASSEMBLED_REF: &str = "refs/xtask/assembled";

/// The files in `.git` of an unfinished operation.
const UNFINISHED: [&str; 4] = [
    "rebase-apply",
    "rebase-merge",
    "MERGE_HEAD",
    "CHERRY_PICK_HEAD",
];

/// What a tree was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The commit of the released crate.
    pub base: String,
    /// The commits of the first patches. The others are *pending*: fewer were asked for, or the first
    /// of them does not apply.
    pub commits: Vec<String>,
    /// The whole series.
    pub patches: Vec<Patch>,
}

impl Record {
    /// Returns the last commit that was made from a patch.
    pub fn tip(&self) -> &str {
        self.commit(self.commits.len())
    }

    /// Returns the commit with the first `number` patches.
    pub fn commit(&self, number: usize) -> &str {
        match number.checked_sub(1) {
            Some(last) => &self.commits[last],
            None => &self.base,
        }
    }

    /// Returns how many of the first patches are applied already.
    pub fn common(&self, patches: &[Patch]) -> usize {
        let applied = self.patches.iter().take(self.commits.len());
        let pairs = applied.zip(patches);
        pairs.take_while(|(old, new)| old == new).count()
    }

    fn path(dir: &Path) -> PathBuf {
        dir.join(".git/xtask-record")
    }
}

/// What is at the place of a tree.
#[derive(Clone, Debug)]
pub enum State {
    Missing,
    /// Something that was not made by this program, or is damaged.
    Foreign,
    /// What the record says.
    Clean(Record),
    /// What the record says, and work of the user.
    Worked(Record, Work),
}

/// Work of the user in a tree: what is nowhere else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// The number of commits that were not made from patches.
    pub commits: usize,
    /// The branch does not contain all commits that were made from patches.
    pub rewritten: bool,
    /// There are uncommitted changes.
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
            parts.push("another commit checked out".to_owned());
        }
        if self.unfinished {
            parts.push("an unfinished `git am` or rebase".to_owned());
        }
        if self.changes {
            parts.push("uncommitted changes".to_owned());
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
    pub fn new(dir: &Path) -> Result<Self> {
        Ok(Tree {
            git: Git::new(dir)?,
        })
    }

    pub fn dir(&self) -> &Path {
        self.git.dir()
    }

    pub fn git(&self) -> &Git {
        &self.git
    }

    pub fn state(&self) -> Result<State> {
        if fs::symlink_metadata(self.dir()).is_err() {
            return Ok(State::Missing);
        }
        let record = fs::read_to_string(Record::path(self.dir())).ok();
        let record = record.and_then(|text| serde_json::from_str::<Record>(&text).ok());
        let head = self.git.run(&["rev-parse", "--verify", "HEAD^{commit}"]);
        let (Some(record), Ok(head)) = (record, head) else {
            return Ok(State::Foreign);
        };
        let tip = record.tip();
        let (commits, rewritten) = if head == tip {
            (0, false)
        } else {
            let behind = self.count_commits(&format!("{head}..{tip}"))?;
            (self.count_commits(&format!("{tip}..{head}"))?, behind > 0)
        };
        let git_dir = self.dir().join(".git");
        let work = Work {
            commits,
            rewritten,
            changes: !self.git.run(&["status", "--porcelain"])?.is_empty(),
            unfinished: UNFINISHED.iter().any(|file| git_dir.join(file).exists()),
        };
        Ok(if work == Work::default() {
            State::Clean(record)
        } else {
            State::Worked(record, work)
        })
    }

    fn count_commits(&self, range: &str) -> Result<usize> {
        let number = self.git.run(&["rev-list", "--count", range])?;
        number.parse().context("git did not print a number")
    }

    /// Makes a repository of the released source in `source` and moves it to its place. `subject` is
    /// the message of its commit.
    pub fn create(&self, source: &Path, subject: &str) -> Result<Record> {
        let git = self.git.at(source);
        // No templates: they bring hooks.
        git.run(&["init", "--quiet", "--template="])?;
        // For users who run git here: the series is about bytes.
        git.run(&["config", "core.autocrlf", "false"])?;
        // Upstream ignores its `Cargo.lock`, which the crate ships all the same.
        git.run(&["add", "--all", "--force"])?;
        git.run(&["commit", "--quiet", "--no-verify", "--message", subject])?;
        let record = Record {
            base: git.run(&["rev-parse", "HEAD"])?,
            ..Record::default()
        };
        Tree { git }.remember(&record)?;
        fs::rename(source, self.dir())?;
        Ok(record)
    }

    /// Moves the tree to the last commit of `record`. Only files that differ are written.
    pub fn move_to(&self, record: &Record) -> Result<()> {
        self.git
            .run(&["reset", "--quiet", "--hard", record.tip()])?;
        self.remember(record)
    }

    /// Writes the record. The tree must be at its last commit.
    pub fn remember(&self, record: &Record) -> Result<()> {
        self.git.run(&["update-ref", UPSTREAM_REF, &record.base])?;
        self.git.run(&["update-ref", ASSEMBLED_REF, record.tip()])?;
        // In one step: with half a record the tree would be foreign.
        let path = Record::path(self.dir());
        let new = path.with_extension("new");
        fs::write(&new, serde_json::to_string(record)?)?;
        Ok(fs::rename(&new, &path)?)
    }

    /// Rebases the commits of `other`, a tree of another release, on the release `base` of this one.
    /// Returns false at a conflict, which is left to be resolved by hand.
    pub fn rebase_from(&self, other: &Tree, base: &str) -> Result<bool> {
        // In the configuration they count for a `git rebase --continue`, too.
        for (key, value) in [
            ("merge.directoryRenames", "true"),
            ("merge.renameLimit", "100000"),
            ("user.name", COMMITTER.0),
            ("user.email", COMMITTER.1),
        ] {
            self.git.run(&["config", key, value])?;
        }
        let from = other.dir().to_str().context("the path is not UTF-8")?;
        let branch = self.git.run(&["symbolic-ref", "--short", "HEAD"])?;
        self.git.run(&["fetch", "--quiet", from, UPSTREAM_REF])?;
        let old_base = self.git.run(&["rev-parse", "FETCH_HEAD"])?;
        self.git.run(&["fetch", "--quiet", from, ASSEMBLED_REF])?;
        self.git
            .run(&["checkout", "--quiet", "-B", &branch, "FETCH_HEAD"])?;
        let rebase = ["rebase", "--quiet", "--onto", base, &old_base];
        match self.git.attempt(&rebase, "")? {
            Ok(_) => Ok(true),
            Err(_) if self.git.run(&["rev-parse", "REBASE_HEAD"]).is_ok() => Ok(false),
            Err(error) => bail!("`git rebase` failed: {error}"),
        }
    }

    /// Throws the user's work away.
    pub fn discard(&self, record: &Record) -> Result<()> {
        for unfinished in ["rebase-apply", "rebase-merge"] {
            remove_dir(&self.dir().join(".git").join(unfinished))?;
        }
        self.git
            .run(&["reset", "--quiet", "--hard", record.tip()])?;
        self.git.run(&["clean", "--quiet", "-d", "--force"])?;
        Ok(())
    }

    /// Adds a second working tree of the same repository, at `commit`.
    ///
    /// Patches are applied there, so that an interrupted or failing `git am` leaves the tree as it was.
    pub fn scratch(&self, commit: &str) -> Result<Scratch> {
        let parent = self.dir().parent().unwrap_or(self.dir());
        let dir = TempDir::with_prefix_in(".applying-", parent)
            .context("could not create a directory to apply patches in")?;
        // Removes what a run that was killed has left.
        self.git.run(&["worktree", "prune"])?;
        let path = dir.path().join("tree");
        let arg = path.to_str().context("the path is not UTF-8")?;
        self.git
            .run(&["worktree", "add", "--quiet", "--detach", arg, commit])?;
        Ok(Scratch {
            git: self.git.at(&path),
            _dir: dir,
        })
    }

    /// Returns the source's hash, date and number of patches for `cargo --version`.
    ///
    /// The hash is that of the content: rewording a commit is no reason to build again.
    pub fn version(&self) -> Result<(String, String, usize)> {
        let hash = self.git.run(&["log", "-1", "--format=%T"])?;
        let date = self.git.run(&["log", "-1", "--format=%as"])?;
        let patches = self.count_commits(&format!("{UPSTREAM_REF}..HEAD"))?;
        Ok((hash, date, patches))
    }
}

/// A working tree that is removed when it is dropped.
#[derive(Debug)]
pub struct Scratch {
    git: Git,
    _dir: tempfile::TempDir,
}

impl Scratch {
    /// Applies a patch and returns its commit, or git's error message.
    pub fn apply(&self, patch: &Patch) -> Result<Result<String, String>> {
        let am = [
            "am",
            "--quiet",
            // A patch may change a file with CR LF line ends.
            "--keep-cr",
            // A subject may begin with a bracket of its own.
            "--keep-non-patch",
            "--no-scissors",
            "--no-3way",
            "--whitespace=nowarn",
            "--committer-date-is-author-date",
            "-",
        ];
        Ok(match self.git.attempt(&am, &patch.text)? {
            Ok(_) => Ok(self.git.run(&["rev-parse", "HEAD"])?),
            Err(error) => Err(error),
        })
    }
}
