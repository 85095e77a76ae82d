//! `tcpls completions`: completion of commands and options by shells.

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::{Cli, Outcome, output};

/// Print a script with which a shell completes commands and options
///
/// For bash: tcpls completions bash > ~/.local/share/bash-completion/completions/tcpls. For zsh, write it to a file _tcpls
/// in a directory of $fpath; for fish, to ~/.config/fish/completions/tcpls.fish.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// The reader has closed the pipe.
pub fn run(args: &Args) -> Outcome {
    output::result(script(args.shell))?;
    Ok(())
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "tcpls", &mut script);
    String::from_utf8_lossy(&script).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;
    use crate::cli::text::visible_lines;

    #[test]
    fn scripts_are_printed_as_they_are() {
        for shell in Shell::value_variants() {
            let script = script(*shell);
            assert!(script.contains("local-forward") && script == visible_lines(&script), "{shell}");
        }
    }
}
