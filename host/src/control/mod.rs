//! The control plane: generations, start and stop, the admin surface. Never touches an event.

pub mod address;
pub mod admin;
pub mod broker;
pub mod build;
pub mod config_view;
pub mod data_directory;
pub mod decisions;
mod durable;
pub mod generation;
pub mod logging;
pub mod order;
pub mod overview;
pub mod plan;
pub mod plugins;
pub mod run;
pub mod shards;
pub mod status;
pub mod store;
pub mod topics;
