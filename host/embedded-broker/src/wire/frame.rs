//! Cuts a stream of bytes into requests: `length: i32`, then as many bytes. It never allocates for bytes that have not
//! come, and never looks inside.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// How long a request may be, in bytes.
pub(crate) const REQUEST_MAX: usize = 32 << 20;

/// How much is made room for at a time, in bytes: at least this, at most that.
const READ: (usize, usize) = (16 << 10, 1 << 20);

/// What has come and was not yet a whole request.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    buffer: BytesMut,
}

impl Frames {
    /// The next request; nothing at the end of the stream. Loses nothing when it is cancelled.
    ///
    /// # Errors
    /// When the stream fails, ends inside a request, or announces one that is too long.
    pub(crate) async fn next(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Bytes>> {
        loop {
            let missing = match self.size()? {
                Some(size) if self.buffer.len() >= 4 + size => {
                    self.buffer.advance(4);
                    return Ok(Some(self.buffer.split_to(size).freeze()));
                }
                Some(size) => 4 + size - self.buffer.len(),
                None => 4,
            };
            self.buffer.reserve(missing.clamp(READ.0, READ.1));
            if stream.read_buf(&mut self.buffer).await? == 0 {
                let whole = self.buffer.is_empty();
                return if whole { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    fn size(&self) -> io::Result<Option<usize>> {
        let Some(announced) = self.buffer.first_chunk() else { return Ok(None) };
        let announced = i32::from_be_bytes(*announced);
        match usize::try_from(announced) {
            Ok(size) if size <= REQUEST_MAX => Ok(Some(size)),
            _ => {
                let message = format!("a request of {announced} bytes, expected 0 to {REQUEST_MAX}");
                Err(io::Error::new(io::ErrorKind::InvalidData, message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    async fn all(mut stream: impl AsyncRead + Unpin) -> (Vec<Bytes>, io::Result<()>) {
        let mut frames = Frames::default();
        let mut found = Vec::new();
        loop {
            match frames.next(&mut stream).await {
                Ok(Some(frame)) => found.push(frame),
                Ok(None) => return (found, Ok(())),
                Err(error) => return (found, Err(error)),
            }
        }
    }

    #[test]
    fn lengths_that_no_request_has_are_refused() {
        for length in [-1, REQUEST_MAX as i32 + 1, i32::MAX, i32::MIN] {
            let (found, outcome) = run(all(&length.to_be_bytes()[..]));
            assert!(found.is_empty());
            assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::InvalidData, "{length}");
        }
        assert!(run(all(&[0, 0, 0, 5, 1][..])).1.is_err(), "ends inside a request");
    }

    proptest! {
        #[test]
        fn requests_come_out_however_they_were_cut(
            sent in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..10),
            cut in 1_usize..40,
        ) {
            let bytes: Vec<u8> = sent.iter().flat_map(|frame| {
                (frame.len() as i32).to_be_bytes().into_iter().chain(frame.iter().copied())
            }).collect();
            let (found, outcome) = run(async {
                let (mut writer, reader) = tokio::io::duplex(cut);
                let write = async move {
                    tokio::io::AsyncWriteExt::write_all(&mut writer, &bytes).await.unwrap();
                };
                tokio::join!(write, all(reader)).1
            });
            prop_assert!(outcome.is_ok());
            prop_assert_eq!(found, sent);
        }
    }
}
