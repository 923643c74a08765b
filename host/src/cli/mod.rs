//! The command line: arguments, commands, exit codes. Never decides anything about events.
