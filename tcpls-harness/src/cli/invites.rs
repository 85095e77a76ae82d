//! `tcpls proxy invite`: who may use a proxy.

use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use serde::Serialize;

use super::state::{State, StateArgs};
use super::{Outcome, keys, output, report, validity};
use crate::proxy::{ClientName, Invite, Invites, Secret, Target};
use crate::tls::{Identity, Pins};

/// What to do with invites.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum InviteCommand {
    /// Print an invite for a new client
    ///
    /// The line contains the client's secret, which is stored nowhere else: pass it on by a confidential channel. Run this
    /// as the user of the proxy, or with its --state.
    Add(Add),
    /// List the clients with an invite
    List(List),
    /// Refuse the secret of a client from now on
    ///
    /// Connections that the client has already stay open until they end.
    Revoke(Revoke),
}

/// Options of `invite add`.
#[derive(Clone, Debug, clap::Args)]
pub struct Add {
    /// Name of the client: letters, digits, and . _ - @
    #[arg(value_name = "NAME")]
    name: ClientName,
    /// Address and port at which clients reach the proxy; repeat it for several, to each of which the client opens a TCP
    /// connection
    #[arg(long, value_name = "HOST:PORT", required = true)]
    address: Vec<Target>,
    /// Certificate in PEM of a proxy that is started with --cert
    #[arg(long, value_name = "PEM")]
    cert: Option<PathBuf>,
    /// The state directory.
    #[command(flatten)]
    state: StateArgs,
    /// Print the invite as JSON
    #[arg(long)]
    json: bool,
}

/// Options of `invite list`.
#[derive(Clone, Debug, clap::Args)]
pub struct List {
    /// The state directory.
    #[command(flatten)]
    state: StateArgs,
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

/// Options of `invite revoke`.
#[derive(Clone, Debug, clap::Args)]
pub struct Revoke {
    /// Name of the client
    #[arg(value_name = "NAME")]
    name: ClientName,
    /// The state directory.
    #[command(flatten)]
    state: StateArgs,
    /// Print errors as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Added<'a> {
    name: &'a str,
    invite: String,
    pins: Vec<String>,
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    /// In seconds since 1970.
    created: u64,
}

/// Changes or lists the invites in a state directory.
///
/// # Errors
/// The directory can't be used, the name is taken, or there is no such invite.
pub(crate) fn run(command: &InviteCommand) -> Outcome {
    match command {
        InviteCommand::Add(args) => report::or_error(add(args), args.json),
        InviteCommand::List(args) => report::or_error(list(args), args.json),
        InviteCommand::Revoke(args) => report::or_error(revoke(args), args.json),
    }
}

fn add(args: &Add) -> Outcome {
    let state = args.state.directory()?;
    let invites = invites(&state)?;
    let pins = match &args.cert {
        Some(cert) => Pins::new(Identity::pin_of_file(cert)?),
        None => keys::pins(&state)?,
    };
    let secret = Secret::generate();
    let invite = Invite::new(args.address.clone(), pins, args.name.clone(), secret.clone())?;
    let name = &args.name;
    if !invites.add(name, &secret, pins).map_err(|error| format!("can't store the invite of {name}: {error}"))? {
        return Err(format!("{name} has an invite already; revoke it, or choose another name").into());
    }
    if args.json {
        let pins = invite.pins().iter().map(|pin| pin.to_string()).collect();
        output::result_json(&Added { name: name.as_str(), invite: invite.line(), pins })?;
    } else {
        output::result(invite.line())?;
    }
    Ok(())
}

fn list(args: &List) -> Outcome {
    let invites = invites(&args.state.directory()?)?;
    for invited in invites.list().map_err(|error| format!("can't list the invites: {error}"))? {
        let created = invited.created.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if args.json {
            output::result_json(&Listed { name: invited.name.as_str(), created })?;
        } else {
            output::result(format_args!("{:<24} since {}", invited.name.as_str(), validity::date(created)))?;
        }
    }
    Ok(())
}

fn revoke(args: &Revoke) -> Outcome {
    let (invites, name) = (invites(&args.state.directory()?)?, &args.name);
    if !invites.revoke(name).map_err(|error| format!("can't revoke the invite of {name}: {error}"))? {
        return Err(format!("{name} has no invite; tcpls proxy invite list shows who has").into());
    }
    Ok(())
}

/// The invites in a state directory.
pub(crate) fn invites(state: &State) -> Outcome<Invites> {
    let directory = state.invites();
    let invites = Invites::at(&directory);
    Ok(invites.map_err(|error| format!("can't use the invites in {}: {error}", directory.display()))?)
}
