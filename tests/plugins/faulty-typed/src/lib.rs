//! A plugin that does whatever its events order, through the typed interface (`processor`) and wit-bindgen alone, for
//! tests of the host. It is never part of a product, and natively it is empty.
//!
//! The first word of an event's value is the order; further words are ignored. An event that orders nothing known is good:
//! its value in upper case goes to `default`, with the header `typed: yes` behind its own.
//!
//! | order | what happens |
//! |---|---|
//! | `same` | key, value and headers as they are |
//! | `drop` | no output |
//! | `twice` | the good output, and again |
//! | `trap` | `unreachable` |
//! | `panic` | a Rust panic, its message nowhere |
//! | `loop` | never ends |
//! | `leak` | allocates 1 MiB and never frees it, then good |
//! | `poison` | good, but the next event of this instance traps, whatever it orders |
//! | `transient`, `permanent` | fails |
//! | `transient:N` | fails while the attempt is below N |
//! | `failure-bytes` | fails with a message of 12 MiB |
//! | `verdicts-fewer`, `verdicts-more` | the list of verdicts is one short, or one long |
//! | `verdicts-none` | the list of verdicts is empty |
//! | `giant` | one value of 12 MiB |
//! | `giant-name` | one header name of 12 MiB |
//! | `aliases` | 10,000 outputs whose values are the same 1 MiB |
//! | `outputs` | 20,000 outputs |
//! | `port-unknown` | an output to a port that isn't described |
//! | `port-unbound` | an output to the port `spare`, which is described |
//! | `partition` | an output to partition 4,294,967,295 |
//! | `log` | a million lines of log, then good |
//!
//! A config that says `"configure":"fail"`, `"trap"` or `"loop"` has `configure` do so.

#[cfg(target_family = "wasm")]
mod component;
