//! What can become of an event other than its outputs: the kinds that the contract names. A plugin's fault is data.

/// Why an event failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which kind; decides what happens next.
    pub kind: Kind,
    /// For people: what happened, with the offending value.
    pub message: String,
}

impl Failure {
    /// A failure of a kind, with its message.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The kinds of failure, as they stand in `midplane-error-kind`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind { $($(#[$doc])* $name,)* }

        impl Kind {
            /// All of them.
            pub const ALL: &[Kind] = &[$(Kind::$name,)*];

            /// As it stands in headers and metrics.
            pub fn as_str(self) -> &'static str {
                match self { $(Kind::$name => $text,)* }
            }
        }
    };
}

kinds! {
    /// The plugin said: try again. In a letter: the attempts are spent.
    Transient = "transient",
    /// The plugin said: never.
    Permanent = "permanent",
    /// The guest trapped.
    Trap = "trap",
    /// The guest took longer than its deadline.
    Deadline = "deadline",
    /// A growth of memory or of a table was denied.
    Memory = "memory",
    /// The guest's stack overflowed.
    Stack = "stack",
    /// Too many bytes, or too many outputs.
    Output = "output",
    /// An output named a port that the plugin doesn't describe or the route doesn't bind.
    Port = "port",
    /// Verdicts and events differ in number, or columns are malformed.
    Protocol = "protocol",
    /// The route's filter could not be evaluated.
    Filter = "filter",
    /// An output is larger than its topic takes.
    TooLarge = "too-large",
    /// The output's broker refused it for good.
    Rejected = "rejected",
    /// The event passed more routers than any sensible topology has.
    Loop = "loop",
    /// An operator had the event skipped: the route was not run, or not to its end.
    Skipped = "skipped",
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
