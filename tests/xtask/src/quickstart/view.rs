//! What the quickstart shows: one line an event, in columns, cut to the terminal's width, in colour where there is one.

use std::io::{IsTerminal, Write};

use serde_json::Value;

use super::outcomes::Outcomes;

/// An event, as `midplane topic consume --output json` writes it.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) topic: String,
    pub(super) partition: i64,
    pub(super) offset: i64,
    record: Value,
}

impl Event {
    /// Reads one line.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let record: Value = serde_json::from_str(line).ok()?;
        let (partition, offset) = (record["partition"].as_i64()?, record["offset"].as_i64()?);
        Some(Self { topic: record["topic"].as_str()?.to_owned(), partition, offset, record })
    }

    /// The last header of a name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let headers = self.record["headers"].as_array()?;
        headers.iter().rev().find(|header| header["name"] == name)?["value"].as_str()
    }

    /// What it is about, in a line.
    fn summary(&self) -> String {
        let text = self.record["value"].as_str().unwrap_or("(no text)");
        if let Some(kind) = self.header("midplane-error-kind") {
            return format!("{kind}: {}   {text}", self.header("midplane-error-message").unwrap_or_default());
        }
        let Ok(Value::Object(value)) = serde_json::from_str::<Value>(text) else { return text.to_owned() };
        let part = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or("?");
        let amount = value.get("amount").and_then(Value::as_f64).unwrap_or_default();
        if let Some(score) = value.get("score") {
            let reasons = value.get("reasons").and_then(Value::as_array).into_iter().flatten();
            let reasons: Vec<&str> = reasons.filter_map(Value::as_str).collect();
            return format!(
                "{:10} {amount:>9.2} {}  score {score}: {}",
                part("payment"),
                part("currency"),
                reasons.join(", ")
            );
        }
        if !value.contains_key("merchant") {
            return text.to_owned();
        }
        let holder = value.get("cardholder").and_then(|holder| holder["name"].as_str()).unwrap_or("?");
        let score = self.header("fraud-score").map(|score| format!("score {score}  ")).unwrap_or_default();
        format!(
            "{:10} {amount:>9.2} {}  {score}{} {}  {} in {}",
            part("id"),
            part("currency"),
            part("card"),
            holder,
            part("merchant"),
            part("country")
        )
    }
}

/// The screen.
#[derive(Debug)]
pub(super) struct View {
    topics: Vec<(String, usize)>,
    input: &'static str,
    /// Columns, where lines are cut.
    width: Option<usize>,
    colour: bool,
}

impl View {
    /// A screen for these topics.
    pub(super) fn new(topics: &[String], input: &'static str) -> Self {
        let stdout = std::io::stdout();
        let terminal = stdout.is_terminal();
        let width = rustix::termios::tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col));
        Self {
            topics: topics.iter().map(|topic| (topic.clone(), 0)).collect(),
            input,
            width: width.filter(|&width| terminal && width > 0),
            colour: terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }

    /// Says what will be seen.
    pub(super) fn begin(&self, address: &str, samples: usize) {
        self.print(&format!(
            "\nMidplane runs; its embedded broker listens on {address}. {samples} card payments go in (→),"
        ));
        self.print("and what config/quickstart.toml makes of them comes out (←).\n");
    }

    /// Shows an event, and counts it.
    pub(super) fn event(&mut self, event: &Event) {
        if let Some((_, count)) = self.topics.iter_mut().find(|(topic, _)| *topic == event.topic) {
            *count += 1;
        }
        let line = self.line(event);
        self.print(&line);
    }

    fn line(&self, event: &Event) -> String {
        let topic_width = self.topics.iter().map(|(topic, _)| topic.chars().count()).max().unwrap_or(0);
        let arrow = if event.topic == self.input { '→' } else { '←' };
        let place = format!("{}/{}", event.partition, event.offset);
        let line = format!("{arrow} {:topic_width$} {place:>6}  {}", event.topic, event.summary());
        let line = cut(&line, self.width);
        match self.colour.then(|| colour(event, self.input)).flatten() {
            Some(code) => format!("\x1b[{code}m{line}\x1b[0m"),
            None => line,
        }
    }

    /// What it came to.
    pub(super) fn summary(&self, outcomes: &Outcomes) {
        let (went_in, answered, letters) = outcomes.counts();
        self.print(&format!(
            "\n{went_in} events went in, and each has its outcome: {answered} were scored and masked,"
        ));
        self.print(&format!("{letters} became dead letters, since they are no payments. Events on each topic:"));
        let width = self.topics.iter().map(|(topic, _)| topic.chars().count()).max().unwrap_or(0);
        for (topic, count) in &self.topics {
            self.print(&format!("  {topic:width$} {count:>5}"));
        }
    }

    /// How to go on.
    pub(super) fn invite(&self, program: &str, config: &str, address: &str) {
        let event = r#"{"id":"mine-1","account":"me","card":"4000001234567899","amount":9500,"currency":"EUR","country":"BR","card_country":"DE","merchant":"LuckyStar Casino","mcc":"7995","channel":"online","at":"2026-11-22T10:15:30Z","cardholder":{"name":"Ada Example"}}"#;
        // The header is what the filter of the large payments asks for.
        let input = self.input;
        self.print("\nSend an event of your own, from another terminal, and see it here:");
        self.print(&format!(
            "  echo '{event}' \\\n    | {program} topic produce {input} --header ce_type=payment.captured --config {config}"
        ));
        self.print("or with kcat, or any other client of Kafka:");
        self.print(&format!("  echo '{event}' \\\n    | kcat -P -b {address} -t {input} -H ce_type=payment.captured"));
        self.print("\nCtrl-C ends it.\n");
    }

    /// Whoever reads may have gone; then there is nobody to tell.
    fn print(&self, line: &str) {
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }
}

