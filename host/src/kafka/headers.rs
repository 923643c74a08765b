//! Headers in librdkafka's memory: read by index, as bytes, since the safe wrapper panics on names that aren't UTF-8.

use std::marker::PhantomData;

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
