//! Dead letters after they were written: listed, shown, and sent through their routes again, by the program as people run it,
//! beside the hosts that wrote them. On every broker.

mod again;
mod case;
mod choice;
mod embedded;
mod kill;
mod once;
mod usage;
