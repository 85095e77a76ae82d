//! `tcpls proxy key`: a key of a server that takes the place of another.

use std::path::Path;

use serde::Serialize;

use super::invites::invites;
use super::state::{State, StateArgs};
use super::{Outcome, output, report};
use crate::private;
use crate::tls::{Identity, Pin, Pins};

/// Names of clients that an error shows.
const SHOWN: usize = 10;

/// What to do with the private key of a proxy.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum KeyCommand {
    /// Print the SHA-256 of the public key in use, and of the next one if there is one
    ///
    /// It makes no key: an error says that there is none yet.
    Show(Show),
    /// Make the next key, unless there is one, and print its SHA-256
    ///
    /// Invites have both keys from now on. The proxy continues to use the former.
    Next(Show),
    /// Put the next key in the place of the one in use, which is deleted
    ///
    /// The proxy uses it from its next start or SIGHUP on. Refused if the invite of a client does not have the next key.
    Switch(Switch),
}

/// Options of `key show` and `key next`.
#[derive(Clone, Debug, clap::Args)]
pub struct Show {
    /// The state directory.
    #[command(flatten)]
    state: StateArgs,
    /// Print the keys as JSON
    #[arg(long)]
    json: bool,
}

/// Options of `key switch`.
#[derive(Clone, Debug, clap::Args)]
pub struct Switch {
    /// Also if clients have invites without the next key: they cannot connect any more
    #[arg(long)]
    force: bool,
    /// The state directory.
    #[command(flatten)]
    state: StateArgs,
    /// Print the key as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Keys {
    in_use: String,
    next: Option<String>,
}

/// Shows or changes the keys in a state directory.
///
/// # Errors
/// The directory can't be used, there is no next key, or a client does not know it.
pub(crate) fn run(command: &KeyCommand) -> Outcome {
    match command {
        KeyCommand::Show(args) => report::or_error(show(args), args.json),
        KeyCommand::Next(args) => report::or_error(next(args), args.json),
        KeyCommand::Switch(args) => report::or_error(switch(args), args.json),
    }
}

/// The pins for an invite: of the key in use, which is made if this is before the first start, and of the next.
pub(crate) fn pins(state: &State) -> Outcome<Pins> {
    let in_use = Pins::new(made(&state.key())?);
    Ok(kept(&state.next_key())?.map_or(in_use, |next| in_use.or(next)))
}

fn show(args: &Show) -> Outcome {
    let state = args.state.directory()?;
    if kept(&state.key())?.is_none() {
        let key = state.key().display().to_string();
        return Err(format!("there is no key in {key}; the first start of the proxy or invite makes it").into());
    }
    print(&state, args.json)
}

fn next(args: &Show) -> Outcome {
    let state = args.state.directory()?;
    made(&state.next_key())?;
    print(&state, args.json)
}

fn switch(args: &Switch) -> Outcome {
    let state = args.state.directory()?;
    let next = kept(&state.next_key())?
        .ok_or("there is no next key; make it with tcpls proxy key next, then give out invites")?;
    let invited = invites(&state)?.list().map_err(|error| format!("can't list the invites: {error}"))?;
    let unaware: Vec<&str> =
        invited.iter().filter(|invited| !invited.pins.contains(&next)).map(|invited| invited.name.as_str()).collect();
    if !unaware.is_empty() && !args.force {
        let more = if unaware.len() > SHOWN { ", and others" } else { "" };
        let names = unaware[..unaware.len().min(SHOWN)].join(", ");
        return Err(format!(
            "the invites of these clients do not have the next key: {names}{more}; give them new ones (revoke, then add), or \
             pass --force: they cannot connect any more then"
        )
        .into());
    }
    private::replace(&state.key(), &state.next_key())
        .map_err(|error| format!("can't replace {}: {error}", state.key().display()))?;
    output::tell("the proxy uses the new key from its next start on, or when it gets SIGHUP");
    print(&state, args.json)
}

fn print(state: &State, json: bool) -> Outcome {
    let next = kept(&state.next_key())?.map(|pin| pin.to_string());
    let keys = Keys { in_use: made(&state.key())?.to_string(), next };
    if json {
        return Ok(output::result_json(&keys)?);
    }
    output::result(format_args!("in use {}", keys.in_use))?;
    if let Some(next) = keys.next {
        output::result(format_args!("next   {next}"))?;
    }
    Ok(())
}

/// The pin of the key in a file, which is made if there is none. Names in certificates do not matter here.
fn made(path: &Path) -> Outcome<Pin> {
    Ok(Identity::kept_in(path, &["localhost"])?.pin()?)
}

/// The pin of the key in a file; `None` if there is no such file.
fn kept(path: &Path) -> Outcome<Option<Pin>> {
    Ok(Identity::found_in(path, &["localhost"])?.map(|identity| identity.pin()).transpose()?)
}
