//! Splits an order into its items: one output each, keyed so that what belongs together stays in order.
//!
//! `{"id": "o-1", "customer": "c-7", "items": [{"sku": "tea", "quantity": 2}, …]}` becomes, for each item,
//! `{"order": "o-1", "customer": "c-7", "line": 1, "lines": 2, "item": {"sku": "tea", "quantity": 2}}`. An order without
//! items is dropped.

use midplane_plugin::{Event, Failure, Outputs, Plugin, Ports, plugin};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The plugin.
pub struct SplitOrder {
    key: Key,
}

/// What routes set.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What the outputs are keyed by.
    #[serde(default)]
    key: Key,
}

/// What an item is keyed by.
#[derive(Deserialize, Clone, Copy, Default)]
#[serde(rename_all = "lowercase")]
pub enum Key {
    /// The order's id: the items of an order stay together.
    #[default]
    Order,
    /// The item's stock keeping unit: what happens to an article stays together.
    Sku,
}

#[derive(Deserialize)]
struct Order {
    id: String,
    customer: Option<String>,
    items: Vec<Item>,
}

#[derive(Deserialize, Serialize)]
struct Item {
    sku: String,
    /// Whatever else an item says is carried on.
    #[serde(flatten)]
    other: Map<String, Value>,
}

#[derive(Serialize)]
struct Line<'a> {
    order: &'a str,
    customer: Option<&'a str>,
    line: usize,
    lines: usize,
    item: &'a Item,
}

impl Plugin for SplitOrder {
    type Config = Config;

    fn config_schema() -> Option<&'static str> {
        Some(include_str!("config.schema.json"))
    }

    fn configure(config: Config, _ports: &Ports) -> Result<Self, String> {
        Ok(Self { key: config.key })
    }

    fn process(&mut self, event: Event<'_>, out: &mut Outputs<'_>) -> Result<(), Failure> {
        let order: Order = event.json()?;
        for (index, item) in order.items.iter().enumerate() {
            let key = match self.key {
                Key::Order => &order.id,
                Key::Sku => &item.sku,
            };
            let line = Line {
                order: &order.id,
                customer: order.customer.as_deref(),
                line: index + 1,
                lines: order.items.len(),
                item,
            };
            out.emit("default").key(key).json(&line)?.send();
        }
        Ok(())
    }
}

plugin!(SplitOrder);

#[cfg(test)]
mod tests {
    use midplane_plugin::test::{Harness, Record, Value, json};

    use super::SplitOrder;

    fn order() -> Record {
        Record::json(&json!({
            "id": "o-1", "customer": "c-7",
            "items": [{"sku": "tea", "quantity": 2}, {"sku": "cup", "quantity": 1, "gift": true}]
        }))
    }

    #[test]
    fn an_order_becomes_its_items() {
        let outputs = Harness::<SplitOrder>::new(json!({})).unwrap().outputs(order().key("c-7").header("trace", "1"));
        let values: Vec<Value> = outputs.iter().map(|output| output.json()).collect();
        let line =
            |line: u32, item: Value| json!({"order": "o-1", "customer": "c-7", "line": line, "lines": 2, "item": item});
        let cup = json!({"sku": "cup", "quantity": 1, "gift": true});
        assert_eq!(values, [line(1, json!({"sku": "tea", "quantity": 2})), line(2, cup)]);
        assert!(outputs.iter().all(|output| output.header("trace") == Some("1")));
    }

    #[test]
    fn items_are_keyed_as_configured() {
        let keys = |config: Value| -> Vec<String> {
            let outputs = Harness::<SplitOrder>::new(config).unwrap().outputs(order().key("c-7"));
            outputs.iter().map(|output| output.key_text().to_owned()).collect()
        };
        assert_eq!(keys(json!({})), ["o-1", "o-1"]);
        assert_eq!(keys(json!({"key": "sku"})), ["tea", "cup"]);
    }

    #[test]
    fn an_empty_order_is_dropped() {
        let empty = Record::json(&json!({"id": "o-2", "items": []}));
        assert_eq!(Harness::<SplitOrder>::new(json!({})).unwrap().outputs(empty), []);
    }

    #[test]
    fn an_item_without_a_sku_fails_its_order() {
        let broken = Record::json(&json!({"id": "o-3", "items": [{"sku": "tea"}, {"quantity": 1}]}));
        let failure = Harness::<SplitOrder>::new(json!({})).unwrap().failure(broken);
        assert!(failure.message().contains("missing field `sku`"), "{failure}");
    }
}
