//! Scores card payments: each goes on to `default` with its score in the header `fraud-score`, those at or above the
//! threshold also raise a JSON alert on `alert`. It scores by what the event says alone, and keeps nothing between events.
//!
//! A payment is a JSON object:
//!
//! | field | type | example | |
//! |---|---|---|---|
//! | `id` | text | `"pay-000042"` | |
//! | `card` | text | `"4539578763621486"` | |
//! | `amount` | number | `129.95` | in units of the currency |
//! | `currency` | text | `"EUR"` | ISO 4217 |
//! | `country` | text | `"DE"` | where it is made; ISO 3166 |
//! | `card_country` | text | `"DE"` | where the card was issued |
//! | `merchant` | text | `"Bakery Lindner"` | |
//! | `mcc` | text | `"5462"` | merchant category code, ISO 18245 |
//! | `channel` | text | `"pos"` | or `"online"`, `"atm"` |
//! | `at` | text | `"2026-11-22T10:15:30Z"` | RFC 3339 |
//! | `recent` | object, optional | `{"payments_1h": 2, "countries_24h": 1}` | the card's velocity, as its issuer counts it |
//! | `cardholder` | object, optional | `{"name": …, "email": …, "phone": …}` | not looked at |

use std::borrow::Cow;
use std::fmt::Write;

use midplane_plugin::{Event, Failure, Outputs, Plugin, Ports, plugin};
use serde::{Deserialize, Serialize};

/// The plugin.
pub struct FraudScore {
    config: Config,
    alerts: bool,
    text: String,
}

/// What routes set.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Payments that score at least this raise an alert; 0 to 1.
    threshold: f64,
    /// From this amount on, in units of the currency, a payment counts as large.
    large_amount: f64,
    /// Merchant category codes that fraud prefers.
    risky_mcc: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        // Money transfer, quasi cash, gambling.
        let risky_mcc = ["4829", "6051", "7995"].map(str::to_owned).to_vec();
        Self { threshold: 0.8, large_amount: 1000.0, risky_mcc }
    }
}

#[derive(Deserialize)]
struct Payment<'a> {
    // Borrowed where JSON has no escapes, which is nearly always.
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    card: Cow<'a, str>,
    amount: f64,
    #[serde(borrow)]
    currency: Cow<'a, str>,
    #[serde(borrow)]
    country: Cow<'a, str>,
    #[serde(borrow)]
    card_country: Cow<'a, str>,
    #[serde(borrow)]
    mcc: Cow<'a, str>,
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(default)]
    recent: Recent,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Recent {
    payments_1h: u32,
    countries_24h: u32,
}

#[derive(Serialize)]
struct Alert<'a> {
    payment: &'a str,
    /// The last four digits: an alert is read by more people than a card number is for.
    card: &'a str,
    amount: f64,
    currency: &'a str,
    score: f64,
    reasons: &'a [&'static str],
}

impl Plugin for FraudScore {
    const PORTS: &'static [&'static str] = &["default", "alert"];
    type Config = Config;

    fn config_schema() -> Option<&'static str> {
        Some(include_str!("config.schema.json"))
    }

    fn configure(config: Config, ports: &Ports) -> Result<Self, String> {
        if !(0.0..=1.0).contains(&config.threshold) {
            return Err(format!("`threshold` is `{}`, and must be from 0 to 1", config.threshold));
        }
        Ok(Self { config, alerts: ports.has("alert"), text: String::new() })
    }

    fn process(&mut self, event: Event<'_>, out: &mut Outputs<'_>) -> Result<(), Failure> {
        let payment: Payment<'_> = event.json()?;
        let (score, reasons) = self.score(&payment);
        self.text.clear();
        write!(self.text, "{score:.2}")?;
        out.emit("default").header("fraud-score", &self.text).send();
        if score >= self.config.threshold && self.alerts {
            let alert = Alert {
                payment: &payment.id,
                card: payment.card.get(payment.card.len().saturating_sub(4)..).unwrap_or_default(),
                amount: payment.amount,
                currency: &payment.currency,
                score: (score * 100.0).round() / 100.0,
                reasons: &reasons,
            };
            out.emit("alert").json(&alert)?.send();
        }
        Ok(())
    }
}

