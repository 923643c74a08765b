//! The control plane: generations, start and stop, the admin surface. Never touches an event.

pub mod address;
pub mod admin;
pub mod broker;
pub mod build;
pub mod config_view;
pub mod data_directory;
pub mod decisions;
pub mod describe;
mod durable;
pub mod first;
pub mod generation;
pub mod hands;
pub mod logging;
pub mod metrics;
pub mod obey;
pub mod order;
pub mod overview;
pub mod partitions;
pub mod plan;
pub mod plugins;
pub mod prepare;
pub mod publish;
pub mod reload;
pub mod rollout;
pub mod run;
pub mod shards;
pub mod signature;
pub mod status;
pub mod stopped;
pub mod store;
pub mod topics;
pub mod tryout;
pub mod versions;
pub mod watch;

/// Runs something that blocks, apart from the control plane's own tasks.
async fn blocking<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(job).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
