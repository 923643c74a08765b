//! The requests of transactions byte by byte, in every version that is offered: the client used elsewhere speaks only some.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::*;

/// A producer, as requests name it.
type Id = (i64, i16);

/// The error codes of the protocol.
const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_TXN_STATE: i16 = 48;
const INVALID_PRODUCER_ID_MAPPING: i16 = 49;
const INVALID_TRANSACTION_TIMEOUT: i16 = 50;
const PRODUCER_FENCED: i16 = 90;

/// The kinds of requests.
const INIT_PRODUCER_ID: i16 = 22;
const ADD_PARTITIONS: i16 = 24;
const ADD_OFFSETS: i16 = 25;
const END: i16 = 26;
const COMMIT_OFFSETS: i16 = 28;

/// A request under way, or the answer to one: `flexible` versions have short lengths and tagged fields.
struct Body {
    bytes: Vec<u8>,
    flexible: bool,
}

impl Body {
    fn put(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self
    }

    fn text(self, text: &str) -> Self {
        let length = text.len() as u8;
        let flexible = self.flexible;
        if flexible { self.put(&[length + 1]) } else { self.put(&[0, length]) }.put(text.as_bytes())
    }

    fn producer(self, (id, epoch): Id) -> Self {
        self.put(&id.to_be_bytes()).put(&epoch.to_be_bytes())
    }

    /// The length of an array of one.
    fn one(self) -> Self {
        let flexible = self.flexible;
        if flexible { self.put(&[2]) } else { self.put(&[0, 0, 0, 1]) }
    }

    /// No tagged fields, where there could be some.
    fn tags(self) -> Self {
        let flexible = self.flexible;
        if flexible { self.put(&[0]) } else { self }
    }
}

/// A connection that sends requests one by one.
struct Raw(TcpStream);

impl Raw {
    fn connect(servers: &str) -> Self {
        let stream = TcpStream::connect(servers).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    /// Sends a request; gives its answer after the time that it was held back for.
    fn ask(&mut self, key: i16, version: i16, flexible_since: i16, body: impl FnOnce(Body) -> Body) -> Vec<u8> {
        let flexible = version >= flexible_since;
        let request = Body { bytes: Vec::new(), flexible };
        let request = request.put(&key.to_be_bytes()).put(&version.to_be_bytes()).put(&[0, 0, 0, 9, 0xff, 0xff]).tags();
        let bytes = body(request).tags().bytes;
        self.0.write_all(&[&(bytes.len() as u32).to_be_bytes(), &bytes[..]].concat()).unwrap();
        let mut length = [0; 4];
        self.0.read_exact(&mut length).unwrap_or_else(|error| panic!("{key} {version}: {error}"));
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut answer).unwrap();
        let header = if flexible { 5 } else { 4 };
        assert_eq!(answer[header..header + 4], [0; 4], "{key} {version}: held back");
        answer.split_off(header + 4)
    }

    fn init(&mut self, version: i16, timeout: i32, claimed: Id) -> (i16, Id) {
        let answer = self.ask(INIT_PRODUCER_ID, version, 2, |body| {
            let body = body.text("x").put(&timeout.to_be_bytes());
            if version >= 3 { body.producer(claimed) } else { body }
        });
        let id = i64::from_be_bytes(answer[2..10].try_into().unwrap());
        (error(&answer, 0), (id, i16::from_be_bytes([answer[10], answer[11]])))
    }

    fn add_partitions(&mut self, version: i16, producer: Id) -> i16 {
        let answer = self.ask(ADD_PARTITIONS, version, 3, |body| {
            body.text("x").producer(producer).one().text("t").one().put(&[0; 4]).tags()
        });
        error(&answer, of_first_partition(version))
    }

    fn add_offsets(&mut self, version: i16, producer: Id) -> i16 {
        error(&self.ask(ADD_OFFSETS, version, 3, |body| body.text("x").producer(producer).text("g")), 0)
    }

