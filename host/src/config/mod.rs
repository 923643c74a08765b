//! The config file: parsed as it stands, validated whole, and only then built into the values that the rest works with.

pub mod model;
