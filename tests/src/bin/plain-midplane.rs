//! The program without an allocator of its own, for tests of its memory. The real one's keeps pages by thread and by size, so that
//! it holds fifty megabytes more or less at any time, and a leak of a few bytes is not to be seen; the system's gives back what is
//! free.

use std::process::ExitCode;

fn main() -> ExitCode {
    midplane::cli::main().into()
}
