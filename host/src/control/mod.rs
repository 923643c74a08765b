//! The control plane: generations, start and stop, the admin surface. Never touches an event.

pub mod address;
pub mod admin;
pub mod logging;
pub mod status;
