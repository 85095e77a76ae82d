//! `tcpls man`: pages for man(1), made from the help texts.

use std::io;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_mangen::Man;

use super::{Cli, Outcome, output};

/// Print the manual page of a command, or write those of all commands
///
/// To read one: tcpls man proxy | man -l -. To install all: tcpls man --out /usr/local/share/man/man1.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The command, for example "proxy invite add". Default: tcpls itself
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    pub command: Vec<String>,
    /// Write the pages of all commands to this directory
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Prints a page, or writes all.
///
/// # Errors
/// There is no such command, or a page can't be written.
pub fn run(args: &Args) -> Outcome {
    match &args.out {
        Some(directory) => Ok(write_all(directory)
            .map_err(|error| format!("can't write manual pages to {}: {error}", directory.display()))?),
        None => {
            output::result(page(&args.command)?)?;
            Ok(())
        }
    }
}

/// The commands, each with its whole name.
fn commands() -> clap::Command {
    let mut all = Cli::command();
    all.build();
    all
}

fn page(names: &[String]) -> Outcome<String> {
    let mut command = commands();
    for name in names {
        let Some(found) = command.find_subcommand(name).cloned() else {
            return Err(format!("there is no command {name:?}; tcpls --help lists them").into());
        };
        command = found;
    }
    Ok(rendered(command)?)
}

fn rendered(command: clap::Command) -> io::Result<String> {
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    Ok(String::from_utf8_lossy(&page).trim_end().to_owned())
}

fn write_all(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(Cli::command(), directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::text::visible_lines;

    /// Checks the page of a command, and of those below it.
    fn check(names: &[String], command: &clap::Command) -> usize {
        let page = page(names).unwrap();
        assert!(page.contains(".SH SYNOPSIS") && page == visible_lines(&page), "{names:?}");
        let below = command.get_subcommands().filter(|command| command.get_name() != "help");
        1 + below.map(|command| check(&[names, &[command.get_name().to_owned()]].concat(), command)).sum::<usize>()
    }

    #[test]
    fn each_command_has_a_page_that_is_printed_as_it_is() {
        let pages = check(&[], &Cli::command());
        assert!(pages > 15, "{pages} pages");
        assert!(page(&["proxy".to_owned()]).unwrap().contains("\\-\\-allow\\-remote"));
        let text = page(&["proxy".to_owned(), "nothing".to_owned()]).unwrap_err().to_string();
        assert!(text.contains("no command \"nothing\""), "{text}");
    }
}
