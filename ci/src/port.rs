//! `cargo xtask port`: moves the series to another release of the `cargo` crate.
//!
//! The new tree fetches the commits of the old one, and `git rebase` carries them over: it follows
//! files and directories that upstream has renamed. A conflict is left in the new tree.

use anyhow::{Result, bail};

use crate::git::Git;
use crate::lock::Lock;
use crate::project::{self, Project, Variant};
use crate::tree::{State, Tree};
use crate::{assemble, export, fetch, series};

/// Moves the series to the release `version`.
pub fn run(project: &Project, version: &str) -> Result<()> {
    let old = &project.base.version;
    if !project::is_version(version) {
        bail!("`{version}` is not a version of the `cargo` crate; one is `{old}`");
    }
    if version == old {
        bail!("the series is on cargo {version} already");
    }
    let new = Project {
        base: fetch::find(project, version)?,
        ..project.clone()
    };
    {
        let _lock = Lock::exclusive(project, Variant::Patched)?;
        let old_tree = whole_series(project)?;
        let tree = Tree::new(&new.tree(Variant::Patched))?;
        let place = project.shown(tree.dir());
        let base = match tree.state()? {
            State::Missing => assemble::create(&new, &tree)?.base,
            State::Clean(record) => record.base,
            State::Worked(..) | State::Foreign => bail!(
                "{place} exists, and has something that is nowhere else; move it away and run this again"
            ),
        };
        // From here on `export` and `assemble` are about the new release.
        new.base.write(&project.patches())?;
        status!("Rebasing", "the series on cargo {version}");
        if !tree.rebase_from(&old_tree, &base)? {
            list_mentions(project)?;
            let git = tree.git();
            let commit = git.run(&["log", "-1", "--format=%s", "REBASE_HEAD"])?;
            let files = git.run(&["diff", "--name-only", "--diff-filter=U"])?;
            bail!(
                "`{commit}` conflicts in {}
Resolve that in {place}, `git add` the files and `git rebase --continue` there, until
the whole series is applied; then run `cargo xtask export` here",
                files.lines().collect::<Vec<_>>().join(", ")
            );
        }
    }
    export::run(&new)?;
    list_mentions(project)
}

/// Returns the tree with the whole series and nothing else.
fn whole_series(project: &Project) -> Result<Tree> {
    let tree = Tree::new(&project.tree(Variant::Patched))?;
    if let State::Worked(_, work) = tree.state()? {
        bail!(
            "{} has {work}; run `cargo xtask export` first, or `cargo xtask assemble --force` to discard it",
            project.shown(tree.dir())
        );
    }
    let patches = series::read(&project.patches())?;
    assemble::bring(project, &tree, &patches, patches.len())?;
    Ok(tree)
}

/// Lists the lines of the checkout that mention the old release, or the Rust that it belongs to.
fn list_mentions(project: &Project) -> Result<()> {
    let old = &project.base.version;
    let minor = semver::Version::parse(old)?.minor;
    let (cargo, rust) = (format!("0.{minor}"), format!("Rust 1.{}", minor - 1));
    let grep = "grep --no-index --exclude-standard --line-number --fixed-strings --word-regexp -I";
    let mut args: Vec<&str> = grep.split(' ').collect();
    args.extend(["-e", &cargo, "-e", &rust, "--"]);
    args.extend([":!Cargo.lock", ":!patches", ":!target"]);
    match Git::new(&project.root)?.attempt(&args, "")? {
        Ok(lines) => note!(
            "these lines may be about the old release, {old}:\n{}",
            lines.trim_end()
        ),
        Err(error) if error.is_empty() => {}
        Err(error) => bail!("could not search the checkout: {error}"),
    }
    Ok(())
}
