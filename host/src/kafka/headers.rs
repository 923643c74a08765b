//! Headers in librdkafka's memory: read and written as bytes, since the safe wrapper panics on names that aren't UTF-8.
//! Never looks into names or values.

use std::marker::PhantomData;
use std::ptr::NonNull;

use rdkafka::bindings as rdsys;

use crate::data::event::Header;

/// The headers of a record that is borrowed from the client.
#[derive(Debug, Clone, Copy)]
pub struct HeadersRef<'a> {
    list: *const rdsys::rd_kafka_headers_t,
    record: PhantomData<&'a ()>,
}

impl<'a> HeadersRef<'a> {
    /// # Safety
    /// `list` points to headers that live, unchanged, for `'a`.
    pub(crate) unsafe fn new(list: *const rdsys::rd_kafka_headers_t) -> Self {
        Self { list, record: PhantomData }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        // SAFETY: `new` promised a live list.
        unsafe { rdsys::rd_kafka_header_cnt(self.list) }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of names and values.
    pub fn bytes(&self) -> usize {
        (0..self.len())
            .filter_map(|index| self.get(index))
            .map(|header| header.name.len() + header.value.map_or(0, <[u8]>::len))
            .sum()
    }

    /// The header at an index, if there is one.
    pub fn get(&self, index: usize) -> Option<Header<'a>> {
        let (mut name, mut value, mut size) = (std::ptr::null(), std::ptr::null(), 0);
        // SAFETY: `new` promised a live list; what comes back points into it and lives as long.
        unsafe {
            if rdsys::rd_kafka_header_get_all(self.list, index, &mut name, &mut value, &mut size)
                != rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                return None;
            }
            let name = std::ffi::CStr::from_ptr(name).to_bytes();
            let value = (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), size));
            Some(Header { name, value })
        }
    }
}

/// Headers for a record that is to be produced, in librdkafka's memory: one allocation for the list, one a header.
#[derive(Debug)]
pub struct OwnedHeaders {
    list: NonNull<rdsys::rd_kafka_headers_t>,
    bytes: usize,
}

// SAFETY: the list is this value's alone, and bound to no thread.
unsafe impl Send for OwnedHeaders {}

impl OwnedHeaders {
    /// None yet, with room for some.
    pub fn new(capacity: usize) -> Self {
        // SAFETY: no preconditions.
        let list = unsafe { rdsys::rd_kafka_headers_new(capacity) };
        let list = NonNull::new(list).expect("librdkafka aborts where it can't allocate");
        Self { list, bytes: 0 }
    }

    /// The same headers once more, names and values byte by byte.
    pub fn copy_of(headers: HeadersRef<'_>) -> Self {
        // SAFETY: the list is live.
        let list = unsafe { rdsys::rd_kafka_headers_copy(headers.list) };
        let list = NonNull::new(list).expect("librdkafka aborts where it can't allocate");
        Self { list, bytes: headers.bytes() }
    }

    /// Takes a list over.
    ///
    /// # Safety
    /// `list` is live, and nobody else destroys it.
    pub(super) unsafe fn take(list: NonNull<rdsys::rd_kafka_headers_t>) -> Self {
        // SAFETY: the list is live.
        let bytes = unsafe { HeadersRef::new(list.as_ptr()) }.bytes();
        Self { list, bytes }
    }

    /// Bytes of names and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds one at the end. A null value stays null, an empty one empty.
    ///
    /// # Panics
    /// Where the name or the value is longer than [`isize::MAX`] bytes, which no slice is.
    pub fn add(&mut self, name: &[u8], value: Option<&[u8]>) {
        let length = |bytes: &[u8]| isize::try_from(bytes.len()).expect("no slice is longer");
        // A length of 0 is taken as it is for the value, but -1 would mean "up to the NUL" for either.
        let (data, size) = value.map_or((std::ptr::null(), 0), |value| (value.as_ptr().cast(), length(value)));
        // SAFETY: the list is live, the pointers are readable for the lengths given, and both are copied.
        let code =
            unsafe { rdsys::rd_kafka_header_add(self.list.as_ptr(), name.as_ptr().cast(), length(name), data, size) };
        debug_assert_eq!(code, rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
        self.bytes += name.len() + value.map_or(0, <[u8]>::len);
    }

    /// To look at them.
    pub fn as_ref(&self) -> HeadersRef<'_> {
        // SAFETY: the list lives, unchanged, for as long as this borrow.
        unsafe { HeadersRef::new(self.list.as_ptr()) }
    }

    pub(super) fn raw(&self) -> *mut rdsys::rd_kafka_headers_t {
        self.list.as_ptr()
    }
}

impl Drop for OwnedHeaders {
    fn drop(&mut self) {
        // SAFETY: the list is live, and this value's.
        unsafe { rdsys::rd_kafka_headers_destroy(self.list.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pair = (&'static [u8], Option<&'static [u8]>);

    fn check(input: &[Pair]) {
        let mut headers = OwnedHeaders::new(0);
        for (name, value) in input {
            headers.add(name, *value);
        }
        let expected: Vec<Header<'_>> = input.iter().map(|&(name, value)| Header { name, value }).collect();
        let read = |headers: HeadersRef<'_>| {
            (0..headers.len())
                .filter_map(|index| headers.get(index))
                .map(|h| (h.name.to_vec(), h.value.map(<[u8]>::to_vec)))
                .collect::<Vec<_>>()
        };
        let expected: Vec<_> = expected.iter().map(|h| (h.name.to_vec(), h.value.map(<[u8]>::to_vec))).collect();
        assert_eq!(read(headers.as_ref()), expected);
        let copy = OwnedHeaders::copy_of(headers.as_ref());
        drop(headers);
        assert_eq!(read(copy.as_ref()), expected, "a copy stands on its own");
        assert!(copy.as_ref().get(input.len()).is_none());
        assert_eq!(
            copy.bytes(),
            input.iter().map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len)).sum::<usize>()
        );
    }

    #[test]
    fn headers_keep_their_bytes_and_their_order() {
        check(&[]);
        check(&[(b"a", Some(b"1")), (b"b", Some(b"2")), (b"a", Some(b"3"))]);
        check(&[(b"null", None), (b"empty", Some(b"")), (b"", Some(b"no name"))]);
        check(&[(b"\xff\xfe", Some(b"\x00\xff")), (b"caf\xe9", Some(b"latin"))]);
    }
}
