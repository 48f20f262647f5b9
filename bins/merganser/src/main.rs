//! `merganser`: a node, a development cluster, and the command line of both.

mod commands;
mod demo;
mod options;
mod output;

use std::process::ExitCode;

use clap::Parser as _;

/// Requests allocate and free many small pieces, on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let options = options::Options::parse();
    match commands::run(options) {
        Ok(code) => code,
        Err(error) => {
            output::complain(format_args!("merganser: {}", commands::describe(&error)));
            commands::exit_code(&error)
        }
    }
}
