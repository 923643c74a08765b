//! The engine's decisions: `step(input, now) -> actions`, deterministic, without I/O.
