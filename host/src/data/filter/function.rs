//! The functions that filters can call: what they take, what they give, and what they do.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

use super::kinds::Kinds;
use super::value::{Budget, Fault, Value, timestamp};

/// A function, apart from the forms in which it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    Contains,
    StartsWith,
    EndsWith,
    Matches,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    Dyn,
    Get(Part),
}

/// A part of a timestamp or duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    FullYear,
    Month,
    DayOfYear,
    DayOfMonth,
    Date,
    DayOfWeek,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

/// How a function is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `f(a)`.
    Global,
    /// `a.f(b)`.
    Member,
    /// Both.
    Either,
}

/// A function in one of its forms. The first argument of a member is what it is called on.
#[derive(Debug)]
pub(super) struct Signature {
    pub(super) name: &'static str,
    pub(super) form: Form,
    pub(super) arguments: &'static [Kinds],
    pub(super) result: Kinds,
    pub(super) function: Function,
}

const fn row(
    name: &'static str,
    form: Form,
    arguments: &'static [Kinds],
    result: Kinds,
    function: Function,
) -> Signature {
    Signature { name, form, arguments, result, function }
}

const SIZED: Kinds = Kinds::STRING.or(Kinds::BYTES).or(Kinds::LIST).or(Kinds::MAP);
const TO_STRING: Kinds =
    Kinds::NUMBER.or(Kinds::BOOL).or(Kinds::STRING).or(Kinds::BYTES).or(Kinds::TIMESTAMP).or(Kinds::DURATION);
const TEXTS: &[Kinds] = &[Kinds::STRING, Kinds::STRING];
const TIME: &[Kinds] = &[Kinds::TIMESTAMP];
const ZONED: &[Kinds] = &[Kinds::TIMESTAMP, Kinds::STRING];
const CLOCK: &[Kinds] = &[Kinds::TIMESTAMP.or(Kinds::DURATION)];

/// All of them. A function that has several forms has several rows.
pub(super) const SIGNATURES: &[Signature] = &[
    row("size", Form::Either, &[SIZED], Kinds::INT, Function::Size),
    row("contains", Form::Member, TEXTS, Kinds::BOOL, Function::Contains),
    row("startsWith", Form::Member, TEXTS, Kinds::BOOL, Function::StartsWith),
    row("endsWith", Form::Member, TEXTS, Kinds::BOOL, Function::EndsWith),
    row("matches", Form::Either, TEXTS, Kinds::BOOL, Function::Matches),
    row("bool", Form::Global, &[Kinds::BOOL.or(Kinds::STRING)], Kinds::BOOL, Function::Bool),
    row("int", Form::Global, &[Kinds::NUMBER.or(Kinds::STRING).or(Kinds::TIMESTAMP)], Kinds::INT, Function::Int),
    row("uint", Form::Global, &[Kinds::NUMBER.or(Kinds::STRING)], Kinds::UINT, Function::Uint),
    row("double", Form::Global, &[Kinds::NUMBER.or(Kinds::STRING)], Kinds::DOUBLE, Function::Double),
    row("string", Form::Global, &[TO_STRING], Kinds::STRING, Function::String),
    row("bytes", Form::Global, &[Kinds::STRING.or(Kinds::BYTES)], Kinds::BYTES, Function::Bytes),
    row(
        "timestamp",
        Form::Global,
        &[Kinds::STRING.or(Kinds::INT).or(Kinds::TIMESTAMP)],
        Kinds::TIMESTAMP,
        Function::Timestamp,
    ),
    row("duration", Form::Global, &[Kinds::STRING.or(Kinds::DURATION)], Kinds::DURATION, Function::Duration),
    row("dyn", Form::Global, &[Kinds::ANY], Kinds::ANY, Function::Dyn),
    row("getFullYear", Form::Member, TIME, Kinds::INT, Function::Get(Part::FullYear)),
    row("getFullYear", Form::Member, ZONED, Kinds::INT, Function::Get(Part::FullYear)),
    row("getMonth", Form::Member, TIME, Kinds::INT, Function::Get(Part::Month)),
    row("getMonth", Form::Member, ZONED, Kinds::INT, Function::Get(Part::Month)),
    row("getDayOfYear", Form::Member, TIME, Kinds::INT, Function::Get(Part::DayOfYear)),
    row("getDayOfYear", Form::Member, ZONED, Kinds::INT, Function::Get(Part::DayOfYear)),
    row("getDayOfMonth", Form::Member, TIME, Kinds::INT, Function::Get(Part::DayOfMonth)),
    row("getDayOfMonth", Form::Member, ZONED, Kinds::INT, Function::Get(Part::DayOfMonth)),
    row("getDate", Form::Member, TIME, Kinds::INT, Function::Get(Part::Date)),
    row("getDate", Form::Member, ZONED, Kinds::INT, Function::Get(Part::Date)),
    row("getDayOfWeek", Form::Member, TIME, Kinds::INT, Function::Get(Part::DayOfWeek)),
    row("getDayOfWeek", Form::Member, ZONED, Kinds::INT, Function::Get(Part::DayOfWeek)),
    row("getHours", Form::Member, CLOCK, Kinds::INT, Function::Get(Part::Hours)),
    row("getHours", Form::Member, ZONED, Kinds::INT, Function::Get(Part::Hours)),
    row("getMinutes", Form::Member, CLOCK, Kinds::INT, Function::Get(Part::Minutes)),
    row("getMinutes", Form::Member, ZONED, Kinds::INT, Function::Get(Part::Minutes)),
    row("getSeconds", Form::Member, CLOCK, Kinds::INT, Function::Get(Part::Seconds)),
    row("getSeconds", Form::Member, ZONED, Kinds::INT, Function::Get(Part::Seconds)),
    row("getMilliseconds", Form::Member, CLOCK, Kinds::INT, Function::Get(Part::Milliseconds)),
    row("getMilliseconds", Form::Member, ZONED, Kinds::INT, Function::Get(Part::Milliseconds)),
];

