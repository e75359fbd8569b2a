//! `cargo xtask export`: the commits of the assembled tree, written back as patch files.
//!
//! A patch file must depend on nothing but the commit: not on the git that writes it, nor on who
//! runs it. So every option that has a default is given, and before anything is written the
//! patches are applied once: what is written is what a later `assemble` and `export` write again.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use fs_err as fs;

use crate::git::Git;
use crate::layout::{Layout, Variant};
use crate::lock::Lock;
use crate::series::{self, Patch, Series};
use crate::shell::{self, count};
use crate::tree::{Known, Record, State, Tree};

/// What a new `series` begins with.
const HEADER: &str = "\
# The patches on the `cargo` crate, in the order in which they apply: one file name per line.
# Written by `cargo xtask export`, which keeps this comment.

";

const FORMAT_PATCH: &[&str] = &[
    "format-patch",
    "-1",
    "--stdout",
    "--no-signature",
    "--zero-commit",
    "--no-numbered",
    "--subject-prefix=PATCH",
    "--no-thread",
    "--no-attach",
    "--no-to",
    "--no-cc",
    "--no-add-header",
    "--no-from",
    "--no-base",
    "--no-cover-letter",
    "--no-notes",
    "--no-encode-email-headers",
    // The diff. No statistics: their width is git's business.
    "--no-stat",
    "--patch",
    "--full-index",
    "--binary",
    "--no-renames",
    "--diff-algorithm=histogram",
    "--indent-heuristic",
    "--unified=3",
    "--inter-hunk-context=0",
    "--no-function-context",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "--no-color",
    "--no-ext-diff",
    "--no-textconv",
    "--submodule=short",
];

/// Writes `patches/` from the patched tree.
pub fn run(layout: &Layout) -> Result<()> {
    let _lock = Lock::exclusive(layout, Variant::Patched)?;
    let tree = Tree::new(&layout.tree(Variant::Patched))?;
    let place = layout.shown(tree.dir());
    let record = match tree.state()? {
        State::Missing => {
            bail!("there is nothing to export: {place} does not exist; run `cargo xtask assemble`")
        }
        State::Foreign => bail!(
            "{place} was not made by `cargo xtask assemble`, or is damaged: there is nothing to export"
        ),
        State::Worked(_, work) if work.unfinished => bail!(
            "{place} has an unfinished `git am` or rebase; finish it (or `--abort` it) and run this again"
        ),
        State::Worked(_, work) if work.changes => bail!(
            "{place} has uncommitted changes; commit them there (or amend the patch they belong to) and run this again"
        ),
        State::Worked(record, _) | State::Clean(record) => record,
    };
    let commits = commits(tree.git(), &record, &place)?;
    let (patches, applied) = settle(&tree, &record, &commits)?;
    let exported = patches.len();

    // A tree that holds only a part of the series replaces that part, and leaves the rest.
    let dir = layout.patches();
    let mut series = Series {
        header: header(&dir)?,
        patches,
    };
    let mut pending = Vec::new();
    for known in &record.pending {
        let path = dir.join(&known.name);
        if series.patches.iter().all(|patch| patch.name != known.name) && path.exists() {
            let patch = Patch::new(known.name.clone(), fs::read(&path)?);
            pending.push(Known::from(&patch));
            series.patches.push(patch);
        }
    }
    let changes = write(&dir, &series)?;

    // The same trees under the ids that `assemble` gives them: no file is touched.
    let record = Record {
        base: record.base,
        applied,
        pending,
    };
    tree.git()
        .run(["reset", "--quiet", "--soft", record.tip()])?;
    tree.remember(&record)?;

    for (name, change) in &changes {
        let verb = match change {
            Change::Added => "Added",
            Change::Changed => "Changed",
            Change::Removed => "Removed",
            Change::Unchanged => continue,
        };
        shell::status(verb, name);
    }
    let number = |kind| changes.values().filter(|change| **change == kind).count();
    let mut summary = format!(
        "{} added, {} changed, {} removed, {} unchanged",
        number(Change::Added),
        number(Change::Changed),
        number(Change::Removed),
        number(Change::Unchanged),
    );
    let rest = series.patches.len() - exported;
    if rest > 0 {
        summary.push_str(&format!(
            "; {} not in the tree left as before",
            count(rest, "patch that is", "patches that are")
        ));
    }
    shell::status("Exported", format_args!("patches/: {summary}"));
    Ok(())
}

/// A commit that becomes a patch.
struct Commit {
    id: String,
    name: String,
    subject: String,
}

/// The commits on top of the released crate, oldest first.
fn commits(git: &Git, record: &Record, place: &str) -> Result<Vec<Commit>> {
    if git
        .run(["merge-base", "--is-ancestor", &record.base, "HEAD"])
        .is_err()
    {
        bail!(
            "the history of {place} does not begin with the released crate (refs/xtask/upstream)"
        );
    }
    let range = format!("{}..HEAD", record.base);
    let merges = git.run(["log", "--merges", "--format=%h %s", &range])?;
    if let Some(merge) = merges.lines().next() {
        bail!("{place} has a merge commit ({merge}); rebase: a series of patches is linear");
    }
    let log = git.run([
        "log",
        "--reverse",
        "--topo-order",
        "--format=%H %f%x09%s",
        &range,
    ])?;
    let mut commits: Vec<Commit> = Vec::new();
    for line in log.lines() {
        let (id, rest) = line
            .split_once(' ')
            .context("git described a commit oddly")?;
        let (slug, subject) = rest
            .split_once('\t')
            .context("git described a commit oddly")?;
        // Files whose names differ in case only are one file on some systems.
        let slug = slug.to_lowercase();
        if slug.is_empty() {
            bail!("commit {} has no subject to name a patch after", short(id));
        }
        let name = format!("{slug}.patch");
        if let Some(other) = commits.iter().find(|other| other.name == name) {
            bail!(
                "two commits would both become patches/{name}: {} ({}) and {} ({subject}); reword one of them",
                short(&other.id),
                other.subject,
                short(id),
            );
        }
        commits.push(Commit {
            id: id.to_string(),
            name,
            subject: subject.to_string(),
        });
    }
    Ok(commits)
}

