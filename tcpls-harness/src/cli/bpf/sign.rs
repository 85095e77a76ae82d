//! `tcpls bpf-sign`.

use std::path::PathBuf;
use std::str::FromStr;

use crate::cli::{Outcome, output};
use crate::programs::{ProgramId, SigningKey};

/// Sign a congestion control, so that servers whose helper has the key accept it from a client
///
/// Prints the SHA-256 of the program. openssl genpkey -algorithm ed25519 makes a key, and openssl pkey -pubout the file for
/// bpf-helper --bpf-key.
#[derive(Clone, Debug, clap::Args)]
pub struct SignArgs {
    /// Private key (Ed25519, PEM)
    #[arg(long, value_name = "PEM")]
    pub key: PathBuf,
    /// Give a parameter of the program another value; repeat it for several
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<Parameter>,
    /// The signed object
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Object file of the program
    #[arg(value_name = "OBJECT")]
    pub object: PathBuf,
}

/// A parameter and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    name: String,
    value: u64,
}

impl FromStr for Parameter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
        let value = value.parse().map_err(|_| format!("{value:?} is no whole number"))?;
        Ok(Self { name: name.to_owned(), value })
    }
}

/// Writes a signed object, and prints its hash.
///
/// # Errors
/// A file can't be read or written, the key is no Ed25519 key, or the object has no such parameter.
pub(crate) fn sign(args: &SignArgs) -> Outcome {
    let path = args.object.display();
    let mut object = std::fs::read(&args.object).map_err(|error| format!("can't read {path}: {error}"))?;
    for parameter in &args.set {
        object = changed(&object, parameter).map_err(|error| format!("{path}: {error}"))?;
    }
    let wrong = |error| format!("can't sign with {}: {error}", args.key.display());
    let key = SigningKey::from_pem(&std::fs::read(&args.key).map_err(wrong)?).map_err(wrong)?;
    let signed = key.sign(&object).map_err(|error| format!("can't sign {path}: {error}"))?;
    std::fs::write(&args.output, signed).map_err(|error| format!("can't write {}: {error}", args.output.display()))?;
    output::result(ProgramId::of(&object))?;
    Ok(())
}

#[cfg(all(feature = "bpf", target_os = "linux"))]
fn changed(object: &[u8], parameter: &Parameter) -> Result<Vec<u8>, String> {
    crate::programs::set_parameter(object, &parameter.name, parameter.value).map_err(|error| error.to_string())
}

#[cfg(not(all(feature = "bpf", target_os = "linux")))]
fn changed(_: &[u8], parameter: &Parameter) -> Result<Vec<u8>, String> {
    Err(format!("can't set {} to {}: {}", parameter.name, parameter.value, super::UNAVAILABLE))
}
