//! Whatever breaks, each event has its one outcome. Every kind of fault happens for real, under load, to a group of either
//! guarantee where both can suffer it; the checker judges what became of the events.
//!
//! | kind | what really happens |
//! |---|---|
//! | `hosts`: killed in a batch | `kill -9` while events are worked on, twice |
//! | killed in a transaction | `kill -9` while the request that ends a transaction is held back; it comes after the host has gone |
//! | killed in a reload | `kill -9` while generations change |
//! | stopped | SIGSTOP for 12 s, longer than sessions and transactions last |
//! | starved | the process runs for 5 of each 100 ms |
//! | asked to stop in a backlog | SIGTERM while most events still wait |
//! | come and go | a second host joins, leaves and is killed, again and again |
//! | `transactions`: end held | the request that ends a transaction comes later than anybody waits for it |
//! | end unknown | the broker ends the transaction, and its answer is lost |
//! | end astray | the held request comes while a later transaction is open, which is never ended |
//! | offsets unknown | the broker takes positions into a transaction, and its answer is lost |
//! | partitions unknown | the broker takes partitions and a group into a transaction, and its answers are lost |
//! | takeover unknown | the broker gives a producer its name, and its answer is lost |
//! | id forgotten | the broker has forgotten a transactional id, and what it knew of producers |
//! | name taken | another producer takes a shard's transactional id, and again: its group stands, all others go on, until somebody says so |
//! | name forbidden | the right to write under a transactional id is taken away, and given back |
//! | `requests`: outputs unknown | the broker writes outputs, and its answers are lost: they are sent again |
//! | commit unknown | the broker commits positions, and its answers are lost |
//! | commit lost | requests to commit positions never come |
//! | session lost | heartbeats are held until the group gives the partitions to nobody |
//! | slow to join | the group's rounds take seconds, while a host joins |
//! | `network`: away at the start | nobody is let in until the host has said that it waits |
//! | away in between | connections are cut, and nobody is let in for seconds |
//! | silent | what is sent is swallowed for seconds, and connections stay |
//! | slow | each request and answer takes 50 ms more |
//! | narrow | 300 kB pass in a second |
//! | unsteady | all connections are cut, every quarter of a second |
//! | `plugins`: trap, stack overflow, endless loop, memory bomb, giant output (five kinds) | every 97th event orders one of them |
//! | `topics`: missing | the topic that is read is made long after the host has started |
//! | wider | partitions are added to the topic that is read |
//! | outputs too large | an output topic takes less than it did when the host asked |
//! | outputs rejected | an output topic refuses outputs without a key |
//! | outputs forbidden | the right to write to an output topic is taken away, and given back |
//! | commits forbidden | the right to read in the group is taken away, and given back |
//! | records gone | records are deleted before they are read: the partition halts, or goes on where the log begins |
//! | `brokers`: killed | the broker is killed with `kill -9` in the middle of a transaction, and started again on its data |
//! | leaders move | of three nodes, one after the other is killed, and others lead and coordinate |
//! | leaders are gone | of three nodes, the one is killed that alone has an output partition, while a transaction is open there |
//! | paused | SIGSTOP to the broker, for longer than sessions last |
//! | `clocks`: set | the clock of the host, and of the embedded broker, is set an hour ahead, back, a day back, a month ahead; under load, and while all wait |
//! | `quotas`: used up | the broker allows the host's clients a few kB in a second, and a part of its time |
//! | `disks`: full under the broker | a small file system has no room for the broker's log |
//! | full under the host | a small file system has no room for the next generation |

mod brokers;
mod case;
mod clocks;
mod disks;
mod hosts;
mod long;
mod network;
mod plugins;
mod quotas;
mod requests;
mod topics;
mod transactions;
