//! Brings in the queue of the released cargo from the tree that `RELEASED_CARGO` names. Without it there is
//! nothing to compare with, and everything else compiles all the same.

use std::path::Path;
use std::{env, fs, io};

/// Names the directory of the released cargo's source.
const VARIABLE: &str = "RELEASED_CARGO";
/// Where the queue is in it.
const QUEUE: &str = "src/util/dependency_queue.rs";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    println!("cargo::rustc-check-cfg=cfg(released)");
    let (Some(tree), Some(out)) = (env::var_os(VARIABLE), env::var_os("OUT_DIR")) else {
        return Ok(());
    };
    let queue = Path::new(&tree).join(QUEUE);
    if !queue.is_file() {
        println!(
            "cargo::error={VARIABLE} has to name the source of the released cargo: there is no {}",
            queue.display()
        );
        return Ok(());
    }
    println!("cargo::rerun-if-changed={}", queue.display());
    println!("cargo::rustc-cfg=released");
    // A module of its own, as it is one there: `include!` takes no file that documents itself.
    let module = format!(
        "#[path = {:?}]\n#[allow(clippy::all, clippy::unwrap_used, dead_code, missing_docs)]\nmod dependency_queue;\n",
        queue.display().to_string()
    );
    fs::write(Path::new(&out).join("dependency_queue.rs"), module)
}