/// Larger programs are refused: a regex of some hundred characters can ask for gigabytes.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// A pattern of `matches`, in Rust's regex syntax; it may match anywhere in the text.
///
/// # Errors
/// Says on one line what is wrong with it.
pub(super) fn regex(pattern: &str) -> Result<regex::Regex, String> {
    regex::RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).build().map_err(|error| {
        if let regex::Error::CompiledTooBig(_) = error {
            return format!("it needs more than {REGEX_BYTES_MAX} bytes");
        }
        let message = error.to_string();
        message.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
    })
}

impl Function {
    /// The result for arguments that the form takes.
    ///
    /// # Errors
    /// Where the function doesn't take these, or makes nothing of them.
    pub(super) fn call<'v>(
        self,
        of: Value<'v>,
        argument: Option<Value<'v>>,
        budget: &Budget,
    ) -> Result<Value<'v>, Fault> {
        let kind = of.kind();
        let unfit = || Fault::error(format!("`{}` doesn't take {kind}", self.name()));
        match (self, of, argument) {
            (Self::Dyn, value, None) => Ok(value),
            (Self::Size, value, None) => size(&value).map(Value::Int).ok_or_else(unfit),
            (Self::Get(part), Value::Duration(nanoseconds), None) => {
                duration_part(part, nanoseconds).map(Value::Int).ok_or_else(unfit)
            }
            (Self::Get(part), Value::Timestamp(time), None) => {
                Ok(Value::Int(timestamp_part(part, time, TimeZone::UTC)))
            }
            (Self::Get(part), Value::Timestamp(time), Some(Value::Text(zone))) => {
                Ok(Value::Int(timestamp_part(part, time, time_zone(&zone)?)))
            }
            (_, Value::Text(text), Some(Value::Text(other))) => {
                budget.spend_bytes(text.len())?;
                self.relate(&text, &other).map(Value::Bool)
            }
            (_, _, Some(other)) => {
                Err(Fault::error(format!("`{}` doesn't take {kind} and {}", self.name(), other.kind())))
            }
            (Self::String, value, None) => string(value, budget)?.map(Value::Text).ok_or_else(unfit),
            (_, value, None) => self.convert(value, budget)?.ok_or_else(unfit),
        }
    }

    fn name(self) -> &'static str {
        SIGNATURES.iter().find(|signature| signature.function == self).map_or("", |signature| signature.name)
    }

    fn relate(self, text: &str, other: &str) -> Result<bool, Fault> {
        match self {
            Self::Contains => Ok(text.contains(other)),
            Self::StartsWith => Ok(text.starts_with(other)),
            Self::EndsWith => Ok(text.ends_with(other)),
            Self::Matches => match regex(other) {
                Ok(regex) => Ok(regex.is_match(text)),
                Err(problem) => Err(Fault::error(format!("`{other}` is no regex: {problem}"))),
            },
            _ => Err(Fault::error(format!("`{}` doesn't take string and string", self.name()))),
        }
    }

    /// The conversions but the one to string. Nothing where the kind doesn't fit.
    fn convert<'v>(self, value: Value<'v>, budget: &Budget) -> Result<Option<Value<'v>>, Fault> {
        let converted = match (self, &value) {
            (Self::Bool, Value::Bool(_))
            | (Self::Int, Value::Int(_))
            | (Self::Uint, Value::Uint(_))
            | (Self::Double, Value::Double(_))
            | (Self::Bytes, Value::Bytes(_))
            | (Self::Timestamp, Value::Timestamp(_))
            | (Self::Duration, Value::Duration(_)) => return Ok(Some(value)),
            (Self::Bool, Value::Text(text)) => boolean(text).map(Value::Bool),
            (Self::Int, Value::Uint(number)) => i64::try_from(*number).ok().map(Value::Int),
            (Self::Int, Value::Double(number)) => integer(*number).map(Value::Int),
            (Self::Int, Value::Text(text)) => text.parse().ok().map(Value::Int),
            (Self::Int, Value::Timestamp(time)) => {
                Some(Value::Int(time.as_nanosecond().div_euclid(1_000_000_000) as i64))
            }
            (Self::Uint, Value::Int(number)) => u64::try_from(*number).ok().map(Value::Uint),
            (Self::Uint, Value::Double(number)) => natural(*number).map(Value::Uint),
            (Self::Uint, Value::Text(text)) => text.parse().ok().map(Value::Uint),
            (Self::Double, Value::Int(number)) => Some(Value::Double(*number as f64)),
            (Self::Double, Value::Uint(number)) => Some(Value::Double(*number as f64)),
            (Self::Double, Value::Text(text)) => text.parse().ok().map(Value::Double),
            (Self::Timestamp, Value::Int(seconds)) => timestamp(i128::from(*seconds) * 1_000_000_000),
            (Self::Timestamp, Value::Text(text)) => {
                text.parse::<Timestamp>().ok().and_then(|time| timestamp(time.as_nanosecond()))
            }
            (Self::Duration, Value::Text(text)) => duration(text).map(Value::Duration),
            (Self::Bytes, Value::Text(text)) => {
                budget.spend_bytes(text.len())?;
                Some(Value::Bytes(match text {
                    Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                    Cow::Owned(text) => Cow::Owned(text.clone().into_bytes()),
                }))
            }
            _ => return Ok(None),
        };
        let given = || match &value {
            Value::Text(text) => format!("`{}`", text.chars().take(40).collect::<String>()),
            value => value.kind().to_string(),
        };
        converted.map(Some).ok_or_else(|| Fault::error(format!("`{}` makes nothing of {}", self.name(), given())))
    }
}

