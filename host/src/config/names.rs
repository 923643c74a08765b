//! Names: which ones are valid, and which one was probably meant.

/// The longest that Kafka takes for a topic.
const TOPIC_LENGTH_MAX: usize = 249;
/// Room for a suffix in a topic's name.
const NAME_LENGTH_MAX: usize = 200;

/// What a topic's name may be, for messages.
pub(super) const TOPIC_RULE: &str =
    "1 to 249 of the letters, digits, `.`, `_` and `-` that Kafka takes, not `.` or `..`";
/// What the name of a route, a plugin or a host may be, for messages.
pub(super) const NAME_RULE: &str =
    "1 to 200 ASCII letters, digits, `.`, `_` and `-`, the first one a letter or a digit";

/// Whether Kafka takes it as the name of a topic.
pub(super) fn is_topic(name: &str) -> bool {
    (1..=TOPIC_LENGTH_MAX).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Whether it can stand in headers, metrics, topics and file names.
pub(super) fn is_name(name: &str) -> bool {
    name.len() <= NAME_LENGTH_MAX && is_topic(name) && name.as_bytes()[0].is_ascii_alphanumeric()
}

/// A name as a key of TOML: bare where that can be.
pub fn toml_key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if bare { name.to_owned() } else { format!("{name:?}") }
}

/// The one that was probably meant, if any is near enough.
pub(super) fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let folded = fold(name);
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&folded, &fold(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(name.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The hint that names it.
pub(super) fn did_you_mean<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<String> {
    nearest(name, known).map(|nearest| format!("did you mean `{nearest}`?"))
}

/// Names in backticks, for "expected one of"; the first of many.
pub(super) fn list<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    const SHOWN: usize = 12;
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => "none".to_owned(),
        count if count > SHOWN => format!("{} and {} more", names[..SHOWN].join(", "), count - SHOWN),
        _ => names.join(", "),
    }
}

/// Case and the choice between `-`, `_` and `.` are not what tells names apart.
fn fold(name: &str) -> String {
    name.to_lowercase().replace(['-', '.'], "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_bare_where_that_can_be() {
        let check = |name: &str, expected: &str| assert_eq!(toml_key(name), expected);
        check("payments-2_x", "payments-2_x");
        check("payments.eu", "\"payments.eu\"");
        check("say \"no\"", "\"say \\\"no\\\"\"");
        check("", "\"\"");
    }

    #[test]
    fn topics() {
        let check = |name: &str, expected| assert_eq!(is_topic(name), expected, "{name}");
        check("payments", true);
        check("a.b_c-9", true);
        check("", false);
        check(".", false);
        check("..", false);
        check("...", true);
        check("a b", false);
        check("zahlungen-für", false);
        check(&"x".repeat(249), true);
        check(&"x".repeat(250), false);
    }

    #[test]
    fn names_start_with_a_letter_or_digit() {
        let check = |name: &str, expected| assert_eq!(is_name(name), expected, "{name}");
        check("fraud-score", true);
        check("9lives", true);
        check("-x", false);
        check(".hidden", false);
        check("a@b", false);
        check("", false);
    }

    #[test]
    fn nearest_names() {
        let known = ["through", "to", "from", "commit_interval", "enable.auto.commit"];
        let check = |name: &str, expected| assert_eq!(nearest(name, known), expected, "{name}");
        check("thruogh", Some("through"));
        check("form", Some("from"));
        check("commit-interval", Some("commit_interval"));
        check("Enable_Auto_Commit", Some("enable.auto.commit"));
        check("bananas", None);
    }
}
