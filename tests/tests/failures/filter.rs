//! Filters that can't be evaluated: `on_filter_error`. What is absent is no error.

use midplane_tests::on_each_broker;

use crate::case::{Case, Expected, orders, stop, texts};

const CONFIG: &str = r#"
[routes.letters]
from = "in~"
where = "event.json.amount >= 1000"
to = "out-letters~"
group = "group~"
failure = { dead_letter = "letters~" }

[routes.drops]
from = "in~"
where = "event.json.amount >= 1000"
on_filter_error = "drop"
to = "out-drops~"
group = "group~"
failure = { dead_letter = "no-letters~" }

[routes.matches]
from = "in~"
where = "event.json.amount >= 1000"
on_filter_error = "match"
to = "out-matches~"
group = "group~"
failure = { dead_letter = "no-letters~" }

[routes.headers]
from = "in~"
where = 'event.headers["missing"] == "x"'
to = "out-headers~"
group = "group~"
failure = { dead_letter = "no-letters~" }
"#;

on_each_broker!(
    fn filter_errors_go_where_the_route_says(broker: &Broker) {
        let case = Case::new(broker, CONFIG);
        case.create("in", 1);
        let (large, small, absent) = (r#"{"amount": 2000}"#, r#"{"amount": 5}"#, r#"{"other": 1}"#);
        let (text, broken) = (r#"{"amount": "a lot"}"#, r#"{"amount": 2000"#);
        case.produce("in", orders(0, &[large, small, text, absent, broken, large]));
        let host = case.folder.start();
        case.wait_for_end();
        let numbers = host.get("/metrics").body;
        for (result, count) in [("matched", 2), ("not-matched", 1), ("absent", 1), ("error", 2)] {
            let line = format!("midplane_filtered_events_total{{route=\"drops\",result=\"{result}\"}} {count}");
            assert!(numbers.lines().any(|found| found == line), "{line}: {numbers}");
        }
        stop(host);

        assert_eq!(texts(&case.all("out-letters")), [large, large]);
        assert_eq!(texts(&case.all("out-drops")), [large, large]);
        assert_eq!(texts(&case.all("out-matches")), [large, text, broken, large]);
        assert_eq!(case.all("out-headers"), []);
        assert_eq!(case.all("no-letters"), []);
        let (events, letters) = (case.all("in"), case.all("letters"));
        assert_eq!(texts(&letters), [text, broken]);
        let expected = Expected { kind: "filter", route: "letters", plugin: None, attempts: 1 };
        case.check_letter(&letters[0], &events[2], &expected);
        case.check_letter(&letters[1], &events[4], &expected);
    }
);