fn size(value: &Value<'_>) -> Option<i64> {
    let size = match value {
        Value::Text(text) => text.chars().count(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(list) => list.len(),
        Value::Map(map) => map.len(),
        Value::Json(json) if !json.is_object() => json.elements().count(),
        value => value.members()?.len(),
    };
    i64::try_from(size).ok()
}

fn string<'v>(value: Value<'v>, budget: &Budget) -> Result<Option<Cow<'v, str>>, Fault> {
    let not_utf8 = || Fault::error("`string` needs UTF-8, and the bytes aren't");
    Ok(Some(match value {
        Value::Text(text) => text,
        Value::Bytes(bytes) => {
            budget.spend_bytes(bytes.len())?;
            match bytes {
                Cow::Borrowed(bytes) => Cow::Borrowed(std::str::from_utf8(bytes).map_err(|_| not_utf8())?),
                Cow::Owned(bytes) => Cow::Owned(String::from_utf8(bytes).map_err(|_| not_utf8())?),
            }
        }
        Value::Bool(truth) => Cow::Borrowed(if truth { "true" } else { "false" }),
        Value::Int(number) => Cow::Owned(number.to_string()),
        Value::Uint(number) => Cow::Owned(number.to_string()),
        Value::Double(number) => Cow::Owned(number.to_string()),
        Value::Timestamp(time) => Cow::Owned(time.to_string()),
        Value::Duration(nanoseconds) => Cow::Owned(duration_text(nanoseconds)),
        Value::Null | Value::List(_) | Value::Map(_) | Value::Json(_) => return Ok(None),
    }))
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Without its fraction, if it fits; the two ends of the range, which doubles can't tell from their neighbours, don't.
fn integer(number: f64) -> Option<i64> {
    (number > i64::MIN as f64 && number < i64::MAX as f64).then_some(number as i64)
}

