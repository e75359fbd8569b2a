//! `cargo xtask export`: writes the commits of the assembled tree back as patch files.
//!
//! A patch file depends only on the commit, not on git or the user: every option that has a default is given.
//! The patches are applied before they are written: a later `assemble` and `export` write the same bytes.

use anyhow::{Result, bail};
use fs_err as fs;

use crate::git::Git;
use crate::lock::Lock;
use crate::project::{Project, Variant};
use crate::series::{self, Change, Patch};
use crate::shell::count;
use crate::tree::{Record, State, Tree};

/// Every option that has a default. No statistics: git chooses their width.
const FORMAT_PATCH: &str = "
    format-patch -1 --stdout
    --no-signature --zero-commit --no-numbered --subject-prefix=PATCH --no-thread --no-attach
    --no-to --no-cc --no-add-header --no-from --no-base --no-cover-letter --no-notes
    --no-encode-email-headers
    --no-stat --patch --full-index --binary --no-renames
    --diff-algorithm=histogram --indent-heuristic
    --unified=3 --inter-hunk-context=0 --no-function-context
    --src-prefix=a/ --dst-prefix=b/ --no-color --no-ext-diff --no-textconv --submodule=short";

/// Writes `patches/` from the patched tree.
pub fn run(project: &Project) -> Result<()> {
    let _lock = Lock::exclusive(project, Variant::Patched)?;
    let tree = Tree::new(&project.tree(Variant::Patched))?;
    let place = project.shown(tree.dir());
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
    let (ids, mut patches) = settle(&tree, &record, &commits)?;

    // A tree that holds only a part of the series replaces that part, and leaves the rest.
    let dir = project.patches();
    for pending in &record.patches[record.commits.len()..] {
        let path = dir.join(&pending.name);
        if patches.iter().all(|patch| patch.name != pending.name) && path.exists() {
            patches.push(Patch {
                name: pending.name.clone(),
                text: fs::read_to_string(&path)?,
            });
        }
    }
    let changes = series::write(&dir, &patches)?;

    // The same trees under the ids that `assemble` gives them: no file is touched.
    let rest = patches.len() - ids.len();
    let record = Record {
        base: record.base,
        commits: ids,
        patches,
    };
    tree.git()
        .run(&["reset", "--quiet", "--soft", record.tip()])?;
    tree.remember(&record)?;

    for (change, name) in changes.iter().filter(|(it, _)| *it != Change::Unchanged) {
        status!(&format!("{change:?}"), "{name}");
    }
    let number = |kind| changes.iter().filter(|(change, _)| *change == kind).count();
    let mut summary = format!(
        "{} added, {} changed, {} removed, {} unchanged",
        number(Change::Added),
        number(Change::Changed),
        number(Change::Removed),
        number(Change::Unchanged),
    );
    if rest > 0 {
        let rest = count(rest, "patch that is", "patches that are");
        summary += &format!("; {rest} not in the tree left as before");
    }
    status!("Exported", "patches/: {summary}");
    Ok(())
}

/// A commit that becomes a patch.
struct Commit {
    id: String,
    patch: String,
    /// Its name in messages.
    title: String,
}

/// Lists the commits on top of the released crate, oldest first.
fn commits(git: &Git, record: &Record, place: &str) -> Result<Vec<Commit>> {
    let is_ancestor = ["merge-base", "--is-ancestor", &record.base, "HEAD"];
    if git.run(&is_ancestor).is_err() {
        bail!(
            "the history of {place} does not begin with the released crate (refs/xtask/upstream)"
        );
    }
    let range = format!("{}..HEAD", record.base);
    let merges = git.run(&["log", "--merges", "--format=%h %s", &range])?;
    if let Some(merge) = merges.lines().next() {
        bail!("{place} has a merge commit ({merge}); rebase: a series of patches is linear");
    }
    let log = git.run(&["log", "--reverse", "--format=%H %h %f %s", &range])?;
    let mut commits: Vec<Commit> = Vec::new();
    for line in log.lines() {
        let mut fields = line.splitn(4, ' ');
        let mut field = || fields.next().unwrap_or_default().to_owned();
        let (id, short, slug, subject) = (field(), field(), field(), field());
        let title = format!("{short} ({subject})");
        if slug.is_empty() {
            bail!("commit {title} has no subject to name a patch after");
        }
        // Files whose names differ in case only are one file on some systems.
        let patch = format!("{}.patch", slug.to_lowercase());
        if let Some(other) = commits.iter().find(|other| other.patch == patch) {
            bail!(
                "two commits would both become patches/{patch}: {} and {title}; reword one of them",
                other.title
            );
        }
        commits.push(Commit { id, patch, title });
    }
    Ok(commits)
}

/// Makes patches of the commits, such that applying them and exporting again changes nothing. Returns
/// the ids of the commits of the applied patches, too.
fn settle(tree: &Tree, record: &Record, commits: &[Commit]) -> Result<(Vec<String>, Vec<Patch>)> {
    let git = tree.git();
    // Commits that came from patches are settled.
    let settled = commits
        .iter()
        .zip(record.commits.iter().zip(&record.patches))
        .take_while(|(commit, (id, patch))| commit.id == **id && commit.patch == patch.name)
        .count();
    let scratch = tree.scratch(record.commit(settled))?;
    let (mut ids, mut patches) = (Vec::new(), Vec::new());
    for (place, commit) in commits.iter().enumerate() {
        let patch = |id: &str| -> Result<Patch> {
            let args = FORMAT_PATCH.split_whitespace().chain([id]);
            Ok(Patch {
                name: commit.patch.clone(),
                text: git.text(&args.collect::<Vec<_>>())?,
            })
        };
        let id = if place < settled {
            commit.id.clone()
        } else {
            let what = format!("commit {}", commit.title);
            let draft = patch(&commit.id)?;
            if !draft.text.contains("\ndiff --git ") {
                bail!("{what} changes nothing; drop it: an empty patch cannot be applied");
            }
            let id = match scratch.apply(&draft)? {
                Ok(id) => id,
                Err(error) => bail!("{what} does not survive as a patch: {}", error.trim()),
            };
            if content(git, &id)? != content(git, &commit.id)? {
                bail!(
                    "{what} does not survive as a patch: has its message a line that reads like the start of a diff, or like `---`?"
                );
            }
            id
        };
        patches.push(patch(&id)?);
        ids.push(id);
    }
    Ok((ids, patches))
}

/// Returns what a patch keeps of a commit: the files, the author, and the message but for space at
/// line ends.
fn content(git: &Git, commit: &str) -> Result<Vec<String>> {
    let format = "--format=%T%n%an%n%ae%n%at%n%B";
    let text = git.run(&["show", "--no-patch", format, commit])?;
    let lines = text.trim_end().lines();
    Ok(lines.map(|line| line.trim_end().to_owned()).collect())
}
