//! Bugs to plant: each tampers with what passes between the engine and its driver, as if either had it. They show that
//! the checks find what they are there for.

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A message counts as acknowledged when it is handed to the producer.
    AckedWhenProduced,
    /// The position read is committed, not the settled one.
    CommitsPosition,
    /// The engine doesn't say that an output was refused before.
    ForgetsRefusal,
    /// A refused output counts as acknowledged.
    RefusedIsAcked,
    /// A failed message counts as acknowledged.
    FailedIsAcked,
    /// A lane goes on after the last event that was delivered, not from the first that isn't settled.
    ResumesAtPosition,
    /// A lane goes on from where it was assigned.
    ResumesAtStart,
    /// A revoked lane is released before it is drained.
    ReleasesBeforeDrained,
    /// All answered events are produced, those behind a stop too.
    EmitsPastStop,
    /// One attempt too few.
    AttemptTooFew,
    /// One attempt too many.
    AttemptTooMany,
    /// A letter isn't written, and counts as if it were.
    LosesLetter,
    /// The end of a partition is reported while records of it are still on their way.
    EndsEarly,
    /// A failed commit counts as made.
    CommitAlwaysAccepted,
    /// An event with a route to retry is emitted for its other routes.
    IgnoresRetry,
    /// What is known of routes is lost when their numbers change.
    SwapForgets,
    /// What is known of routes stays with their former numbers.
    SwapKeepsNumbers,
    /// A drain is said to be clean, however it went.
    AlwaysClean,
    /// Exactly once: after a transaction was given up, lanes go on from where the driver remembers the group to stand.
    RewindsFromMemory,
    /// Exactly once: a transaction that is to be given up goes on.
    KeepsAborted,
    /// Exactly once: a commit that wasn't answered counts as made.
    UnknownIsCommitted,
    /// Exactly once: a producer whose commit wasn't answered writes on.
    KeepsSuspect,
    /// Exactly once: positions are committed, and their outputs with the next transaction.
    CommitsPositionsApart,
    /// Exactly once: routes change in the middle of a transaction.
    SwapsWithin,
    /// Whatever fails, no breaker trips.
    BreakerNeverTrips,
    /// A breaker looks at more events than it is to, and trips late.
    BreakerTripsLate,
    /// A breaker looks at fewer events than it is to, and trips too soon.
    BreakerTripsEarly,
    /// What tries whether a route works again may fail.
    ProbeMayFail,
    /// Partitions that come to a route that is paused are read.
    PauseForgetsNew,
    /// One event more is skipped than was asked for.
    SkipsOneMore,
    /// What is skipped is dropped.
    SkipLoses,
}

impl Bug {
    /// All of them.
    pub const ALL: &[Bug] = &[
        Bug::AckedWhenProduced,
        Bug::CommitsPosition,
        Bug::ForgetsRefusal,
        Bug::RefusedIsAcked,
        Bug::FailedIsAcked,
        Bug::ResumesAtPosition,
        Bug::ResumesAtStart,
        Bug::ReleasesBeforeDrained,
        Bug::EmitsPastStop,
        Bug::AttemptTooFew,
        Bug::AttemptTooMany,
        Bug::LosesLetter,
        Bug::EndsEarly,
        Bug::CommitAlwaysAccepted,
        Bug::IgnoresRetry,
        Bug::SwapForgets,
        Bug::SwapKeepsNumbers,
        Bug::AlwaysClean,
        Bug::RewindsFromMemory,
        Bug::KeepsAborted,
        Bug::UnknownIsCommitted,
        Bug::KeepsSuspect,
        Bug::CommitsPositionsApart,
        Bug::SwapsWithin,
        Bug::BreakerNeverTrips,
        Bug::BreakerTripsLate,
        Bug::BreakerTripsEarly,
        Bug::ProbeMayFail,
        Bug::PauseForgetsNew,
        Bug::SkipsOneMore,
        Bug::SkipLoses,
    ];
}
