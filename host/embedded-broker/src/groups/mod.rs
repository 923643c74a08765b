//! Consumer groups (the classic protocol): who is a member, who gets what, what is committed. They never look into a log.

pub(crate) mod coordinator;
pub(crate) mod machine;
pub(crate) mod offsets;