fn natural(number: f64) -> Option<u64> {
    (number >= 0.0 && number < u64::MAX as f64).then_some(number as u64)
}

/// Nanoseconds of a text such as `1h30m`, `-1.5s` or `0`.
pub(super) fn duration(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 6] = [
        ("ns", 1),
        ("us", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    let (negative, mut rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    if rest == "0" {
        return Some(0);
    }
    let mut total: i64 = 0;
    loop {
        let digits = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (unit, nanoseconds) = UNITS.iter().find(|(unit, _)| {
            rest.strip_prefix(unit).is_some_and(|after| !after.starts_with(|next: char| next.is_ascii_alphabetic()))
        })?;
        rest = &rest[unit.len()..];
        total = total.checked_add(integer(number * *nanoseconds as f64)?)?;
        if rest.is_empty() {
            return Some(if negative { -total } else { total });
        }
    }
}

fn duration_text(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let (seconds, rest) = (nanoseconds.unsigned_abs() / 1_000_000_000, nanoseconds.unsigned_abs() % 1_000_000_000);
    if rest == 0 {
        return format!("{sign}{seconds}s");
    }
    let fraction = format!("{rest:09}");
    format!("{sign}{seconds}.{}s", fraction.trim_end_matches('0'))
}

fn duration_part(part: Part, nanoseconds: i64) -> Option<i64> {
    let unit = match part {
        Part::Hours => 3_600_000_000_000,
        Part::Minutes => 60_000_000_000,
        Part::Seconds => 1_000_000_000,
        Part::Milliseconds => 1_000_000,
        _ => return None,
    };
    Some(nanoseconds / unit)
}

fn timestamp_part(part: Part, time: Timestamp, zone: TimeZone) -> i64 {
    let time = time.to_zoned(zone);
    match part {
        Part::FullYear => i64::from(time.year()),
        Part::Month => i64::from(time.month()) - 1,
        Part::DayOfYear => i64::from(time.day_of_year()) - 1,
        Part::DayOfMonth => i64::from(time.day()) - 1,
        Part::Date => i64::from(time.day()),
        Part::DayOfWeek => i64::from(time.weekday().to_sunday_zero_offset()),
        Part::Hours => i64::from(time.hour()),
        Part::Minutes => i64::from(time.minute()),
        Part::Seconds => i64::from(time.second()),
        Part::Milliseconds => i64::from(time.millisecond()),
    }
}

/// A zone by its name in the time zone database, or an offset such as `+05:30`.
pub(super) fn time_zone(name: &str) -> Result<TimeZone, Fault> {
    let unknown = || Fault::error(format!("unknown time zone `{name}`"));
    let Some((hours, minutes)) = name.split_once(':') else {
        return TimeZone::get(name).map_err(|_| unknown());
    };
    let magnitude: i32 = hours.trim_start_matches(['+', '-']).parse().map_err(|_| unknown())?;
    let minutes: i32 = minutes.parse().map_err(|_| unknown())?;
    if !(0..24).contains(&magnitude) || !(0..60).contains(&minutes) {
        return Err(unknown());
    }
    let seconds = magnitude * 3600 + minutes * 60;
    let seconds = if hours.starts_with('-') { -seconds } else { seconds };
    Offset::from_seconds(seconds).map(TimeZone::fixed).map_err(|_| unknown())
}
