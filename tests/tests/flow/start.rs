//! How a host starts where something is not there: topics, or the broker itself.

use std::net::TcpListener;

use midplane_tests::{Broker, Folder, Record, binary, on_each_broker};

/// A route from a topic into ones that may not be there.
struct Route {
    input: String,
    output: String,
    letters: String,
    toml: String,
}

fn route(broker: &Broker) -> Route {
    let input = broker.topic("in", 1);
    let [output, letters, group] = ["out", "letters", "start"].map(|stem| broker.unique(stem));
    let toml = format!(
        "[routes.start]\nfrom = '{input}'\nto = '{output}'\ngroup = '{group}'\nfailure = {{ dead_letter = '{letters}' }}\n"
    );
    Route { input, output, letters, toml }
}

on_each_broker!(
    fn missing_topics_are_refused_with_the_command_that_makes_them(broker: &Broker) {
        let Route { input, output, letters, toml } = route(broker);
        let folder = Folder::new(&format!("{}\n{toml}", broker.config()));
        let refused = binary::run_in(folder.path(), &["run"], b"");
        assert_eq!(refused.code, Some(3), "{}", refused.stderr);
        let command = refused.stderr.lines().find_map(|line| line.trim().strip_prefix("midplane topic create "));
        let named = command.unwrap_or_else(|| panic!("no command: {}", refused.stderr));
        let mut topics: Vec<_> = named.split(' ').collect();
        topics.sort_unstable();
        let mut missing = [output.as_str(), letters.as_str()];
        missing.sort_unstable();
        assert_eq!(topics, missing);

        let args: Vec<_> = ["topic", "create"].into_iter().chain(topics).collect();
        binary::run_in(folder.path(), &args, b"").success();
        let host = folder.start();
        broker.produce(&input, [Record::of("1")]);
        assert_eq!(broker.consume(&output, 1)[0].text(), "1");
        assert_eq!(host.stop(), Some(0));
    }
);

on_each_broker!(
    fn settings_for_one_kind_of_client_are_no_news_from_the_others(broker: &Broker) {
        let Route { input, output, letters, toml } = route(broker);
        let client = "[broker]\nclient = { \"session.timeout.ms\" = \"6000\", \"compression.type\" = \"lz4\" }";
        let folder = Folder::new(&format!("{}\n{toml}", broker.config().replacen("[broker]", client, 1)));
        binary::run_in(folder.path(), &["topic", "create", &output, &letters], b"").success();
        let host = folder.start();
        broker.produce(&input, [Record::of("1")]);
        assert_eq!(broker.consume(&output, 1)[0].text(), "1");
        let news: Vec<_> = host.log().into_iter().filter(|line| line.contains("CONFWARN")).collect();
        assert!(news.is_empty(), "{news:?}");
        assert_eq!(host.stop(), Some(0));
    }
);

on_each_broker!(
    fn topics_are_made_where_the_config_says_so(broker: &Broker) {
        let Route { input, output, letters, toml } = route(broker);
        let config = broker.config().replacen("[broker]", "[broker]\ncreate_topics = true", 1);
        let host_folder = Folder::new(&format!("{config}\n{toml}"));
        let host = host_folder.start();
        broker.produce(&input, [Record::of("1")]);
        assert_eq!(broker.consume(&output, 1)[0].text(), "1");
        assert_eq!(broker.consume_all(&letters), []);
        assert_eq!(host.stop(), Some(0));
    }
);

on_each_broker!(
    fn a_host_whose_inputs_are_missing_is_ready_and_reads_them_once_they_are_there(broker: &Broker) {
        let [input, output, group] = ["in", "out", "start"].map(|stem| broker.unique(stem));
        broker.create(&output, 1, &[]);
        let route = format!(
            "[routes.start]\nfrom = '{input}'\nto = '{output}'\ngroup = '{group}'\nfailure = {{ dead_letter = '{output}' }}\n"
        );
        let folder = Folder::new(&format!("{}\n{route}", broker.config()));
        let host = folder.start();
        broker.create(&input, 1, &[]);
        broker.produce(&input, [Record::of("1")]);
        assert_eq!(broker.consume(&output, 1)[0].text(), "1");
        assert_eq!(host.stop(), Some(0));
    }
);

on_each_broker!(
    fn a_host_one_of_whose_inputs_is_missing_is_ready_once_it_has_the_others(broker: &Broker) {
        let (input, output) = (broker.topic("in", 1), broker.topic("out", 1));
        let [missing, group] = ["missing", "start"].map(|stem| broker.unique(stem));
        let route = format!(
            "[routes.start]\nfrom = ['{missing}', '{input}']\nto = '{output}'\ngroup = '{group}'\nfailure = {{ dead_letter = \
             '{output}' }}\n"
        );
        let folder = Folder::new(&format!("{}\n{route}", broker.config()));
        let host = folder.start();
        assert!(host.has_partitions(), "it is ready, and has none");
        assert_eq!(host.stop(), Some(0));
    }
);

#[test]
fn a_broker_that_is_away_is_waited_for() {
    let unused = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let folder = Folder::new(&format!(
        "[broker]\nbootstrap_servers = '{unused}'\n[routes.wait]\nfrom = 'in'\nto = 'out'\ngroup = 'wait'\n"
    ));
    let host = folder.spawn(&[]);
    host.wait_for_entry("The broker does not answer; waiting for it.");
    let answer = host.get("/readyz");
    assert_eq!(answer.code, 503);
    let reasons = answer.json()["reasons"].to_string();
    assert!(reasons.contains("the broker has not answered yet"), "{reasons}");
    assert_eq!(host.get("/healthz").code, 200);
    assert_eq!(host.stop(), Some(0));
}
