//! Where a record stands, as people write it: `TOPIC/PARTITION/OFFSET`. No topic has a slash in its name.

use std::fmt;
use std::str::FromStr;

/// A record's place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.offset)
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('/');
        let (topic, partition, offset) = (parts.next(), parts.next(), parts.next());
        // `+1` would be parsed, too.
        let digits = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
        let partition = partition.filter(digits).and_then(|text| text.parse().ok());
        let offset = offset.filter(digits).and_then(|text| text.parse().ok());
        match (topic, partition, offset, parts.next()) {
            (Some(topic), Some(partition), Some(offset), None) if !topic.is_empty() => {
                Ok(Self { topic: topic.to_owned(), partition, offset })
            }
            _ => Err("expected TOPIC/PARTITION/OFFSET, as `midplane dlq list` shows them".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_as_it_is_written() {
        let place = Place { topic: "payments.dead-letters".to_owned(), partition: 3, offset: 41 };
        assert_eq!(place.to_string(), "payments.dead-letters/3/41");
        assert_eq!(place.to_string().parse(), Ok(place));
        for wrong in ["", "a", "a/1", "a/1/x", "a/-1/2", "a/1/+2", "/1/2", "a/1/2/3", "a/1/99999999999999999999"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
