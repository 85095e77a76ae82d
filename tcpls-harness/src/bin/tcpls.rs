//! The `tcpls` command. All of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    tcpls_harness::cli::main()
}
