//! Where an output comes from: the one header that the host writes, `midplane-origin`. Built from parts that are made
//! once for a lane and once for a route, so that an output costs two numbers and two copies.

use super::event::Headers;

/// The header's name.
pub const NAME: &str = "midplane-origin";
/// Headers with this prefix are the host's: outputs carry none but those it writes itself.
pub const PREFIX: &[u8] = b"midplane-";
/// An event that passed more routers than this is taken for one that goes in circles.
pub const HOPS_MAX: u32 = 16;

/// What all outputs of one route say after the position: `ROUTE@GENERATION PLUGIN@SHA8[,PLUGIN@SHA8]`.
#[derive(Debug, Clone)]
pub struct RouteLabel(String);

impl RouteLabel {
    /// The label of a route in a generation, with the versions of its plugins in the order of the chain.
    pub fn new<'a>(route: &str, generation: u64, plugins: impl Iterator<Item = (&'a str, [u8; 32])>) -> Self {
        let mut label = format!(" {route}@{generation} ");
        for (index, (name, sha256)) in plugins.enumerate() {
            if index > 0 {
                label.push(',');
            }
            label.push_str(name);
            label.push('@');
            for byte in &sha256[..4] {
                label.push_str(&format!("{byte:02x}"));
            }
        }
        label.truncate(label.trim_end().len());
        Self(label)
    }
}

/// What all outputs of one lane say before the offset: `TOPIC/PARTITION/`.
#[derive(Debug, Clone)]
pub struct LaneLabel(String);

impl LaneLabel {
    /// The label of a partition.
    pub fn new(topic: &str, partition: i32) -> Self {
        Self(format!("{topic}/{partition}/"))
    }
}

/// Writes the header's value over what `buffer` held.
pub fn write(buffer: &mut Vec<u8>, lane: &LaneLabel, offset: i64, index: u32, route: &RouteLabel, hops: u32) {
    buffer.clear();
    buffer.extend_from_slice(lane.0.as_bytes());
    push_number(buffer, offset.unsigned_abs());
    buffer.push(b'/');
    push_number(buffer, u64::from(index));
    buffer.extend_from_slice(route.0.as_bytes());
    if hops > 1 {
        buffer.extend_from_slice(b" hops=");
        push_number(buffer, u64::from(hops));
    }
}

/// How many routers an event has passed: 0 for one that carries no origin.
pub fn hops(headers: &Headers<'_>) -> u32 {
    let Some(value) = headers.last(NAME.as_bytes()).and_then(|header| header.value) else {
        return 0;
    };
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.rsplit_once(" hops="))
        .and_then(|(_, number)| number.parse().ok())
        .unwrap_or(1)
}

/// The two digits of each number below 100.
const PAIRS: &[u8; 200] = b"0001020304050607080910111213141516171819\
                            2021222324252627282930313233343536373839\
                            4041424344454647484950515253545556575859\
                            6061626364656667686970717273747576777879\
                            8081828384858687888990919293949596979899";

/// Decimal digits without an allocation, two at a time: `write!` costs several times as much, for each output.
fn push_number(buffer: &mut Vec<u8>, mut number: u64) {
    if number < 10 {
        buffer.push(b'0' + number as u8);
        return;
    }
    let mut digits = [0_u8; 20];
    let mut first = digits.len();
    while number >= 10 {
        let pair = (number % 100) as usize * 2;
        number /= 100;
        first -= 2;
        digits[first..first + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    }
    if number > 0 {
        first -= 1;
        digits[first] = b'0' + number as u8;
    }
    // What was written in pairs may begin with a 0.
    let first = first + usize::from(digits[first] == b'0');
    buffer.extend_from_slice(&digits[first..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::event::Header;

    fn check(plugins: &[(&str, [u8; 32])], offset: i64, index: u32, hops: u32, expected: &str) {
        let mut buffer = b"old".to_vec();
        let route = RouteLabel::new("large", 7, plugins.iter().copied());
        write(&mut buffer, &LaneLabel::new("payments", 3), offset, index, &route, hops);
        assert_eq!(String::from_utf8(buffer).unwrap(), expected);
    }

    #[test]
    fn the_header_reads_as_the_contract_says() {
        let (a, b) = ([0xab; 32], [0x01; 32]);
        check(&[("score", a)], 0, 0, 1, "payments/3/0/0 large@7 score@abababab");
        check(
            &[("parse", a), ("score", b)],
            1234567890123,
            10,
            1,
            "payments/3/1234567890123/10 large@7 parse@abababab,score@01010101",
        );
        check(&[], 9, 1, 2, "payments/3/9/1 large@7 hops=2");
    }

    #[test]
    fn numbers_have_their_digits() {
        let mut powers: Vec<u64> = (0..20).map(|power| 10_u64.pow(power)).collect();
        powers.push(u64::MAX);
        for number in powers.into_iter().flat_map(|power| [power - 1, power, power / 3, power.saturating_add(1)]) {
            let mut buffer = Vec::new();
            push_number(&mut buffer, number);
            assert_eq!(String::from_utf8(buffer).unwrap(), number.to_string());
        }
    }

    #[test]
    fn hops_are_read_back() {
        let read = |value: Option<&[u8]>| hops(&Headers::Slice(&[Header { name: b"midplane-origin", value }]));
        assert_eq!(hops(&Headers::Empty), 0);
        assert_eq!(read(Some(b"t/0/1/0 r@1 p@00000000")), 1);
        assert_eq!(read(Some(b"t/0/1/0 r@1 p@00000000 hops=16")), 16);
        assert_eq!(read(Some(b"t/0/1/0 r@1 hops=many")), 1);
        assert_eq!(read(Some(b"\xff")), 1);
        assert_eq!(read(None), 0);
    }
}