/// Cuts a line where the terminal would wrap it.
fn cut(line: &str, width: Option<usize>) -> String {
    match width {
        Some(width) if line.chars().count() > width => {
            line.chars().take(width.saturating_sub(1)).chain(std::iter::once('…')).collect()
        }
        _ => line.to_owned(),
    }
}

/// Grey for what goes in, red for what failed, yellow for what is suspicious.
fn colour(event: &Event, input: &str) -> Option<&'static str> {
    if event.topic == input {
        Some("2")
    } else if event.header("midplane-error-kind").is_some() {
        Some("31")
    } else if event.topic.contains("alert") {
        Some("33")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn view(width: Option<usize>) -> View {
        let topics = ["payments", "fraud-alerts"].map(|topic| (topic.to_owned(), 0)).to_vec();
        View { topics, input: "payments", width, colour: false }
    }

    fn check(topic: &str, value: &Value, headers: Value, expected: &str) {
        let line =
            json!({"topic": topic, "partition": 3, "offset": 12, "value": value, "headers": headers}).to_string();
        assert_eq!(view(None).line(&Event::parse(&line).expect("an event")), expected);
    }

    #[test]
    fn events_stand_in_columns() {
        let payment = json!({
            "id": "pay-000007", "card": "************1486", "amount": 12.5, "currency": "EUR", "country": "DE",
            "merchant": "Bakery Lindner", "cardholder": {"name": "A** E******"},
        });
        let payment = Value::from(payment.to_string());
        check(
            "payments",
            &payment,
            json!([]),
            "→ payments       3/12  pay-000007     12.50 EUR  ************1486 A** E******  Bakery Lindner in DE",
        );
        check(
            "payments",
            &payment,
            json!([{"name": "fraud-score", "value": "0.35"}]),
            "→ payments       3/12  pay-000007     12.50 EUR  score 0.35  ************1486 A** E******  Bakery Lindner in DE",
        );
        let alert =
            json!({"payment": "pay-1", "amount": 9000, "currency": "EUR", "score": 0.81, "reasons": ["a", "b"]});
        check(
            "fraud-alerts",
            &alert.to_string().into(),
            json!([]),
            "← fraud-alerts   3/12  pay-1        9000.00 EUR  score 0.81: a, b",
        );
        check(
            "fraud-alerts",
            &"{\"id\":".into(),
            json!([{"name": "midplane-error-kind", "value": "permanent"}, {"name": "midplane-error-message", "value": "no JSON"}]),
            "← fraud-alerts   3/12  permanent: no JSON   {\"id\":",
        );
        check("fraud-alerts", &Value::Null, json!([]), "← fraud-alerts   3/12  (no text)");
    }

    #[test]
    fn lines_are_cut_at_the_terminals_edge() {
        assert_eq!(cut("abcdef", Some(4)), "abc…");
        assert_eq!(cut("äöüß", Some(4)), "äöüß");
        assert_eq!(cut("abcdef", None), "abcdef");
    }
}
