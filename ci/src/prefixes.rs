//! `cargo xtask prefixes`: checks that each patch is formatted, and compiles on those before it.

use anyhow::{Context, Result, bail};
use xshell::{Shell, cmd};

use crate::lock::Lock;
use crate::project::{Project, Variant};
use crate::shell::count;
use crate::tree::{Record, State, Tree};
use crate::{assemble, cargo, series, toolchain};

/// Checks every prefix of the series, the empty one included.
pub fn run(project: &Project) -> Result<()> {
    toolchain::check()?;
    let patches = series::read(&project.patches())?;
    let _lock = Lock::exclusive(project, Variant::Prefix)?;
    let tree = Tree::new(&project.tree(Variant::Prefix))?;
    // Nobody works in this tree.
    if let State::Worked(record, _) = tree.state()? {
        tree.discard(&record)?;
    }
    let whole = assemble::bring(project, &tree, &patches, patches.len())?;
    toolchain::note_if_older(tree.dir())?;
    check_format(&tree, &whole)?;
    let last = patches.len();
    for number in 0..=last {
        let name = match number.checked_sub(1) {
            Some(index) => patches[index].name.as_str(),
            None => "the released crate",
        };
        status!("Checking", "prefix {number} of {last}: {name}");
        let mut prefix = whole.clone();
        prefix.commits.truncate(number);
        tree.move_to(&prefix)?;
        let mut command = cargo::in_tree(project, Variant::Prefix, "check", &tree)?;
        command.args(["--bin", "cargo"]);
        cargo::run(command, "cargo check", |line| println!("{line}")).with_context(|| {
            let patches = count(number, "patch", "patches");
            format!("the series does not compile up to {name} ({patches})")
        })?;
    }
    let prefixes = count(last + 1, "prefix", "prefixes");
    status!("Finished", "{prefixes} compile");
    Ok(())
}

/// Checks that rustfmt leaves every file as each patch leaves it.
///
/// Files go through stdin: rustfmt would follow the `mod` items of a file that it opens itself.
fn check_format(tree: &Tree, record: &Record) -> Result<()> {
    let shell = Shell::new()?;
    let (git, config) = (tree.git(), tree.dir().join("rustfmt.toml"));
    status!("Checking", "that each patch is formatted");
    let mut unformatted = Vec::new();
    for (commit, patch) in std::iter::zip(&record.commits, &record.patches) {
        let parent = format!("{commit}^");
        let files = ["diff", "--name-only", "--diff-filter=d", &parent, commit];
        let files = git.run(&files)?;
        for file in files.lines().filter(|file| file.ends_with(".rs")) {
            let text = git.text(&["show", &format!("{commit}:{file}")])?;
            let rustfmt = cmd!(shell, "rustfmt --edition 2024 --config-path {config}");
            let formatted = rustfmt.stdin(&text).output().with_context(|| {
                format!(
                    "rustfmt failed on {file} of {}; `rustup component add rustfmt` installs it",
                    patch.name
                )
            })?;
            if formatted.stdout != text.as_bytes() {
                unformatted.push(format!("{}: {file}", patch.name));
            }
        }
    }
    if !unformatted.is_empty() {
        let files = unformatted.join("\n");
        bail!("these files are not formatted by rustfmt:\n{files}");
    }
    Ok(())
}
