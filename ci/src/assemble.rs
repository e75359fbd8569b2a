//! `cargo xtask assemble`: the released crate with the series applied.

use anyhow::{Result, bail};
use fs_err as fs;
use tempfile::TempDir;

use crate::lock::Lock;
use crate::project::{Project, Variant};
use crate::series::{self, Patch};
use crate::shell::count;
use crate::tree::{Record, State, Tree};
use crate::{fetch, toolchain};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Stop after the first N patches; 0 is the release itself
    #[arg(long, value_name = "N")]
    upto: Option<usize>,
    /// Throw away local commits and changes in the assembled tree, and replace trees that are damaged
    #[arg(long)]
    force: bool,
}

/// Assembles the patched tree.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let patches = series::read(&project.patches())?;
    let all = count(patches.len(), "patch", "patches");
    let number = args.upto.unwrap_or(patches.len());
    if number > patches.len() {
        bail!("there is no patch {number}: the series has {all}");
    }
    let _lock = Lock::exclusive(project, Variant::Patched)?;
    let tree = Tree::new(&project.tree(Variant::Patched))?;
    let place = project.shown(tree.dir());
    match tree.state()? {
        State::Missing | State::Clean(_) => {}
        State::Worked(record, _) if args.force => tree.discard(&record)?,
        State::Foreign if args.force => fs::remove_dir_all(tree.dir())?,
        State::Worked(_, work) => bail!(
            "{place} has {work}, which assembling would throw away; `cargo xtask export` writes commits to patches/, `cargo xtask assemble --force` discards everything"
        ),
        State::Foreign => bail!("{}", foreign(project, &tree)),
    }
    if args.force {
        remove_foreign(project, Variant::Stock)?;
        remove_foreign(project, Variant::Prefix)?;
    }
    bring(project, &tree, &patches, number)?;
    if number < patches.len() {
        status!("Assembled", "{place} ({number} of {all})");
    } else {
        status!("Assembled", "{place} ({all})");
    }
    Ok(())
}

fn remove_foreign(project: &Project, variant: Variant) -> Result<()> {
    let _lock = Lock::exclusive(project, variant)?;
    let tree = Tree::new(&project.tree(variant))?;
    if let State::Foreign = tree.state()? {
        fs::remove_dir_all(tree.dir())?;
    }
    Ok(())
}

/// Makes sure that `variant` can be built, and returns its tree and the lock that keeps it as it is.
pub fn ensure(project: &Project, variant: Variant) -> Result<(Tree, Lock)> {
    let tree = Tree::new(&project.tree(variant))?;
    let patches = match variant {
        Variant::Stock => Vec::new(),
        Variant::Patched | Variant::Prefix => series::read(&project.patches())?,
    };
    loop {
        let lock = Lock::shared(project, variant)?;
        if is_ready(project, &tree, &patches)? {
            toolchain::note_if_older(tree.dir())?;
            return Ok((tree, lock));
        }
        drop(lock);
        let _lock = Lock::exclusive(project, variant)?;
        // Another process may have been faster.
        if !is_ready(project, &tree, &patches)? {
            bring(project, &tree, &patches, patches.len())?;
            let all = count(patches.len(), "patch", "patches");
            let place = project.shown(tree.dir());
            status!("Assembled", "{place} ({all})");
        }
    }
}

/// Checks that the tree is to be built as it is.
fn is_ready(project: &Project, tree: &Tree, patches: &[Patch]) -> Result<bool> {
    let place = project.shown(tree.dir());
    match tree.state()? {
        State::Missing => Ok(false),
        State::Foreign => bail!("{}", foreign(project, tree)),
        State::Clean(record) => {
            Ok(record.patches == patches && record.commits.len() == patches.len())
        }
        State::Worked(record, work) if record.patches == patches => {
            note!("{place} has {work}, and is built as it is");
            Ok(true)
        }
        State::Worked(_, work) => bail!(
            "{place} has {work}, and patches/ has changed since it was assembled; `cargo xtask export` writes the commits over patches/, `cargo xtask assemble --force` discards them"
        ),
    }
}

fn foreign(project: &Project, tree: &Tree) -> String {
    format!(
        "{} was not made by `cargo xtask assemble`, or is damaged; move it away, or let `cargo xtask assemble --force` replace it",
        project.shown(tree.dir())
    )
}

/// Brings a tree that holds no work to the first `number` of `patches`.
///
/// Patches that are applied already stay. On one that does not apply, the tree is left with all
/// that come before it.
pub fn bring(project: &Project, tree: &Tree, patches: &[Patch], number: usize) -> Result<Record> {
    let old = match tree.state()? {
        State::Clean(record) => record,
        State::Missing => create(project, tree)?,
        State::Foreign => bail!("{}", foreign(project, tree)),
        State::Worked(_, work) => bail!("{} has {work}", project.shown(tree.dir())),
    };
    let common = old.common(patches).min(number);
    let mut record = Record {
        base: old.base.clone(),
        commits: old.commits[..common].to_vec(),
        patches: patches.to_vec(),
    };
    let mut outcome = Ok(());
    if common < number {
        let scratch = tree.scratch(old.commit(common))?;
        for patch in &patches[common..number] {
            status!("Applying", "{}", patch.name);
            match scratch.apply(patch)? {
                Ok(commit) => record.commits.push(commit),
                Err(error) => {
                    outcome = Err(refused(project, tree, patch, &error));
                    break;
                }
            }
        }
    }
    if record != old {
        tree.move_to(&record)?;
    }
    outcome.map(|()| record)
}

/// Makes a tree of the released crate alone.
pub fn create(project: &Project, tree: &Tree) -> Result<Record> {
    let dir = TempDir::with_prefix_in(".unpacking-", project.upstream())?;
    let source = fetch::unpack(project, dir.path())?;
    tree.create(&source, &format!("cargo {}", project.base.version))
}

/// Explains that a patch does not apply. `stderr` is git's.
fn refused(project: &Project, tree: &Tree, patch: &Patch, stderr: &str) -> anyhow::Error {
    let reasons = stderr
        .lines()
        .filter_map(|line| line.strip_prefix("error: "))
        .filter(|reason| !reason.starts_with("patch failed"));
    let mut reason = reasons.collect::<Vec<_>>().join("; ");
    if reason.is_empty() {
        reason = stderr.trim().to_owned();
    }
    anyhow::anyhow!(
        "patches/{} does not apply: {reason}
{} has the patches that come before it. To mend it, run there
    git am -3 --keep-non-patch {}
resolve the conflicts, `git am --continue`, and then run `cargo xtask export` here",
        patch.name,
        project.shown(tree.dir()),
        project.patches().join(&patch.name).display()
    )
}
