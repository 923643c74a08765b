//! What fails, and what becomes of it: every event has one outcome, every bad one a letter that says why, and whoever is
//! near goes on. On every broker.

mod case;
mod damage;
mod fan;
mod filter;
mod hand;
mod letter;
mod origin;
mod permanent;
mod poison;
mod size;
mod stack;
mod stop;
mod transient;
