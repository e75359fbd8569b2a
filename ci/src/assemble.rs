//! `cargo xtask assemble`: the released crate with the series on it.

use anyhow::{Result, bail};
use fs_err as fs;

use crate::cargo::Network;
use crate::fetch;
use crate::layout::{Layout, Variant};
use crate::lock::Lock;
use crate::series::{Patch, Series};
use crate::shell::{self, count};
use crate::toolchain;
use crate::tree::{Known, Record, State, Tree};

/// What to do with somebody's work in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Leave it alone, and fail.
    Keep,
    /// Throw it away.
    Discard,
}

/// Assembles the patched tree and says what it holds.
pub fn run(layout: &Layout, upto: Option<usize>, work: Work, network: Network) -> Result<()> {
    let series = Series::read(&layout.patches())?;
    let all = series.patches.len();
    let number = match upto {
        Some(number) if number > all => bail!(
            "there is no patch {number}: the series has {}",
            count(all, "patch", "patches")
        ),
        Some(number) => number,
        None => all,
    };
    let _lock = Lock::exclusive(layout, Variant::Patched)?;
    let tree = Tree::new(&layout.tree(Variant::Patched))?;
    match tree.state()? {
        State::Worked(_, found) if work == Work::Keep => bail!(
            "{} has {found}, which assembling would throw away; `cargo xtask export` writes commits to patches/, `cargo xtask assemble --force` discards everything",
            layout.shown(tree.dir())
        ),
        State::Foreign if work == Work::Keep => bail!("{}", foreign(layout, &tree)),
        State::Worked(record, _) => tree.discard(&record)?,
        State::Foreign => fs::remove_dir_all(tree.dir())?,
        State::Missing | State::Clean(_) => {}
    }
    bring(layout, &tree, &series.patches, number, network)?;
    let place = layout.shown(tree.dir());
    if number == all {
        shell::status(
            "Assembled",
            format_args!("{place} ({})", count(all, "patch", "patches")),
        );
    } else {
        shell::status(
            "Assembled",
            format_args!("{place} ({number} of {all} patches)"),
        );
    }
    Ok(())
}

/// Makes sure that `variant` can be built, and returns its tree; nothing changes it as long as
/// the lock is held.
pub fn ensure(layout: &Layout, variant: Variant, network: Network) -> Result<(Tree, Lock)> {
    let tree = Tree::new(&layout.tree(variant))?;
    let series = match variant {
        Variant::Stock => Series::default(),
        Variant::Patched | Variant::Prefix => Series::read(&layout.patches())?,
    };
    let patches = &series.patches;
    loop {
        let lock = Lock::shared(layout, variant)?;
        if is_ready(layout, &tree, patches)? {
            toolchain::note_if_older(tree.dir())?;
            return Ok((tree, lock));
        }
        drop(lock);
        let lock = Lock::exclusive(layout, variant)?;
        // Somebody may have been faster.
        if !is_ready(layout, &tree, patches)? {
            bring(layout, &tree, patches, patches.len(), network)?;
            shell::status(
                "Assembled",
                format_args!(
                    "{} ({})",
                    layout.shown(tree.dir()),
                    count(patches.len(), "patch", "patches")
                ),
            );
        }
        drop(lock);
    }
}

/// Whether the tree is to be built as it is.
fn is_ready(layout: &Layout, tree: &Tree, patches: &[Patch]) -> Result<bool> {
    match tree.state()? {
        State::Missing => Ok(false),
        State::Foreign => bail!("{}", foreign(layout, tree)),
        State::Clean(record) => Ok(record.is_of(patches) && record.pending.is_empty()),
        State::Worked(record, work) if record.is_of(patches) => {
            shell::note(format_args!(
                "{} has {work}, and is built as it is",
                layout.shown(tree.dir())
            ));
            Ok(true)
        }
        State::Worked(_, work) => bail!(
            "{} has {work}, and patches/ has changed since it was assembled; `cargo xtask export` writes the commits over patches/, `cargo xtask assemble --force` discards them",
            layout.shown(tree.dir())
        ),
    }
}

fn foreign(layout: &Layout, tree: &Tree) -> String {
    format!(
        "{} was not made by `cargo xtask assemble`, or is damaged; move it away, or let `cargo xtask assemble --force` replace it",
        layout.shown(tree.dir())
    )
}

