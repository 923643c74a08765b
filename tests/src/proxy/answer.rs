//! What is changed of answers: the addresses of brokers, or that what was written failed. Of addresses, those that say where
//! brokers are begin with it, so that what follows is passed on as it is.

use std::io;

use super::ApiKey;

/// An answer as a client behind the proxy is to see it; `address` gives the address here of a broker's.
pub(super) fn rewrite(
    key: ApiKey,
    version: i16,
    frame: Vec<u8>,
    address: impl Fn(&str) -> io::Result<String>,
) -> io::Result<Vec<u8>> {
    let flexible = key.response_header_version(version) > 0;
    let mut copy = Copy { rest: &frame, done: Vec::with_capacity(frame.len() + 64), flexible, address: &address };
    match key {
        ApiKey::Metadata => copy.metadata(version)?,
        ApiKey::FindCoordinator => copy.coordinators(version)?,
        ApiKey::DescribeCluster => copy.cluster(version)?,
        _ => return Ok(frame),
    }
    let Copy { rest, mut done, .. } = copy;
    done.extend_from_slice(rest);
    Ok(done)
}

/// An answer to a request to write, in which every partition has failed with a code.
pub(super) fn failed(key: ApiKey, version: i16, frame: &[u8], code: i16) -> io::Result<Vec<u8>> {
    let address = |broker: &str| Ok(broker.to_owned());
    let flexible = key.response_header_version(version) > 0;
    let mut copy = Copy { rest: frame, done: Vec::with_capacity(frame.len()), flexible, address: &address };
    copy.produced(version, code)?;
    let Copy { rest, mut done, .. } = copy;
    done.extend_from_slice(rest);
    Ok(done)
}

/// An answer on its way from `rest` to `done`.
struct Copy<'a> {
    rest: &'a [u8],
    done: Vec<u8>,
    /// Whether lengths are short, and structures end in tagged fields.
    flexible: bool,
    address: &'a dyn Fn(&str) -> io::Result<String>,
}

impl<'a> Copy<'a> {
    fn metadata(&mut self, version: i16) -> io::Result<()> {
        self.header()?;
        self.bytes(if version >= 3 { 4 } else { 0 })?;
        for _ in 0..self.length()? {
            self.bytes(4)?;
            self.place()?;
            if version >= 1 {
                self.text()?;
            }
            self.tags()?;
        }
        Ok(())
    }

    fn coordinators(&mut self, version: i16) -> io::Result<()> {
        self.header()?;
        self.bytes(if version >= 1 { 4 } else { 0 })?;
        if version < 4 {
            self.bytes(2)?;
            if version >= 1 {
                self.text()?;
            }
            self.bytes(4)?;
            return self.place();
        }
        for _ in 0..self.length()? {
            self.text()?;
            self.bytes(4)?;
            self.place()?;
            self.bytes(2)?;
            self.text()?;
            self.tags()?;
        }
        Ok(())
    }

    fn cluster(&mut self, version: i16) -> io::Result<()> {
        self.header()?;
        self.bytes(4 + 2)?;
        self.text()?;
        self.bytes(if version >= 1 { 1 } else { 0 })?;
        self.text()?;
        self.bytes(4)?;
        for _ in 0..self.length()? {
            self.bytes(4)?;
            self.place()?;
            self.text()?;
            self.bytes(if version >= 2 { 1 } else { 0 })?;
            self.tags()?;
        }
        Ok(())
    }

    fn produced(&mut self, version: i16, code: i16) -> io::Result<()> {
        /// From here on topics have ids in place of names.
        const WITH_IDS: i16 = 13;
        self.header()?;
        for _ in 0..self.length()? {
            match version {
                ..WITH_IDS => self.text()?,
                _ => drop(self.bytes(16)?),
            }
            for _ in 0..self.length()? {
                self.bytes(4)?;
                self.take(2)?;
                self.done.extend(code.to_be_bytes());
                // Offset and time, and where the log begins.
                self.bytes(8 + if version >= 2 { 8 } else { 0 } + if version >= 5 { 8 } else { 0 })?;
                if version >= 8 {
                    for _ in 0..self.length()? {
                        self.bytes(4)?;
                        self.text()?;
                        self.tags()?;
                    }
                    self.text()?;
                }
                self.tags()?;
            }
            self.tags()?;
        }
        Ok(())
    }

    fn header(&mut self) -> io::Result<()> {
        self.bytes(4)?;
        self.tags()
    }

    fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(io::ErrorKind::InvalidData)?;
        self.rest = rest;
        Ok(taken)
    }

    fn bytes(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let taken = self.take(count)?;
        self.done.extend_from_slice(taken);
        Ok(taken)
    }

    /// A number of variable length.
    fn take_number(&mut self) -> io::Result<usize> {
        let mut number = 0;
        for shift in (0..32).step_by(7) {
            let byte = self.take(1)?[0];
            number |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    fn put_number(&mut self, mut number: usize) {
        while number >= 0x80 {
            self.done.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.done.push(number as u8);
    }

    fn number(&mut self) -> io::Result<usize> {
        let number = self.take_number()?;
        self.put_number(number);
        Ok(number)
    }

    /// How many elements an array has; none where it is absent.
    fn length(&mut self) -> io::Result<usize> {
        if self.flexible {
            return Ok(self.number()?.saturating_sub(1));
        }
        let length = i32::from_be_bytes(*self.bytes(4)?.first_chunk().expect("four bytes"));
        Ok(usize::try_from(length).unwrap_or(0))
    }

    fn take_text(&mut self) -> io::Result<Option<&'a [u8]>> {
        let length = match self.flexible {
            true => self.take_number()?.checked_sub(1),
            false => usize::try_from(i16::from_be_bytes(*self.take(2)?.first_chunk().expect("two bytes"))).ok(),
        };
        length.map(|length| self.take(length)).transpose()
    }

    fn put_text(&mut self, text: Option<&[u8]>) {
        match (self.flexible, text) {
            (true, text) => self.put_number(text.map_or(0, |text| text.len() + 1)),
            (false, text) => self.done.extend(text.map_or(-1, |text| text.len() as i16).to_be_bytes()),
        }
        self.done.extend_from_slice(text.unwrap_or_default());
    }

    fn text(&mut self) -> io::Result<()> {
        let text = self.take_text()?;
        self.put_text(text);
        Ok(())
    }

    fn tags(&mut self) -> io::Result<()> {
        if self.flexible {
            for _ in 0..self.number()? {
                self.number()?;
                let length = self.number()?;
                self.bytes(length)?;
            }
        }
        Ok(())
    }

    /// A host and a port. An answer that knows of no broker has neither.
    fn place(&mut self) -> io::Result<()> {
        let host = self.take_text()?;
        let port = i32::from_be_bytes(*self.take(4)?.first_chunk().expect("four bytes"));
        let text = std::str::from_utf8(host.unwrap_or_default()).map_err(|_| io::ErrorKind::InvalidData)?;
        if port <= 0 || text.is_empty() {
            self.put_text(host);
            self.done.extend(port.to_be_bytes());
            return Ok(());
        }
        let here = (self.address)(&format!("{text}:{port}"))?;
        let (host, port) = here.rsplit_once(':').ok_or(io::ErrorKind::InvalidData)?;
        let port: i32 = port.parse().map_err(|_| io::ErrorKind::InvalidData)?;
        self.put_text(Some(host.as_bytes()));
        self.done.extend(port.to_be_bytes());
        Ok(())
    }
}
