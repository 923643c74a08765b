//! The `midplane` process in outline: one command line, one exit code. Everything else is the library's.

use std::process::ExitCode;

/// librdkafka's allocations are served by it too (the crate's `override`): they are most of those on an event's path.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    midplane::cli::main().into()
}
