//! What an operator may ask of a running host: orders, and how they are answered. Carries them to the one task that changes
//! what is live; never carries one out.

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::hands::Target;
use crate::data::shard::Wish;

/// Orders are taken one at a time, and each may wait for a compile: whoever finds so many before him had better look at what
/// goes on.
const WAITING_MAX: usize = 16;

/// Shorter prefixes of versions are too easily those of another one.
const PREFIX_DIGITS_MIN: usize = 4;
const VERSION_DIGITS: usize = 64;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Compare the config and the plugin directory with what is live, now.
    Reload,
    /// Publish an older generation's contents as the next one, and hold them.
    Rollback {
        /// None: the generation before the live one.
        to: Option<u64>,
    },
    /// End the hold of a rollback.
    Resume,
    /// Keep a plugin at one version.
    Pin {
        /// Its name.
        plugin: String,
        /// Its first hexadecimal digits, lower case. None: the live one.
        version: Option<String>,
    },
    /// End a pin.
    Unpin {
        /// Its name.
        plugin: String,
    },
    /// Publish an older version of a plugin, until different bytes than the present ones are in the directory.
    RollbackPlugin {
        /// Its name.
        plugin: String,
        /// Its first hexadecimal digits, lower case. None: the version that was live before.
        to: Option<String>,
    },
    /// Make a candidate the live version now.
    Promote {
        /// Its name.
        plugin: String,
    },
    /// End a candidate's trial.
    Abort {
        /// Its name.
        plugin: String,
    },
    /// Have a route's group take nothing more of the partitions that the route reads, on this host.
    PauseRoute {
        /// Its name, or its id.
        route: String,
    },
    /// End that, and trust the route again if too much of it failed.
    ResumeRoute {
        /// Its name, or its id.
        route: String,
    },
    /// Do something about a partition that has stopped.
    Partition {
        /// Which.
        target: Target,
        /// What.
        wish: Wish,
    },
}

/// An order was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The generation that is live now.
    pub generation: u64,
    /// Whether it is another one than before.
    pub changed: bool,
    /// What was done, in a sentence.
    pub message: String,
}

/// Which kind of no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// What is asked for, or what would become live, is not acceptable.
    Refused,
    /// There is no such plugin, version or generation.
    Unknown,
    /// It contradicts what holds now, or too much is being done already.
    Conflict,
    /// It takes the broker, which doesn't answer.
    Unanswered,
    /// The host is about to end.
    Stopping,
}

/// An order was not carried out, and nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Which kind.
    pub kind: RefusalKind,
    /// Why, and what to do.
    pub message: String,
}

impl Refusal {
    /// A refusal with its reason.
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    fn stopping() -> Self {
        Self::new(RefusalKind::Stopping, "the host is stopping, and takes no orders any more")
    }
}

/// An order on its way, and where the answer goes. Whoever asked may have gone: then the answer is for nobody, and the order
/// is carried out all the same.
#[derive(Debug)]
pub struct Request {
    /// What is asked for.
    pub order: Order,
    /// Takes the answer.
    pub reply: oneshot::Sender<Result<Done, Refusal>>,
}

/// Where orders are given; clones lead to the same place.
#[derive(Debug, Clone)]
pub struct Orders(mpsc::Sender<Request>);

/// A way for orders, and its end, which takes them one at a time. Orders are refused once the end is dropped.
pub fn channel() -> (Orders, mpsc::Receiver<Request>) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (Orders(sender), receiver)
}

impl Orders {
    /// Gives an order, and waits until it is carried out.
    ///
    /// # Errors
    /// When it is refused: by whoever carries it out, because too many wait, or because nobody takes orders any more.
    pub async fn ask(&self, order: Order) -> Result<Done, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.0.try_send(Request { order, reply }).map_err(|error| match error {
            TrySendError::Full(_) => Refusal::new(
                RefusalKind::Conflict,
                format!("{WAITING_MAX} orders wait for the host already; try again when it has caught up"),
            ),
            TrySendError::Closed(_) => Refusal::stopping(),
        })?;
        answer.await.unwrap_or_else(|_| Err(Refusal::stopping()))
    }
}

/// The prefix of a version as people give it, in lower case.
///
/// # Errors
/// When it can't be one: what was expected.
pub fn version_prefix(text: &str) -> Result<String, String> {
    let prefix = text.to_ascii_lowercase();
    let is_hex = prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex && (PREFIX_DIGITS_MIN..=VERSION_DIGITS).contains(&prefix.len()) {
        return Ok(prefix);
    }
    Err(format!(
        "`{}` is no version, expected {PREFIX_DIGITS_MIN} to {VERSION_DIGITS} hexadecimal digits: the first ones of a plugin's \
         SHA-256",
        text.escape_debug()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(message: &str) -> Done {
        Done { generation: 4, changed: true, message: message.to_owned() }
    }

    #[tokio::test]
    async fn an_order_is_answered_by_whoever_takes_it() {
        let (orders, mut receiver) = channel();
        let taker = tokio::spawn(async move {
            while let Some(request) = receiver.recv().await {
                let answer = match request.order {
                    Order::Resume => Err(Refusal::new(RefusalKind::Conflict, "nothing is held")),
                    order => Ok(done(&format!("{order:?}"))),
                };
                request.reply.send(answer).expect("somebody waits");
            }
        });
        assert_eq!(orders.ask(Order::Reload).await, Ok(done("Reload")));
        assert_eq!(orders.ask(Order::Resume).await, Err(Refusal::new(RefusalKind::Conflict, "nothing is held")));
        drop(orders);
        taker.await.expect("it ends with the last sender");
    }

    #[tokio::test]
    async fn an_order_that_nobody_takes_is_refused() {
        let (orders, receiver) = channel();
        drop(receiver);
        assert_eq!(orders.ask(Order::Reload).await, Err(Refusal::stopping()));
        let (orders, mut receiver) = channel();
        let forgets = async { drop(receiver.recv().await) };
        let (answer, ()) = tokio::join!(orders.ask(Order::Reload), forgets);
        assert_eq!(answer, Err(Refusal::stopping()));
    }

    #[tokio::test]
    async fn orders_do_not_pile_up() {
        let (orders, _receiver) = channel();
        let waiting: Vec<_> = (0..WAITING_MAX).map(|_| orders.ask(Order::Reload)).collect();
        let mut waiting = waiting.into_iter().map(Box::pin).collect::<Vec<_>>();
        for order in &mut waiting {
            assert!(futures_poll(order).is_pending());
        }
        let refusal = orders.ask(Order::Reload).await.expect_err("no more room");
        assert_eq!(refusal.kind, RefusalKind::Conflict);
    }

    fn futures_poll<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
        std::pin::Pin::new(future).poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    }

    #[test]
    fn versions_are_named_by_their_first_digits() {
        assert_eq!(version_prefix("AB12"), Ok("ab12".to_owned()));
        assert_eq!(version_prefix(&"f".repeat(64)), Ok("f".repeat(64)));
        for text in ["", "ab1", "v1.2", "ab12…", &"f".repeat(65)] {
            let message = version_prefix(text).expect_err(text);
            assert!(message.contains(&format!("`{text}`")), "{message}");
        }
    }
}
