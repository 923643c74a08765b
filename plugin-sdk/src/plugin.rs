//! What a plugin's author implements. It never touches how events cross into the guest.

use serde::de::DeserializeOwned;

use crate::{Event, Failure, Outputs};

/// A plugin: a function from one event to its outputs, with a configuration.
///
/// A value of it is made for each instance, and an instance may be dropped and made again between any two events:
/// fields are for what `configure` prepared and for buffers to reuse, never for what earlier events said.
pub trait Plugin: Sized {
    /// Every port that [`Plugin::process`] may name. A route binds them to topics.
    const PORTS: &'static [&'static str] = &["default"];

    /// What the route's `config` table deserialises into: any type that serde can make, or [`NoConfig`].
    type Config: FromConfig;

    /// A JSON Schema of [`Plugin::Config`], which `midplane check` holds a route's `config` against. Optional.
    fn config_schema() -> Option<&'static str> {
        None
    }

    /// Makes an instance. `ports` are those that the route binds.
    ///
    /// # Errors
    /// What is wrong with the configuration, for the operator who wrote it. The config is then refused.
    fn configure(config: Self::Config, ports: &Ports) -> Result<Self, String>;

    /// Processes one event. Sending no output drops it, deliberately.
    ///
    /// # Errors
    /// Why the event can't be processed; what it sent to `out` until then is discarded. Errors of any type become
    /// [`Failure::permanent`] through `?`.
    fn process(&mut self, event: Event<'_>, out: &mut Outputs<'_>) -> Result<(), Failure>;
}

/// What a configuration can be made from: every type that serde can make is.
pub trait FromConfig: Sized {
    /// Makes it from a JSON object.
    ///
    /// # Errors
    /// What is wrong with it, for the operator who wrote it.
    fn from_json(json: &str) -> Result<Self, String>;
}

impl<T: DeserializeOwned> FromConfig for T {
    fn from_json(json: &str) -> Result<Self, String> {
        serde_json::from_str(json).map_err(|error| without_position(&error.to_string()).to_owned())
    }
}

/// The config was TOML and became JSON on one line: a position in that would mislead.
fn without_position(message: &str) -> &str {
    message.rfind(" at line ").map_or(message, |end| &message[..end])
}

/// The configuration of a plugin that has none: any key is refused. It brings no JSON parser along, which makes half the
/// size of a small plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoConfig;

impl FromConfig for NoConfig {
    fn from_json(json: &str) -> Result<Self, String> {
        // Only the name is told: what stands behind it may be a secret.
        match json.split('"').nth(1) {
            None => Ok(Self),
            Some(key) => Err(format!("unknown key `{key}`: this plugin has nothing to configure")),
        }
    }
}

/// The ports that the route binds to topics. An output to any other fails its event.
#[derive(Debug, Clone, Default)]
pub struct Ports {
    bound: Vec<String>,
}

impl Ports {
    pub(crate) fn new(bound: Vec<String>) -> Self {
        Self { bound }
    }

    /// Whether the route binds a port.
    pub fn has(&self, port: &str) -> bool {
        self.bound.iter().any(|bound| bound == port)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.bound.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::{FromConfig, NoConfig, without_position};

    #[test]
    fn positions_in_generated_json_are_left_out() {
        assert_eq!(without_position("missing field `limit` at line 1 column 2"), "missing field `limit`");
        assert_eq!(without_position("missing field `limit`"), "missing field `limit`");
    }

    #[test]
    fn nothing_to_configure_takes_an_empty_object_only() {
        assert!(NoConfig::from_json(" { } ").is_ok());
        let error = NoConfig::from_json(r#"{"password":"hunter2"}"#).unwrap_err();
        assert_eq!(error, "unknown key `password`: this plugin has nothing to configure");
    }
}
