//! What runs between cargo, rustc and the linker while a build is recorded; see `replay::stand_in`.

use std::process::ExitCode;

fn main() -> ExitCode {
    match replay::stand_in::run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: stand-in: {error:#}");
            ExitCode::from(101)
        }
    }
}
