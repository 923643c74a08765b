//! Several routes, groups and patterns: who gets which events, in which order, from where on.

use midplane_tests::checker::{Maker, Origin, Product};
use midplane_tests::wait::{DEADLINE, wait_until};
use midplane_tests::{Broker, Folder, Record, on_each_broker};

fn numbered(from: usize, to: usize) -> impl Iterator<Item = Record> {
    (from..to).map(|number| Record::new("k", number.to_string()).to(0))
}

fn values(records: &[Record]) -> Vec<usize> {
    records.iter().map(|record| record.text().parse().expect("a number")).collect()
}

/// `group` has committed everything of `topic`.
fn wait_settled(broker: &Broker, group: &str, topic: &str) {
    wait_until(&format!("the lag of {group} is 0"), DEADLINE, || broker.lag(group, topic) == 0);
}

on_each_broker!(
    fn routes_into_one_topic_keep_the_order_of_events_then_of_routes(broker: &Broker) {
        const EVENTS: usize = 3000;
        let [input, output, letters] = ["in", "out", "letters"].map(|stem| broker.topic(stem, 1));
        let group = broker.unique("order");
        let common =
            format!("from = '{input}'\nto = '{output}'\ngroup = '{group}'\nfailure = {{ dead_letter = '{letters}' }}");
        let folder = Folder::new(&format!(
            "{}\n[routes.zulu]\n{common}\nthrough = ['identity', 'identity']\n\
         [routes.alpha]\n{common}\n\
         [routes.mike]\n{common}\nthrough = 'faulty-typed'\nwhere = 'event.offset % 3 == 0'\n",
            broker.config()
        ));
        let event = |number: usize| Record::new("k", if number.is_multiple_of(2) { "twice" } else { "same" });
        broker.produce(&input, (0..EVENTS).map(event));
        let host = folder.start();
        wait_settled(broker, &group, &input);
        assert_eq!(host.stop(), Some(0));
        let expected = (0..EVENTS).flat_map(|number| {
            let mike = match number % 6 {
                0 => &[("mike", 0), ("mike", 1)][..],
                3 => &[("mike", 0)],
                _ => &[],
            };
            let routes = [("zulu", 0), ("alpha", 0)].into_iter().chain(mike.iter().copied());
            routes.map(move |(route, index)| (number as i64, route.to_owned(), Product::Output(index)))
        });
        let outputs = broker.consume_all(&output);
        let found = outputs.iter().map(|record| {
            let Origin { place, product } = Origin::of(record);
            (place.offset, Maker::of(record).route, product)
        });
        let (expected, found): (Vec<_>, Vec<_>) = (expected.collect(), found.collect());
        assert_eq!(expected.len(), found.len());
        let different = expected.iter().zip(&found).find(|(expected, found)| expected != found);
        assert_eq!(different, None);
        assert_eq!(broker.consume_all(&letters), []);
    }
);

on_each_broker!(
    fn each_group_gets_every_event(broker: &Broker) {
        const EVENTS: usize = 1000;
        let [input, one, two, letters] = ["in", "one", "two", "letters"].map(|stem| broker.topic(stem, 1));
        let groups = [broker.unique("one"), broker.unique("two")];
        let route = |name: &str, to: &str, group: &str| {
            format!(
                "[routes.{name}]\nfrom = '{input}'\nto = '{to}'\ngroup = '{group}'\nfailure = {{ dead_letter = '{letters}' }}\n"
            )
        };
        let folder = Folder::new(&format!(
            "{}\n{}\n{}",
            broker.config(),
            route("one", &one, &groups[0]),
            route("two", &two, &groups[1])
        ));
        let host = folder.start();
        broker.produce(&input, numbered(0, EVENTS));
        groups.iter().for_each(|group| wait_settled(broker, group, &input));
        assert_eq!(host.stop(), Some(0));
        let expected: Vec<_> = (0..EVENTS).collect();
        assert_eq!(values(&broker.consume_all(&one)), expected);
        assert_eq!(values(&broker.consume_all(&two)), expected);
    }
);

on_each_broker!(
    fn latest_skips_what_is_there_once_and_nothing_that_comes_later(broker: &Broker) {
        let (output, letters) = (broker.topic("out", 1), broker.topic("letters", 1));
        let (prefix, group) = (broker.unique("orders"), broker.unique("latest"));
        let [present, later] = ["de", "fr"].map(|country| format!("{prefix}.{country}"));
        broker.create(&present, 1, &[]);
        broker.produce(&present, numbered(0, 10));
        let folder = Folder::new(&format!(
            "{}\n[groups.{group}]\nstart = 'latest'\n[routes.latest]\nfrom = '/^{prefix}\\..*$/'\nto = '{output}'\n\
         group = '{group}'\nfailure = {{ dead_letter = '{letters}' }}\n",
            broker.config()
        ));
        let host = folder.start();
        broker.produce(&present, numbered(10, 20));
        assert_eq!(values(&broker.consume(&output, 10)), (10..20).collect::<Vec<_>>(), "what was there is skipped");

        // The host hasn't seen the topic yet when its first events are written.
        broker.create(&later, 1, &[]);
        broker.produce(&later, numbered(100, 110));
        let seen = broker.consume(&output, 20);
        assert_eq!(
            values(&seen[10..]),
            (100..110).collect::<Vec<_>>(),
            "what appears later is read from its first event"
        );
        assert_eq!(host.stop(), Some(0));

        broker.produce(&present, numbered(20, 30));
        broker.produce(&later, numbered(110, 120));
        let host = folder.start();
        for topic in [&present, &later] {
            wait_settled(broker, &group, topic);
        }
        assert_eq!(host.stop(), Some(0));
        let mut all = values(&broker.consume_all(&output));
        all.sort_unstable();
        assert_eq!(all, (10..30).chain(100..120).collect::<Vec<_>>(), "a restart skips nothing");
    }
);

on_each_broker!(
    fn a_pattern_may_match_nothing_for_a_while(broker: &Broker) {
        let (output, letters) = (broker.topic("out", 1), broker.topic("letters", 1));
        let (prefix, group) = (broker.unique("orders"), broker.unique("pattern"));
        let [first, second] = ["de", "fr"].map(|country| format!("{prefix}.{country}"));
        broker.create(&first, 1, &[]);
        let folder = Folder::new(&format!(
            "{}\n[routes.all]\nfrom = '/^{prefix}\\..*$/'\nto = '{output}'\ngroup = '{group}'\n\
             failure = {{ dead_letter = '{letters}' }}\n",
            broker.config()
        ));
        let host = folder.start();
        broker.produce(&first, numbered(0, 10));
        assert_eq!(values(&broker.consume(&output, 10)), (0..10).collect::<Vec<_>>());

        broker.delete(&first);
        let changed = || host.entries("The group reads other topics now.");
        wait_until("the group reads nothing", DEADLINE, || changed().iter().any(|entry| entry["topics"] == 0));
        broker.create(&second, 1, &[]);
        broker.produce(&second, numbered(10, 20));
        assert_eq!(values(&broker.consume(&output, 20)[10..]), (10..20).collect::<Vec<_>>());
        assert_eq!(host.stop(), Some(0));
    }
);
