//! A plugin whose outputs show which version of it made them, for tests of the host. It is never part of a product.
//!
//! Every event is forwarded twice, each time with the mark of the version in the header `mark`. The mark stands in the built
//! file once, as it stands here: who overwrites its digits there has another version, without a compiler.

use std::hint::black_box;

use midplane_plugin::{Event, Failure, NoConfig, Outputs, Plugin, Ports, plugin};

/// The mark, before anybody overwrites its digits.
pub static MARK: [u8; 16] = *b"marker-000000000";

/// The plugin.
pub struct Marker;

impl Plugin for Marker {
    type Config = NoConfig;

    fn configure(_config: NoConfig, _ports: &Ports) -> Result<Self, String> {
        Ok(Self)
    }

    fn process(&mut self, _event: Event<'_>, out: &mut Outputs<'_>) -> Result<(), Failure> {
        // Read anew each time: the optimiser must not know the digits.
        let mark = black_box(&MARK);
        for _ in 0..2 {
            out.emit("default").header("mark", mark).send();
        }
        Ok(())
    }
}

plugin!(Marker);

#[cfg(test)]
mod tests {
    use midplane_plugin::test::{Harness, Record, json};

    use super::{MARK, Marker};

    #[test]
    fn every_output_has_the_mark() {
        let outputs = Harness::<Marker>::new(json!({})).unwrap().outputs(Record::new().key("k").value("v"));
        assert_eq!(outputs.len(), 2);
        for output in outputs {
            assert_eq!((output.key_text(), output.text()), ("k", "v"));
            assert_eq!(output.headers, [(b"mark".to_vec(), Some(MARK.to_vec()))]);
        }
    }
}
