//! `cargo xtask port`: the series on another release of the `cargo` crate.
//!
//! The new tree gets the old one's commits, and `git rebase` carries them over: it knows of each patch
//! what the file looked like before, so it follows files and directories that upstream has renamed. What
//! it cannot decide is left in the new tree as it leaves every conflict.

use anyhow::{Context, Result, bail};

use crate::cargo::Network;
use crate::git::Git;
use crate::layout::{Layout, Variant};
use crate::lock::Lock;
use crate::series::Series;
use crate::shell;
use crate::tree::{State, Tree};
use crate::{assemble, base, export, fetch};

/// Moves the series to the release `version`.
pub fn run(layout: &Layout, version: &str, network: Network) -> Result<()> {
    let old = &layout.base().version;
    if !base::is_version(version) {
        bail!("`{version}` is not a version of the `cargo` crate; one is `{old}`");
    }
    if version == old {
        bail!("the series is on cargo {version} already");
    }
    let new_layout = Layout::new(layout.root().to_owned(), fetch::find(version, network)?);
    {
        let _lock = Lock::exclusive(layout, Variant::Patched)?;
        let old_tree = whole_series(layout, network)?;
        let tree = Tree::new(&new_layout.tree(Variant::Patched))?;
        let place = layout.shown(tree.dir());
        let base = match tree.state()? {
            State::Missing => assemble::found(&new_layout, &tree, network)?.base,
            State::Clean(record) => record.base,
            State::Worked(..) | State::Foreign => bail!(
                "{place} exists, and has something that is nowhere else; move it away and run this again"
            ),
        };
        // From here on `export` and `assemble` are about the new release.
        new_layout.base().write(&layout.patches())?;
        shell::status("Rebasing", format_args!("the series on cargo {version}"));
        if !tree.rebase_from(&old_tree, &base)? {
            tell_what_names(layout, old)?;
            bail!("{}", conflict(tree.git(), &place)?);
        }
    }
    export::run(&new_layout)?;
    tell_what_names(layout, old)
}

/// The tree with the whole series on it, and nothing else.
fn whole_series(layout: &Layout, network: Network) -> Result<Tree> {
    let tree = Tree::new(&layout.tree(Variant::Patched))?;
    if let State::Worked(_, work) = tree.state()? {
        bail!(
            "{} has {work}; run `cargo xtask export` first, or `cargo xtask assemble --force` to discard it",
            layout.shown(tree.dir())
        );
    }
    let patches = Series::read(&layout.patches())?.patches;
    assemble::bring(layout, &tree, &patches, patches.len(), network)?;
    Ok(tree)
}

fn conflict(git: &Git, place: &str) -> Result<String> {
    let commit = git.run(["log", "-1", "--format=%s", "REBASE_HEAD"])?;
    let files = git.run(["diff", "--name-only", "--diff-filter=U"])?;
    let files: Vec<&str> = files.lines().collect();
    Ok(format!(
        "`{commit}` conflicts in {}
Resolve that in {place}, `git add` the files and `git rebase --continue` there, until
the whole series is applied; then run `cargo xtask export` here",
        files.join(", ")
    ))
}

/// Lists where files of the checkout name the old release, or the Rust that it belongs to.
fn tell_what_names(layout: &Layout, old: &str) -> Result<()> {
    let minor = old.split('.').nth(1).context("a version has three parts")?;
    let rust: u32 = minor.parse().context("a version is of numbers")?;
    let cargo = format!("0.{minor}");
    let rust = format!("Rust 1.{}", rust.saturating_sub(1));
    let git = Git::new(layout.root())?;
    let found = git.attempt([
        "grep",
        "--no-index",
        "--exclude-standard",
        "--line-number",
        "--fixed-strings",
        "--word-regexp",
        "-I",
        "-e",
        &cargo,
        "-e",
        &rust,
        "--",
        ":!Cargo.lock",
        ":!patches",
        ":!target",
    ])?;
    match found {
        Ok(lines) => shell::note(format_args!(
            "these lines may be about the old release, {old}:\n{lines}"
        )),
        Err(error) if error.is_empty() => {}
        Err(error) => bail!("could not search the checkout: {error}"),
    }
    Ok(())
}
