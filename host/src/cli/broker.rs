//! `midplane broker`: the embedded broker in a process of its own, for machines where it must outlive the host's restarts.
//! Runs no route.

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;

use super::{ConfigArgs, Exit, Failure};
use crate::config::model::{self, Config};
use crate::control::broker::{self, Broker};
use crate::control::logging::{self, Format};
use crate::control::shards::error_chain;

/// `midplane broker`
#[derive(Debug, Args)]
#[command(after_help = "\
It serves what `[embedded_broker]` in the config says. Hosts on this machine
then name it as any Kafka, in a config of their own:

  [broker]
  bootstrap_servers = \"127.0.0.1:9092\"")]
pub(super) struct BrokerArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// How the log on standard error is written
    #[arg(long, value_enum, default_value_t)]
    log_format: Format,
}

pub(super) fn run(args: &BrokerArgs) -> Result<Exit, Failure> {
    let config = args.config.load_with_warnings()?.config;
    if let model::Broker::Kafka(_) = config.broker {
        return Err(Failure::refused(format!(
            "`{}` names a Kafka in `[broker]`, and leaves nothing to serve; expected `[embedded_broker]`, or neither table",
            args.config.config.display()
        )));
    }
    logging::start(args.log_format, Level::INFO).map_err(Failure::usage)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(&config))
}

/// Serves until SIGTERM or SIGINT; a second one ends it at once, which costs the next start some time and nothing else.
async fn serve(config: &Config) -> Result<Exit, Failure> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let failed = |error: broker::Error| Failure::failed(error_chain(&error));
    let broker = Broker::open(config).await.map_err(failed)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("Broker stops.");
    tokio::select! {
        closed = broker.close() => closed.map(|()| Exit::Done).map_err(failed),
        _ = terminate.recv() => Ok(Exit::NotClean),
        _ = interrupt.recv() => Ok(Exit::NotClean),
    }
}
