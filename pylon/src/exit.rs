//! Exit statuses, alike for all commands. The top help (`cli`) documents them.

use std::process::ExitCode;

/// The command did what was asked; a gate or a check passed.
pub const SUCCESS: ExitCode = ExitCode::SUCCESS;

/// The command ran and failed: an input line that cannot be used, a damaged file, a gate that does not pass.
pub const FAILED: u8 = 1;

/// The command could not run: wrong arguments, a file that is absent, no GPU where one is needed.
pub const COULD_NOT_RUN: u8 = 2;

/// The command was stopped by Ctrl-C: 128 + SIGINT, as shells have it.
pub const INTERRUPTED: u8 = 130;
