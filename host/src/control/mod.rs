//! The control plane: generations, start and stop, the admin surface. Never touches an event.
