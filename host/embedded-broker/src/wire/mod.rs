//! Bytes of a connection become requests, answers become bytes. What is malformed ends here, with its connection.

pub(crate) mod connection;
mod frame;
mod shape;
