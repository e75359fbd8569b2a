//! Which commit of a git repository is checked out.

use std::fs;
use std::path::{Path, PathBuf};

use super::Digest;

/// Returns a digest of the commit that is checked out where `dir` is, by gitrepository-layout(5). `None` if it is
/// in no repository. It may differ for the same commit, for example when references were packed.
pub(super) fn head(dir: &Path) -> Option<Digest> {
    let git = (dir.ancestors().map(|dir| dir.join(".git"))).find(|git| git.exists())?;
    let read = |path: PathBuf| fs::read_to_string(path).ok();
    let below = |dir: &Path, file: &str| Some(dir.join(read(dir.join(file))?.trim_end()));
    // A worktree or a submodule has a file there.
    let own = match read(git.clone()) {
        Some(file) => git
            .parent()?
            .join(file.strip_prefix("gitdir: ")?.trim_end()),
        None => git,
    };
    let common = below(&own, "commondir").unwrap_or_else(|| own.clone());
    let head = read(own.join("HEAD"));
    let branch = head.as_ref().and_then(|head| head.strip_prefix("ref: "));
    let commit = branch.map(str::trim_end).map(|branch| {
        let packed = || {
            let refs = read(common.join("packed-refs"))?;
            let is_branch = |line: &&str| line.ends_with(&format!(" {branch}"));
            Some(refs.lines().find(is_branch)?.split(' ').next()?.to_owned())
        };
        // Where references are stored in another way, the names of all files that hold them.
        let tables = || read(common.join("reftable/tables.list"));
        let commit = read(common.join(branch)).or_else(packed).or_else(tables);
        commit.map(|commit| commit.trim_end().to_owned())
    });
    Some(Digest::of_value(&(own, head, commit)))
}
