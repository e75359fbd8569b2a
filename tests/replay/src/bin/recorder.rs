//! What cargo runs in the place of rustc, and rustc in that of the linker; see `replay::recorder`.

use std::process::ExitCode;

fn main() -> ExitCode {
    match replay::recorder::run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: recorder: {error:#}");
            ExitCode::from(101)
        }
    }
}
