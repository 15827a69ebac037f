//! Parse and dispatch.

use std::process::ExitCode;

fn main() -> ExitCode {
    heddle_agent::cli::main()
}
