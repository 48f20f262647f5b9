//! The simulator's program: runs seeds, shows one, makes a failing one smaller.

mod program;

use std::process::ExitCode;

fn main() -> ExitCode {
    program::main()
}