    fn commit_offsets(&mut self, version: i16, producer: Id, offset: i64) -> i16 {
        let answer = self.ask(COMMIT_OFFSETS, version, 3, |body| {
            let body = body.text("x").text("g").producer(producer);
            // No generation, no member, no instance.
            let body = if version >= 3 { body.put(&[0xff; 4]).text("").put(&[0]) } else { body };
            let body = body.one().text("t").one().put(&[0; 4]).put(&offset.to_be_bytes());
            let body = if version >= 2 { body.put(&[0xff; 4]) } else { body };
            body.text("").tags().tags()
        });
        error(&answer, of_first_partition(version))
    }

    fn end(&mut self, version: i16, producer: Id, commit: bool) -> i16 {
        error(&self.ask(END, version, 3, |body| body.text("x").producer(producer).put(&[u8::from(commit)])), 0)
    }
}

fn error(answer: &[u8], at: usize) -> i16 {
    i16::from_be_bytes([answer[at], answer[at + 1]])
}

/// Where the error of the first partition of the topic `t` stands: after two lengths, a name and an index.
fn of_first_partition(version: i16) -> usize {
    if version >= 3 { 1 + 2 + 1 + 4 } else { 4 + 3 + 4 + 4 }
}

const NONE: Id = (-1, -1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_version_of_a_request_is_answered_in_its_own_words() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path(), &[("t", 1)]).await;
    let servers = broker.bootstrap_servers();
    blocking(move || {
        let mut raw = Raw::connect(&servers);
        let mut known = None;
        for version in 0..=3 {
            let (error, me) = raw.init(version, 8000, NONE);
            assert_eq!(error, 0, "{version}");
            let (id, epoch) = *known.insert(me);
            let (before, other) = ((id, epoch - 1), (id + 1, epoch));
            let fenced = if version >= 2 { PRODUCER_FENCED } else { INVALID_PRODUCER_EPOCH };
            assert_eq!(raw.end(version, me, true), INVALID_TXN_STATE, "{version}");
            assert_eq!(raw.add_partitions(version, me), 0, "{version}");
            assert_eq!(raw.add_partitions(version, before), fenced, "{version}");
            assert_eq!(raw.add_partitions(version, other), INVALID_PRODUCER_ID_MAPPING, "{version}");
            assert_eq!(raw.commit_offsets(version, me, 1), INVALID_TXN_STATE, "{version}: the group is not part of it");
            assert_eq!(raw.add_offsets(version, me), 0, "{version}");
            assert_eq!(raw.add_offsets(version, before), fenced, "{version}");
            let offset = 100 + i64::from(version);
            assert_eq!(raw.commit_offsets(version, me, offset), 0, "{version}");
            assert_eq!(raw.commit_offsets(version, before, 1), INVALID_PRODUCER_EPOCH, "{version}");
            assert_eq!(raw.end(version, before, true), fenced, "{version}");
            assert_eq!(raw.end(version, me, true), 0, "{version}");
            assert_eq!(raw.end(version, me, true), 0, "{version}: asked again");
            assert_eq!(raw.end(version, me, false), INVALID_TXN_STATE, "{version}");
            assert_eq!(transactions::committed(&servers, true).unwrap(), (offset, 0), "{version}");
        }
        let me = known.unwrap();
        for timeout in [0, -1, 900_001] {
            assert_eq!(raw.init(4, timeout, NONE), (INVALID_TRANSACTION_TIMEOUT, NONE), "{timeout}");
        }
        let (error, next) = raw.init(4, 900_000, me);
        assert_eq!((error, next), (0, (me.0, me.1 + 1)));
        assert_eq!(raw.init(3, 8000, me), (0, next), "the answer was lost");
        assert_eq!(raw.add_partitions(3, next), 0);
        assert_eq!(raw.init(3, 8000, me), (INVALID_PRODUCER_EPOCH, NONE));
        assert_eq!(raw.init(4, 8000, me), (PRODUCER_FENCED, NONE));
        assert_eq!(raw.end(3, next, true), 0, "which the one before can't disturb");
    })
    .await;
    broker.shutdown().await.unwrap();
}