/// Brings a tree without anybody's work to the first `number` of `patches`.
///
/// Patches that are applied already stay. On one that does not apply, the tree is left with all
/// that come before it.
pub fn bring(
    layout: &Layout,
    tree: &Tree,
    patches: &[Patch],
    number: usize,
    network: Network,
) -> Result<Record> {
    let old = match tree.state()? {
        State::Clean(record) => record,
        State::Missing => found(layout, tree, network)?,
        State::Foreign => bail!("{}", foreign(layout, tree)),
        State::Worked(_, work) => bail!("{} has {work}", layout.shown(tree.dir())),
    };
    let wanted = &patches[..number];
    let common = old.common(wanted);
    let mut record = Record {
        base: old.base.clone(),
        applied: old.applied[..common].to_vec(),
        pending: Vec::new(),
    };
    let mut refusal = None;
    if common < number {
        let scratch = tree.scratch(old.commit(common))?;
        for patch in &wanted[common..] {
            shell::status("Applying", &patch.name);
            match scratch.apply(patch)? {
                Ok(commit) => record.applied.push((Known::from(patch), commit)),
                Err(said) => {
                    refusal = Some((patch, said));
                    break;
                }
            }
        }
        // Before the scratch tree goes: its commits hang on nothing else.
        record.pending = patches[record.applied.len()..]
            .iter()
            .map(Known::from)
            .collect();
        tree.move_to(&record)?;
    } else {
        record.pending = patches[number..].iter().map(Known::from).collect();
        if record != old {
            tree.move_to(&record)?;
        }
    }
    match refusal {
        None => Ok(record),
        Some((patch, said)) => bail!("{}", refused(layout, tree, patch, &said)),
    }
}

/// Makes a tree of the released crate alone.
pub fn found(layout: &Layout, tree: &Tree, network: Network) -> Result<Record> {
    let dir = tempfile::Builder::new()
        .prefix(".unpacking-")
        .tempdir_in(layout.upstream())?;
    let base = layout.base();
    let source = fetch::unpack(base, dir.path(), network)?;
    tree.found(&source, &format!("cargo {}", base.version))
}

/// What to say of a patch that does not apply.
fn refused(layout: &Layout, tree: &Tree, patch: &Patch, said: &str) -> String {
    let reasons: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("error: "))
        .collect();
    let files = files_in_the_way(&reasons);
    let place = layout.shown(tree.dir());
    let mut text = if files.is_empty() {
        let reason = match reasons.first() {
            Some(reason) => reason,
            None => said.trim(),
        };
        format!("patches/{} does not apply: {reason}", patch.name)
    } else {
        format!(
            "patches/{} does not apply to {}",
            patch.name,
            files.join(", ")
        )
    };
    text.push_str(&format!(
        "\n{place} has the patches that come before it. To mend it, run there
    git am -3 --keep-non-patch {}
resolve the conflicts, `git am --continue`, and then run `cargo xtask export` here",
        layout.patches().join(&patch.name).display()
    ));
    text
}

/// The files that git names in its complaints, each once.
fn files_in_the_way(reasons: &[&str]) -> Vec<String> {
    const ENDINGS: &[&str] = &[
        ": patch does not apply",
        ": does not exist in index",
        ": already exists in index",
        ": already exists in working directory",
        ": does not match index",
        ": No such file or directory",
    ];
    let mut files: Vec<String> = Vec::new();
    for reason in reasons {
        let file = ENDINGS
            .iter()
            .find_map(|ending| reason.strip_suffix(ending));
        if let Some(file) = file
            && !files.iter().any(|seen| seen == file)
        {
            files.push(file.to_string());
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_names_the_files() {
        let reasons = [
            "patch failed: src/cargo/lib.rs:12",
            "src/cargo/lib.rs: patch does not apply",
            "src/cargo/lib.rs: patch does not apply",
            "src/new file.rs: already exists in index",
        ];
        assert_eq!(
            files_in_the_way(&reasons),
            ["src/cargo/lib.rs", "src/new file.rs"]
        );
        assert!(files_in_the_way(&["corrupt patch at line 7"]).is_empty());
    }
}