fn short(id: &str) -> &str {
    id.get(..9).unwrap_or(id)
}

type Applied = Vec<(Known, String)>;

/// Makes patches of the commits, such that applying them and exporting again changes nothing.
fn settle(tree: &Tree, record: &Record, commits: &[Commit]) -> Result<(Vec<Patch>, Applied)> {
    let git = tree.git();
    // Commits that came from patches are the way they should be.
    let kept = commits
        .iter()
        .zip(&record.applied)
        .take_while(|(commit, (known, id))| commit.id == *id && commit.name == known.name)
        .count();
    let mut patches = Vec::new();
    let mut applied = Vec::new();
    let scratch = tree.scratch(record.commit(kept))?;
    for (index, commit) in commits.iter().enumerate() {
        let id = if index < kept {
            commit.id.clone()
        } else {
            let draft = Patch::new(commit.name.clone(), format_patch(git, &commit.id)?);
            let what = format!("commit {} ({})", short(&commit.id), commit.subject);
            let tree_of = |id: &str| git.run(["rev-parse", &format!("{id}^{{tree}}")]);
            if tree_of(&commit.id)? == tree_of(&format!("{}^", commit.id))? {
                bail!("{what} changes nothing; drop it: an empty patch cannot be applied");
            }
            let id = match scratch.apply(&draft)? {
                Ok(id) => id,
                Err(said) => bail!("{what} does not survive as a patch: {}", said.trim()),
            };
            if tree_of(&id)? != tree_of(&commit.id)? || told(git, &id)? != told(git, &commit.id)? {
                bail!(
                    "{what} does not survive as a patch: has its message a line that reads like the start of a diff, or like `---`?"
                );
            }
            id
        };
        let patch = Patch::new(commit.name.clone(), format_patch(git, &id)?);
        applied.push((Known::from(&patch), id));
        patches.push(patch);
    }
    // The scratch tree goes, and with it all that holds the new commits.
    let tip = applied.last().map_or(&record.base, |(_, id)| id);
    git.run(["update-ref", "refs/xtask/exported", tip])?;
    Ok((patches, applied))
}

/// What a commit says beside its content: the author, and the message but for space at line ends.
fn told(git: &Git, commit: &str) -> Result<Vec<String>> {
    let text = git.run(["show", "--no-patch", "--format=%an%n%ae%n%at%n%B", commit])?;
    let lines = text.trim_end().lines();
    Ok(lines.map(|line| line.trim_end().to_string()).collect())
}

fn format_patch(git: &Git, commit: &str) -> Result<Vec<u8>> {
    git.try_run(FORMAT_PATCH.iter().copied().chain([commit]))
}

fn header(dir: &Path) -> Result<String> {
    match fs::read_to_string(dir.join(series::FILE)) {
        Ok(text) => Ok(series::header(&text).to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(HEADER.to_string()),
        Err(error) => Err(error.into()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Added,
    Changed,
    Removed,
    Unchanged,
}

/// Makes `dir` hold the series and no other patch.
fn write(dir: &Path, series: &Series) -> Result<BTreeMap<String, Change>> {
    fs::create_dir_all(dir)?;
    let mut changes = BTreeMap::new();
    for name in series::patch_files(dir)? {
        if series.patches.iter().all(|patch| patch.name != name) {
            fs::remove_file(dir.join(&name))?;
            changes.insert(name, Change::Removed);
        }
    }
    for patch in &series.patches {
        let change = write_if_changed(&dir.join(&patch.name), &patch.bytes)?;
        changes.insert(patch.name.clone(), change);
    }
    write_if_changed(&dir.join(series::FILE), series.text().as_bytes())?;
    Ok(changes)
}

fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<Change> {
    let change = match fs::read(path) {
        Ok(old) if old == bytes => return Ok(Change::Unchanged),
        Ok(_) => Change::Changed,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Change::Added,
        Err(error) => return Err(error.into()),
    };
    fs::write(path, bytes)?;
    Ok(change)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn writes_only_what_changed() {
        let dir = tempfile::tempdir().unwrap();
        let patch = |name: &str, text: &str| Patch::new(name.into(), text.into());
        let mut series = Series {
            header: HEADER.into(),
            patches: vec![patch("a.patch", "1"), patch("b.patch", "2")],
        };
        let changes = write(dir.path(), &series).unwrap();
        assert!(changes.values().all(|change| *change == Change::Added));

        series.patches = vec![patch("c.patch", "3"), patch("b.patch", "22")];
        let changes: Vec<_> = write(dir.path(), &series).unwrap().into_iter().collect();
        assert_eq!(
            changes,
            [
                ("a.patch".to_string(), Change::Removed),
                ("b.patch".to_string(), Change::Changed),
                ("c.patch".to_string(), Change::Added),
            ]
        );
        let read = Series::read(dir.path()).unwrap();
        assert_eq!(read.header, HEADER);
        assert_eq!(read.text(), format!("{HEADER}c.patch\nb.patch\n"));
        assert_eq!(header(dir.path()).unwrap(), HEADER);
    }
}
