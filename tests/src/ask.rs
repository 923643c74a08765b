//! Requests to Apache Kafka that no client library here offers, written by hand: for what tests set, or ask, beside the product.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::wait::DEADLINE;

/// The protocol's numbers of these requests, and the versions that are spoken here.
const ALTER_CLIENT_QUOTAS: (i16, i16) = (49, 0);
const DESCRIBE_TRANSACTIONS: (i16, i16) = (65, 0);
/// What the broker says of a transactional id that it doesn't know.
const TRANSACTIONAL_ID_NOT_FOUND: i16 = 105;

/// Sets quotas of the clients with an id, by their names; those without a value are removed.
///
/// # Panics
/// When the broker doesn't.
pub fn set_quotas(servers: &str, client_id: &str, quotas: &[(&str, Option<f64>)]) {
    let mut body = Vec::new();
    body.extend(1_i32.to_be_bytes());
    body.extend(1_i32.to_be_bytes());
    text(&mut body, "client-id");
    text(&mut body, client_id);
    body.extend((quotas.len() as i32).to_be_bytes());
    for (name, value) in quotas {
        text(&mut body, name);
        body.extend(value.unwrap_or(0.0).to_be_bytes());
        body.push(u8::from(value.is_none()));
    }
    // Not only tried.
    body.push(0);
    let answer = ask(servers, ALTER_CLIENT_QUOTAS, &[], &body);
    // Behind the time for which this request is held back, and the number of answers.
    let code = i16::from_be_bytes(answer[8..10].try_into().expect("two bytes"));
    assert_eq!(code, 0, "the quotas {quotas:?} of `{client_id}` were refused");
}

/// Whether a broker, which is the only one of its cluster, knows a transactional id.
///
/// # Panics
/// When it doesn't say.
pub fn knows_transactional_id(servers: &str, id: &str) -> bool {
    // Lengths are one more than they are, and fit into a byte; there are no tagged fields.
    let mut body = vec![2, u8::try_from(id.len() + 1).expect("a short id")];
    body.extend(id.as_bytes());
    body.push(0);
    let answer = ask(servers, DESCRIBE_TRANSACTIONS, &[0], &body);
    // Behind the header's tagged fields, the time for which this request is held back, and the number of answers.
    match i16::from_be_bytes(answer[6..8].try_into().expect("two bytes")) {
        0 => true,
        TRANSACTIONAL_ID_NOT_FOUND => false,
        code => panic!("the broker doesn't say whether it knows `{id}`: {code}"),
    }
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as i16).to_be_bytes());
    bytes.extend(text.as_bytes());
}

/// Sends a request, with what its header ends in, and gives the answer behind the correlation id.
fn ask(servers: &str, (key, version): (i16, i16), tags: &[u8], body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(1_i32.to_be_bytes());
    text(&mut frame, "midplane-tests");
    frame.extend(tags);
    frame.extend(body);
    let mut stream = TcpStream::connect(servers).expect("the broker listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    stream.write_all(&[&(frame.len() as i32).to_be_bytes()[..], &frame].concat()).expect("the broker reads");
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("the broker answers");
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).expect("the broker answers");
    answer.split_off(4)
}
