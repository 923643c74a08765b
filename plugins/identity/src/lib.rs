//! Sends every event on as it is: for measurements, and as the smallest plugin that there is.

use midplane_plugin::{Event, Failure, NoConfig, Outputs, Plugin, Ports, plugin};

/// The plugin.
pub struct Identity;

impl Plugin for Identity {
    type Config = NoConfig;

    fn configure(_config: NoConfig, _ports: &Ports) -> Result<Self, String> {
        Ok(Identity)
    }

    fn process(&mut self, _event: Event<'_>, out: &mut Outputs<'_>) -> Result<(), Failure> {
        out.forward();
        Ok(())
    }
}

plugin!(Identity);

#[cfg(test)]
mod tests {
    use midplane_plugin::test::{Harness, Record, json};

    use super::Identity;

    #[test]
    fn everything_is_carried_on() {
        let mut identity = Harness::<Identity>::new(json!({})).unwrap();
        let output = identity.one(Record::new().key("k").value([0, 0xff]).header("h", "1").null_header("h"));
        assert_eq!((output.port.as_str(), output.key_text()), ("default", "k"));
        assert_eq!(output.value.as_deref(), Some(&[0, 0xff][..]));
        assert_eq!(output.headers, [(b"h".to_vec(), Some(b"1".to_vec())), (b"h".to_vec(), None)]);
    }

    #[test]
    fn a_tombstone_stays_one() {
        let output = Harness::<Identity>::new(json!({})).unwrap().one(Record::new().key("gone"));
        assert_eq!(output.value, None);
    }

    #[test]
    fn there_is_nothing_to_configure() {
        let error = Harness::<Identity>::new(json!({"speed": 11})).map(drop).unwrap_err();
        assert!(error.starts_with("unknown key `speed`"), "{error}");
    }
}
