//! Counts tests in what libtest prints, in all and for each broker. Decides nothing about what is enough.

/// How the names of tests end that run on the embedded broker.
pub(crate) const ON_EMBEDDED: &str = "on_embedded_broker";

/// How the names of tests end that run on Apache Kafka.
pub(crate) const ON_KAFKA: &str = "on_kafka";

/// What was counted.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Tests that passed.
    pub(crate) passed: usize,
    /// Names of those that failed.
    pub(crate) failed: Vec<String>,
    /// Passed or failed, on the embedded broker.
    pub(crate) on_embedded: usize,
    /// Passed or failed, on Apache Kafka.
    pub(crate) on_kafka: usize,
}

/// What a line of output is to whoever watches.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A test that passed, or libtest's frame: nothing to look at.
    Routine,
    /// Everything else.
    Telling,
}

impl Tally {
    /// Takes one line in.
    pub(crate) fn line(&mut self, line: &str) -> Line {
        let Some((name, outcome)) = result(line) else {
            let frame = line.trim().is_empty() || line.starts_with("running ") || line.starts_with("test result: ok");
            return if frame { Line::Routine } else { Line::Telling };
        };
        let failed = outcome.starts_with("FAILED");
        if failed {
            self.failed.push(name.to_owned());
        } else if outcome.starts_with("ok") {
            self.passed += 1;
        } else {
            return Line::Telling;
        }
        if last_part(name) == ON_EMBEDDED {
            self.on_embedded += 1;
        } else if last_part(name) == ON_KAFKA {
            self.on_kafka += 1;
        }
        if failed { Line::Telling } else { Line::Routine }
    }
}

/// The name and the outcome in `test module::name ... ok`.
fn result(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("test ")?.rsplit_once(" ... ")
}

fn last_part(name: &str) -> &str {
    let name = name.split(" - ").next().unwrap_or(name);
    name.rsplit("::").next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_counted_by_their_names() {
        let mut tally = Tally::default();
        let output = "\n\
            running 6 tests\n\
            test cli::tests::help ... ok\n\
            test order_holds::on_embedded_broker ... ok\n\
            test order_holds::on_kafka ... FAILED\n\
            test nothing_on_kafka_depends ... ok\n\
            test plugin-sdk/src/lib.rs - (line 12) ... ok\n\
            test plugin-sdk/src/lib.rs - (line 40) - compile ... ok\n\
            test result: FAILED. 5 passed; 1 failed\n";
        let telling: Vec<&str> = output.lines().filter(|line| tally.line(line) == Line::Telling).collect();
        assert_eq!(telling, ["test order_holds::on_kafka ... FAILED", "test result: FAILED. 5 passed; 1 failed"]);
        assert_eq!((tally.passed, tally.on_embedded, tally.on_kafka), (5, 1, 1));
        assert_eq!(tally.failed, ["order_holds::on_kafka"]);
    }
}
