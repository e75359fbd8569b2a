//! Writes a table of the days before each month.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Seen by the build scripts of crates that depend on this one, as `DEP_CALENDAR_MONTHS`.
    println!("cargo::metadata=months=12");
    let lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut table = String::from("[");
    let mut days = 0;
    for length in lengths {
        write!(table, "{days}, ").expect("a string can be written to");
        days += length;
    }
    table.push(']');
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(PathBuf::from(out).join("before.rs"), table).expect("OUT_DIR can be written to");
}
