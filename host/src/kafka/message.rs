//! What the safe wrapper's messages don't give safely: headers whose names needn't be UTF-8.

use rdkafka::bindings as rdsys;
use rdkafka::message::BorrowedMessage;

use super::HeadersRef;
use crate::data::event::Headers;

/// The headers of a message, as bytes.
pub fn headers_of<'a>(message: &'a BorrowedMessage<'_>) -> Headers<'a> {
    let mut list = std::ptr::null_mut();
    // SAFETY: the message is borrowed, so live; it keeps the list, which nobody changes, for as long as it lives itself.
    unsafe {
        match rdsys::rd_kafka_message_headers(message.ptr(), &mut list) {
            rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Headers::Native(HeadersRef::new(list)),
            _ => Headers::Empty,
        }
    }
}
