//! Transactions: who has which producer id and epoch, what is part of an open transaction, how it ends. They never look
//! into a record.

pub(crate) mod coordinator;
mod journal;
pub(crate) mod machine;
