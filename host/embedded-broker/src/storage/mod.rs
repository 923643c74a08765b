//! Everything on disk: the locked folder, the journals of small facts, and the logs of partitions. It never knows the
//! protocol beyond the layout of a record batch, which is stored as it came.

pub(crate) mod batch;
pub(crate) mod folder;
pub(crate) mod handles;
pub(crate) mod journal;
mod known;
pub(crate) mod log;
pub(crate) mod producers;
mod segment;
pub(crate) mod transactions;
