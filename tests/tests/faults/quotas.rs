//! Quotas of the broker's: what each of the host's clients may read and write in a second, and take of the broker's time.

use midplane_tests::ask::set_quotas;
use midplane_tests::wait::{DEADLINE, wait_until};
use midplane_tests::{Broker, Host};
use serde_json::Value;

use crate::case::{Case, both};

const SAID: &str = "The broker holds a client back: its quota is used up.";

/// The embedded broker has none.
mod a_host_that_is_beyond_its_quotas {
    use super::*;

    #[test]
    fn on_kafka() {
        let broker = Broker::kafka();
        let mut case = Case::start(&broker, both());
        let groups: Vec<_> = case.payments.groups().map(str::to_owned).collect();
        let limit = |case: &Case<'_>, quotas: &[(&str, Option<f64>)]| {
            groups.iter().for_each(|group| set_quotas(broker.servers(), &case.client_id(group), quotas));
        };
        limit(&case, &[("request_percentage", Some(20.0))]);
        // Less than each reads and writes of so many events, in the ten seconds that the broker looks back.
        for (client, quota, bytes) in
            [("producer", "producer_byte_rate", 30e3), ("consumer", "consumer_byte_rate", 18e3)]
        {
            limit(&case, &[(quota, Some(bytes))]);
            case.work();
            for group in &groups {
                let is_counted = || throttled(&case.host, group, client) > 0.0;
                wait_until("the metrics say that the broker holds a client back", DEADLINE, is_counted);
                let is_said = |entry: &Value| entry["shard"] == format!("{group}/0") && entry["client"] == client;
                wait_until("the log says it", DEADLINE, || case.host.entries(SAID).iter().any(is_said));
            }
            if client == "producer" {
                // What is written at once is more than gets through while a transaction may take.
                case.payments.wait_settled();
            }
            limit(&case, &[(quota, None)]);
        }
        limit(&case, &[("request_percentage", None)]);
        let lost = case.host.lost_partitions();
        case.finish();
        assert_eq!(lost, 0, "no member was missed");
    }
}

/// For how many seconds the metrics say that a group's clients were held back.
fn throttled(host: &Host, group: &str, client: &str) -> f64 {
    let name = format!("midplane_throttled_seconds_total{{group=\"{group}\",client=\"{client}\"}} ");
    let text = host.get("/metrics").body;
    let value = text.lines().find_map(|line| line.strip_prefix(&name)).expect("a number that is always there");
    value.parse().expect("a number")
}
