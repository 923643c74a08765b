//! The plugin's log, which the host writes with plugin and route as fields. A host cuts what is more than the operator
//! allows; it never fails an event for it.

use std::fmt::Display;

use crate::imports;

/// How much a message matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every step, for whoever debugs the plugin.
    Trace,
    /// What whoever debugs a route wants to know.
    Debug,
    /// What operators want to know.
    Info,
    /// What operators should look at.
    Warn,
    /// What operators must look at.
    Error,
}

/// Logs a constant message with what varies as fields.
///
/// ```
/// use midplane_plugin::log;
/// log::log(log::Level::Warn, "Unknown currency.", &[("currency", &"XTS")]);
/// ```
pub fn log(level: Level, message: &str, fields: &[(&str, &dyn Display)]) {
    let fields: Vec<(String, String)> =
        fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect();
    imports::log(level, message, &fields);
}

macro_rules! levels {
    ($($name:ident = $level:ident,)*) => {$(
        #[doc = concat!("Logs at [`Level::", stringify!($level), "`]; see [`log`].")]
        pub fn $name(message: &str, fields: &[(&str, &dyn Display)]) {
            log(Level::$level, message, fields);
        }
    )*};
}

levels! {
    trace = Trace,
    debug = Debug,
    info = Info,
    warn = Warn,
    error = Error,
}
