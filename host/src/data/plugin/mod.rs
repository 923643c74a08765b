//! Plugins: loading, verifying and compiling them, and calling them with batches under limits.

pub mod verdicts;
