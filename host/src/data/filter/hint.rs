//! What to do instead, where that can be guessed.

use super::kinds::Kinds;

/// The name that was probably meant.
pub(super) fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<String> {
    let distance = |other: &str| strsim::damerau_levenshtein(&name.to_lowercase(), &other.to_lowercase());
    let (distance, nearest) = names.map(|other| (distance(other), other)).min()?;
    (distance <= 1 + name.len() / 4).then(|| format!("did you mean `{nearest}`?"))
}

/// For an operation on kinds that don't go together.
pub(super) fn mixed(left: Kinds, right: Kinds) -> Option<String> {
    let either = |first: Kinds, second: Kinds| {
        left.meets(first) && right.meets(second) || left.meets(second) && right.meets(first)
    };
    let texts = Kinds::STRING.or(Kinds::LIST).or(Kinds::MAP);
    let hint = if either(Kinds::BYTES, texts) {
        "`string(…)` reads bytes as text; a value's fields are read through `event.json`"
    } else if either(Kinds::TIMESTAMP, Kinds::STRING.or(Kinds::INT)) {
        "`timestamp(…)` makes one of an RFC 3339 text, or of seconds since 1970"
    } else if either(Kinds::DURATION, Kinds::STRING.or(Kinds::NUMBER)) {
        "`duration(…)` makes one of a text such as \"1h30m\""
    } else if left.meets(Kinds::NUMBER) && right.meets(Kinds::NUMBER) {
        "`int(…)`, `uint(…)` and `double(…)` make two numbers alike"
    } else if either(Kinds::NUMBER, Kinds::STRING) {
        "`int(…)` and `double(…)` read a text as number, `string(…)` writes a number as text"
    } else if either(Kinds::NULL, Kinds::ANY) {
        "only what can be absent is ever null: the timestamp, the key, the value, and parts of the JSON"
    } else {
        return None;
    };
    Some(hint.into())
}

/// For a field of something that has none.
pub(super) fn fields(operand: &str, field: &str) -> Option<String> {
    let readable = matches!(operand, "`event.value`" | "`event.text`");
    readable.then(|| format!("`event.json.{field}` reads the value as JSON"))
}
