//! Reloading under load: what is live becomes another generation, and nobody notices, whatever is deployed and however. On
//! every broker.

mod deploys;
mod kill;
mod load;
mod outputs;
mod refused;
mod routes;
mod setting;
mod swaps;
