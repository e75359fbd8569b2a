//! `cargo xtask prefixes`: each patch compiles on top of those before it.

use anyhow::{Context, Result};

use crate::assemble;
use crate::cargo::{self, Network};
use crate::layout::{Layout, Variant};
use crate::lock::Lock;
use crate::series::Series;
use crate::shell::{self, count};
use crate::toolchain;
use crate::tree::{State, Tree};

/// Checks every prefix of the series, the empty one included.
pub fn run(layout: &Layout, network: Network) -> Result<()> {
    toolchain::check()?;
    let patches = Series::read(&layout.patches())?.patches;
    let _lock = Lock::exclusive(layout, Variant::Prefix)?;
    let tree = Tree::new(&layout.tree(Variant::Prefix))?;
    // Nobody works in this tree.
    if let State::Worked(record, _) = tree.state()? {
        tree.discard(&record)?;
    }
    let whole = assemble::bring(layout, &tree, &patches, patches.len(), network)?;
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
        tree.move_to(&whole.first(number))?;
        let mut command =
            cargo::in_tree(layout, Variant::Prefix, "check", &tree.version()?, network)?;
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
