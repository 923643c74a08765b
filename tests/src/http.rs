//! Just enough HTTP to ask the admin surface.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::wait::DEADLINE;

/// An order may wait for a plugin that uses up the ten seconds of the processor that `configure` has.
const ORDER_DEADLINE: Duration = Duration::from_secs(240);

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub code: u16,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it isn't.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// One GET.
///
/// # Errors
/// When nobody listens, or what comes is no answer.
pub fn get(address: &str, path: &str) -> io::Result<Answer> {
    ask(address, "GET", path, "", DEADLINE)
}

/// One POST.
///
/// # Errors
/// When nobody listens, or what comes is no answer.
pub fn post(address: &str, path: &str, body: &str) -> io::Result<Answer> {
    ask(address, "POST", path, body, ORDER_DEADLINE)
}

fn ask(address: &str, method: &str, path: &str, body: &str, deadline: Duration) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(deadline))?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Answer { code, body: body.to_owned() })
}
