//! One connection through the proxy: a thread for each way, frame by frame.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{ApiKey, LOOK_INTERVAL, Passage, Shared, Side, answer};

/// How long the broker may take to answer what was released after its client had gone.
const LAST_ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A request, as its head says.
#[derive(Debug, Clone)]
struct Asked {
    key: ApiKey,
    version: i16,
    client_id: String,
}

/// A connection of a client, and the one to the broker that stands for it.
#[derive(Debug)]
pub(super) struct Link {
    number: u64,
    client: TcpStream,
    server: TcpStream,
    /// Requests without an answer so far, by their correlation ids.
    asked: Mutex<HashMap<i32, Asked>>,
    swallowed: AtomicBool,
}

impl Link {
    pub(super) fn new(number: u64, client: TcpStream, server: TcpStream) -> Self {
        for stream in [&client, &server] {
            // It costs time alone where it is refused.
            let _ = stream.set_nodelay(true);
        }
        Self { number, client, server, asked: Mutex::default(), swallowed: AtomicBool::new(false) }
    }

    /// Passes on what comes, both ways, until either side ends.
    pub(super) fn run(self: Arc<Self>, shared: &Arc<Shared>) {
        let (link, there) = (Arc::clone(&self), Arc::clone(shared));
        std::thread::spawn(move || {
            // Either side may end at any time: that is what proxies see.
            let _ = link.requests(&there);
            link.wait_for_answers();
            link.close();
            there.state().links.remove(&link.number);
        });
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            let _ = self.answers(&shared);
            self.close();
        });
    }

    pub(super) fn close(&self) {
        for stream in [&self.client, &self.server] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Whether something that was sent never came.
    pub(super) fn has_swallowed(&self) -> bool {
        self.swallowed.load(Ordering::Relaxed)
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<i32, Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn requests(&self, shared: &Shared) -> io::Result<()> {
        while let Some(frame) = read(&self.client)? {
            let (correlation, asked) = head(&frame)?;
            match shared.pass(Side::Request, asked.key, &asked.client_id, frame.len()) {
                Passage::Through => {
                    self.asked().insert(correlation, asked);
                    write(&self.server, &frame)?;
                }
                Passage::Swallowed => self.swallowed.store(true, Ordering::Relaxed),
                Passage::Failing(_) => unreachable!("answers fail, not requests"),
                Passage::Lost => break,
            }
        }
        Ok(())
    }

    fn answers(&self, shared: &Arc<Shared>) -> io::Result<()> {
        while let Some(frame) = read(&self.server)? {
            let correlation = i32::from_be_bytes(*frame.first_chunk().ok_or(io::ErrorKind::InvalidData)?);
            let asked = self.asked().get(&correlation).cloned();
            let Asked { key, version, client_id } = asked.ok_or(io::ErrorKind::InvalidData)?;
            let passage = shared.pass(Side::Answer, key, &client_id, frame.len());
            self.asked().remove(&correlation);
            match passage {
                Passage::Through => {
                    let frame = answer::rewrite(key, version, frame, |broker| shared.address_of(broker))?;
                    // The client may have gone, while the broker still has something to do for it.
                    let _ = write(&self.client, &frame);
                }
                Passage::Failing(code) => {
                    let _ = write(&self.client, &answer::failed(key, version, &frame, code)?);
                }
                Passage::Swallowed => self.swallowed.store(true, Ordering::Relaxed),
                Passage::Lost => break,
            }
        }
        Ok(())
    }

    /// What was passed on is done, though nobody may hear of it: a broker that sees its client gone may leave it undone.
    fn wait_for_answers(&self) {
        let end = Instant::now() + LAST_ANSWER_WITHIN;
        let is_open = || {
            self.asked().values().any(|asked| {
                matches!(asked.key, ApiKey::EndTxn | ApiKey::TxnOffsetCommit | ApiKey::Produce | ApiKey::OffsetCommit)
            })
        };
        while is_open() && Instant::now() < end {
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
}

/// The next frame; nothing at the end.
fn read(mut stream: &TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame)?;
    Ok(Some(frame))
}

fn write(mut stream: &TcpStream, frame: &[u8]) -> io::Result<()> {
    let length = u32::try_from(frame.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    stream.write_all(&[&length.to_be_bytes(), frame].concat())
}

/// The correlation id of a request, and what it is.
fn head(frame: &[u8]) -> io::Result<(i32, Asked)> {
    let ([k0, k1, v0, v1, c @ .., l0, l1], rest) = frame.split_first_chunk::<10>().ok_or(io::ErrorKind::InvalidData)?;
    let key = ApiKey::try_from(i16::from_be_bytes([*k0, *k1])).map_err(|()| io::ErrorKind::InvalidData)?;
    // A client without an id has a negative length.
    let length = usize::try_from(i16::from_be_bytes([*l0, *l1])).unwrap_or(0);
    let client_id = String::from_utf8_lossy(rest.get(..length).ok_or(io::ErrorKind::InvalidData)?).into_owned();
    Ok((i32::from_be_bytes(*c), Asked { key, version: i16::from_be_bytes([*v0, *v1]), client_id }))
}
