//! The harness of the tests of the whole: brokers, records, the real program as a process. Asserts nothing about the
//! product by itself, and kills nothing that it did not start.
//!
//! A test that must hold on every broker is written once:
//!
//! ```
//! use midplane_tests::{Broker, on_each_broker};
//!
//! on_each_broker!(fn a_topic_is_empty_at_first(broker: &Broker) {
//!     let topic = broker.topic("empty", 2);
//!     assert_eq!(broker.consume_all(&topic), []);
//! });
//! # fn main() {}
//! ```

pub mod access;
pub mod ask;
pub mod binary;
pub mod broker;
pub mod checker;
pub mod clock;
pub mod host;
pub mod http;
pub mod own;
pub mod payments;
pub mod plugins;
pub mod proxy;
pub mod random;
pub mod records;
pub mod scope;
pub mod signing;
pub mod simulation;
pub mod usage;
pub mod wait;

pub use broker::Broker;
pub use host::{Folder, Host};
pub use records::Record;
pub use scope::Scope;
pub use wait::{DEADLINE, wait_until};

/// One test body as two tests, `NAME::on_embedded_broker` and `NAME::on_kafka`: `cargo verify` counts them by these names.
#[macro_export]
macro_rules! on_each_broker {
    ($(#[$attribute:meta])* fn $name:ident($broker:ident: &Broker) $body:block) => {
        $(#[$attribute])*
        fn $name($broker: &$crate::Broker) $body

        mod $name {
            #[test]
            fn on_embedded_broker() {
                super::$name(&$crate::Broker::embedded());
            }

            #[test]
            fn on_kafka() {
                super::$name(&$crate::Broker::kafka());
            }
        }
    };
}
