//! One connection: its requests are answered one by one, in their order. It owns the socket, and never knows what a
//! request means.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, ResponseHeader};
use kafka_protocol::protocol::Encodable;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::frame::Frames;
use super::shape;
use crate::api::{self, Caller, Shared};

/// How long a request that is being answered may go on when the broker shuts down.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(300);

/// Why a connection is closed by the broker.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Closed {
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("request of unknown kind {0}")]
    UnknownKey(i16),
    #[error("{key:?} request of unsupported version {version}")]
    UnsupportedVersion { key: ApiKey, version: i16 },
    #[error("malformed {0:?} request")]
    Malformed(ApiKey),
    #[error("request too short to be one")]
    Short,
    #[error("answer can't be encoded: {0}")]
    Encode(String),
}

/// A request before its body is decoded.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) key: ApiKey,
    pub(crate) version: i16,
    correlation_id: i32,
    pub(crate) client_id: String,
    pub(crate) body: Bytes,
}

/// Serves a connection until either side ends it.
pub(crate) async fn serve(mut stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>, stop: watch::Receiver<bool>) {
    match run(&mut stream, peer, &shared, stop).await {
        Ok(()) => {}
        Err(Closed::Io(error)) if error.kind() != io::ErrorKind::InvalidData => {
            tracing::debug!(%peer, error = &error as &dyn std::error::Error, "Connection lost.");
        }
        Err(error) => tracing::warn!(%peer, error = &error as &dyn std::error::Error, "Connection closed."),
    }
}

async fn run(
    stream: &mut TcpStream,
    peer: SocketAddr,
    shared: &Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Closed> {
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let mut frames = Frames::default();
    loop {
        let frame = tokio::select! {
            frame = frames.next(stream) => frame?,
            _ = stop.wait_for(|&stop| stop) => return Ok(()),
        };
        let Some(frame) = frame else { return Ok(()) };
        let (request, supported) = read(&frame)?;
        let caller = Caller { host: peer.ip().to_string(), reached: local, client_id: request.client_id.clone() };
        let header = (request.key, request.version, request.correlation_id);
        let answer =
            async { if supported { api::answer(shared, caller, request).await } else { api::unsupported(&request) } };
        let answer = tokio::select! {
            biased;
            answer = answer => answer?,
            () = hung_up(stream) => return Ok(()),
            () = overdue(&mut stop) => return Ok(()),
        };
        if let Some(answer) = answer {
            let mut bytes = answer.encode(header)?;
            stream.write_all_buf(&mut bytes).await?;
        }
    }
}

/// Reads what every request starts with; says whether its version is one that is supported.
fn read(frame: &Bytes) -> Result<(Request, bool), Closed> {
    let mut start = frame.get(..8).ok_or(Closed::Short)?;
    let (number, version, correlation_id) = (start.get_i16(), start.get_i16(), start.get_i32());
    let key = ApiKey::try_from(number).map_err(|()| Closed::UnknownKey(number))?;
    let range = api::supported(key).ok_or(Closed::UnknownKey(number))?;
    let mut request = Request { key, version, correlation_id, client_id: String::new(), body: Bytes::new() };
    if !range.contains(&version) {
        // Clients ask for the versions with the newest version they know, and expect an answer even so.
        return if key == ApiKey::ApiVersions {
            Ok((request, false))
        } else {
            Err(Closed::UnsupportedVersion { key, version })
        };
    }
    let flexible = key.request_header_version(version) >= 2;
    let (client_id, body) = shape::split_header(frame, flexible).ok_or(Closed::Malformed(key))?;
    if !shape::is_sound(key, version, body) {
        return Err(Closed::Malformed(key));
    }
    request.client_id = String::from_utf8_lossy(client_id.unwrap_or_default()).into_owned();
    request.body = frame.slice_ref(body);
    Ok((request, true))
}

/// Returns when the other side has closed the connection; never, when it has sent more meanwhile.
async fn hung_up(stream: &TcpStream) {
    if matches!(stream.peek(&mut [0]).await, Ok(1..)) {
        std::future::pending::<()>().await;
    }
}

/// Returns when the broker has been shutting down for long enough.
async fn overdue(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|&stop| stop).await;
    tokio::time::sleep(SHUTDOWN_GRACE).await;
}

/// An answer that is ready to be sent.
pub(crate) struct Answer(Box<dyn EncodeBody + Send>);

/// The one thing that the answers of all requests can do.
trait EncodeBody {
    fn encode_body(&self, out: &mut BytesMut, version: i16) -> Result<(), String>;
}

impl<T: Encodable> EncodeBody for T {
    fn encode_body(&self, out: &mut BytesMut, version: i16) -> Result<(), String> {
        let size = self.compute_size(version).map_err(|error| error.to_string())?;
        out.reserve(size);
        self.encode(out, version).map_err(|error| error.to_string())
    }
}

impl Answer {
    /// Any response of the protocol.
    pub(crate) fn new(response: impl Encodable + Send + 'static) -> Self {
        Self(Box::new(response))
    }

    fn encode(&self, (key, version, correlation_id): (ApiKey, i16, i32)) -> Result<BytesMut, Closed> {
        let version = if api::supported(key).is_some_and(|range| range.contains(&version)) { version } else { 0 };
        let mut out = BytesMut::with_capacity(64);
        out.put_i32(0);
        let header = ResponseHeader::default().with_correlation_id(correlation_id);
        let encoded = header.encode(&mut out, key.response_header_version(version)).map_err(|error| error.to_string());
        encoded.and_then(|()| self.0.encode_body(&mut out, version)).map_err(Closed::Encode)?;
        let length = i32::try_from(out.len() - 4).map_err(|_| Closed::Encode("longer than 2 GiB".to_owned()))?;
        out[..4].copy_from_slice(&length.to_be_bytes());
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_request_is_refused_or_decoded(key in 0_i16..70, version in -1_i16..18, rest in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut frame = BytesMut::new();
            frame.put_i16(key);
            frame.put_i16(version);
            frame.put_slice(&rest);
            if let Ok((request, true)) = read(&frame.freeze()) {
                let _ = api::decodes(&request);
            }
        }
    }
}
