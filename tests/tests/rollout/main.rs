//! New versions of a plugin beside the live one, in the real program on every broker: those that are right take over,
//! those that are wrong or slow are given up. What follows from which counts is tested beside `data::trial`.

mod canary;
mod case;
mod shadow;
