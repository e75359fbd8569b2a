//! `cargo xtask prefixes`: checks that each patch compiles on those before it.

use anyhow::{Context, Result};

use crate::lock::Lock;
use crate::project::{Project, Variant};
use crate::shell::{self, count};
use crate::tree::{State, Tree};
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
    let last = patches.len();
    for number in 0..=last {
        let name = match number.checked_sub(1) {
            Some(index) => patches[index].name.as_str(),
            None => "the released crate",
        };
        shell::status(
            "Checking",
            format_args!("prefix {number} of {last}: {name}"),
        );
        let mut prefix = whole.clone();
        prefix.commits.truncate(number);
        tree.move_to(&prefix)?;
        let mut command = cargo::in_tree(project, Variant::Prefix, "check", &tree)?;
        command.args(["--bin", "cargo"]);
        cargo::run(command, "cargo check", |line| println!("{line}")).with_context(|| {
            format!(
                "the series does not compile up to {name} ({})",
                count(number, "patch", "patches")
            )
        })?;
    }
    shell::status(
        "Finished",
        format_args!("{} compile", count(last + 1, "prefix", "prefixes")),
    );
    Ok(())
}