impl FraudScore {
    /// Signs of fraud are taken as independent: each leaves a part of the doubt that the others left.
    fn score(&self, payment: &Payment<'_>) -> (f64, Vec<&'static str>) {
        let abroad = payment.country != payment.card_country;
        let signs = [
            (payment.amount >= self.config.large_amount, 0.40, "large amount"),
            (payment.amount >= 5.0 * self.config.large_amount, 0.40, "very large amount"),
            (abroad, 0.35, "abroad"),
            (abroad && payment.channel == "atm", 0.30, "cash abroad"),
            (payment.channel == "online", 0.10, "card not present"),
            (self.config.risky_mcc.iter().any(|mcc| *mcc == payment.mcc), 0.40, "risky merchant category"),
            (payment.recent.payments_1h >= 5, 0.50, "many payments within an hour"),
            (payment.recent.countries_24h >= 3, 0.60, "several countries within a day"),
        ];
        let found = signs.iter().filter(|(holds, ..)| *holds);
        let doubt: f64 = found.clone().map(|(_, weight, _)| 1.0 - weight).product();
        (1.0 - doubt, found.map(|(_, _, reason)| *reason).collect())
    }
}

plugin!(FraudScore);

#[cfg(test)]
mod tests {
    use midplane_plugin::test::{Harness, Record, Value, json};

    use super::FraudScore;

    fn payment(changes: Value) -> Record {
        let mut payment = json!({
            "id": "pay-1", "card": "4539578763621486", "amount": 12.5, "currency": "EUR", "country": "DE",
            "card_country": "DE", "merchant": "Bakery Lindner", "mcc": "5462", "channel": "pos",
            "at": "2026-11-22T10:15:30Z", "cardholder": {"name": "Ada Example"}
        });
        payment.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        Record::json(&payment).key("4539578763621486")
    }

    fn check(changes: Value, score: &str, alerts: bool) {
        let outputs = Harness::<FraudScore>::new(json!({})).unwrap().outputs(payment(changes));
        assert_eq!(outputs[0].header("fraud-score"), Some(score));
        assert_eq!(outputs.len() > 1, alerts, "{outputs:?}");
    }

    #[test]
    fn payments_score_by_what_they_say() {
        check(json!({}), "0.00", false);
        check(json!({"amount": 1000}), "0.40", false);
        check(json!({"country": "BR", "mcc": "4829"}), "0.61", false);
        check(json!({"amount": 9000, "channel": "online", "mcc": "7995"}), "0.81", true);
        check(json!({"country": "BR", "recent": {"payments_1h": 7, "countries_24h": 3}}), "0.87", true);
    }

    #[test]
    fn the_payment_goes_on_unchanged() {
        let record = payment(json!({}));
        let output = Harness::<FraudScore>::new(json!({})).unwrap().one(record.clone().header("trace", "1"));
        assert_eq!(Record::new().key(output.key_text()).value(output.text()), record);
        assert_eq!(output.header("trace"), Some("1"));
    }

    #[test]
    fn an_alert_says_why_and_hides_the_card() {
        let mut plugin = Harness::<FraudScore>::new(json!({"threshold": 0.6})).unwrap();
        let outputs = plugin.outputs(payment(json!({"amount": 2500.5, "country": "BR"})));
        assert_eq!(outputs[1].port, "alert");
        let expected = json!({
            "payment": "pay-1", "card": "1486", "amount": 2500.5, "currency": "EUR", "score": 0.61,
            "reasons": ["large amount", "abroad"]
        });
        assert_eq!(outputs[1].json::<Value>(), expected);
    }

    #[test]
    fn without_a_topic_for_alerts_there_are_none() {
        let mut plugin = Harness::<FraudScore>::with_ports(json!({"threshold": 0}), &["default"]).unwrap();
        assert_eq!(plugin.one(payment(json!({}))).port, "default");
    }

    #[test]
    fn what_is_not_a_payment_fails_for_good() {
        let failure = Harness::<FraudScore>::new(json!({})).unwrap().failure(Record::new().value("{}"));
        assert!(failure.to_string().starts_with("permanent: the value is not the JSON expected: missing field `id`"));
    }

    #[test]
    fn a_threshold_is_a_probability() {
        let error = Harness::<FraudScore>::new(json!({"threshold": 80})).map(drop).unwrap_err();
        assert_eq!(error, "`threshold` is `80`, and must be from 0 to 1");
    }
}
