//! Columns that break the protocol: pushed past the SDK, which would never write them.
//!
//! | order | what is wrong |
//! |---|---|
//! | `protocol-count-less`, `protocol-count-more` | `process` returns another number than the batch holds |
//! | `protocol-order` | the event's index falls, within one push |
//! | `protocol-order-calls` | the event's index falls, from one push to the next |
//! | `protocol-index` | an output for an event that the batch doesn't hold |
//! | `protocol-fail-index` | a failure of an event that the batch doesn't hold |
//! | `protocol-rows` | the last row is short of a word |
//! | `protocol-length` | a value longer than the bytes |
//! | `protocol-length-max` | a key and a value whose lengths add up to more than 32 bits |
//! | `protocol-rest` | bytes that no row names |
//! | `protocol-flags` | a flag that isn't known |
//! | `protocol-field` | a key that is neither inherited, none nor there |
//! | `protocol-unflagged` | a length for a key that is inherited |
//! | `protocol-headers` | a header longer than the bytes |
//! | `protocol-headers-count` | more headers than there are bytes |
//! | `protocol-port-length` | a port whose name is longer than the bytes |
//! | `port-index` | no breach, but a port beyond those described |
//! | `port-text` | no breach, but a port whose name isn't UTF-8 |

use std::sync::atomic::{AtomicI32, Ordering};

/// What the next answer of `process` is off by.
static MISCOUNT: AtomicI32 = AtomicI32::new(0);

/// Takes what the answer is to be off by.
pub fn take_miscount() -> i32 {
    MISCOUNT.swap(0, Ordering::Relaxed)
}

/// Breaks the protocol. Natively there is no host to take it, and only the count is kept.
pub fn break_with(order: &str) {
    // Flags and lengths of words 1 to 5; the others are 0.
    let row = |event, flags, port, key, value, headers| [event, flags, port, key, value, headers, 0, 0, 0];
    let good = |event| row(event, 0, 0, 0, 0, 0);
    let header_of = |name: u32| [name.to_le_bytes(), 0_u32.to_le_bytes()].concat();
    match order {
        "protocol-count-less" => MISCOUNT.store(-1, Ordering::Relaxed),
        "protocol-count-more" => MISCOUNT.store(1, Ordering::Relaxed),
        "protocol-order" => push(&[good(1), good(0)].concat(), b""),
        "protocol-order-calls" => {
            push(&good(1), b"");
            push(&good(0), b"");
        }
        "protocol-index" => push(&good(u32::MAX - 1), b""),
        "protocol-fail-index" => fail(u32::MAX - 1),
        "protocol-rows" => push(&good(0)[..8], b""),
        "protocol-length" => push(&row(0, 2 << 2, 0, 0, 5, 0), b"four"),
        "protocol-length-max" => push(&row(0, 2 | 2 << 2, 0, u32::MAX - 1, u32::MAX - 1, 0), b"four"),
        "protocol-rest" => push(&row(0, 2 << 2, 0, 0, 3, 0), b"four"),
        "protocol-flags" => push(&row(0, 1 << 8, 0, 0, 0, 0), b""),
        "protocol-field" => push(&row(0, 3, 0, 0, 0, 0), b""),
        "protocol-unflagged" => push(&row(0, 0, 0, 4, 0, 0), b"four"),
        "protocol-headers" => push(&row(0, 2 << 4, 0, 0, 0, 1), &header_of(100)),
        "protocol-headers-count" => push(&row(0, 2 << 4, 0, 0, 0, u32::MAX), &header_of(0)),
        "port-index" => push(&row(0, 0, 77, 0, 0, 0), b""),
        "port-text" => push(&row(0, 0, 0x8000_0002, 0, 0, 0), b"\xff\xfe"),
        "protocol-port-length" => push(&row(0, 0, 0xffff_ffff, 0, 0, 0), b"four"),
        _ => panic!("no such way to break the protocol: `{order}`"),
    }
}

#[cfg(target_family = "wasm")]
fn push(rows: &[u32], bytes: &[u8]) {
    midplane_plugin::bindings::midplane::plugin::results::push(rows, bytes);
}

#[cfg(target_family = "wasm")]
fn fail(event: u32) {
    use midplane_plugin::bindings::midplane::plugin::results::{Failure, fail};
    fail(event, &Failure::Permanent("no such event".to_owned()));
}

#[cfg(not(target_family = "wasm"))]
fn push(_rows: &[u32], _bytes: &[u8]) {}

#[cfg(not(target_family = "wasm"))]
fn fail(_event: u32) {}
