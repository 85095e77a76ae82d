//! `tcpls bpf-helper`.

use std::path::PathBuf;

use crate::cli::Outcome;

/// Register congestion controls with the kernel, for servers on this host
///
/// A congestion control here is a BPF program, which runs in the kernel. Its SHA-256 names it. Servers with --bpf-helper ask for
/// one when a client does, and need no privilege. Without --bpf-object and --bpf-key, every request is refused.
///
/// The helper keeps CAP_BPF and CAP_PERFMON, and drops all other capabilities. Its programs are available to all users of the
/// host under names such as multcp_3210, and vanish when it ends; TCP connections keep the one that they use.
#[derive(Clone, Debug, clap::Args)]
pub struct HelperArgs {
    /// Socket for requests; the user and the group of the helper may connect
    #[arg(long, value_name = "PATH", default_value = super::SOCKET)]
    pub socket: PathBuf,
    /// Object file of a program that is registered when it is asked for; repeat it for several, at most 64
    #[arg(long, value_name = "FILE")]
    pub bpf_object: Vec<PathBuf>,
    /// Public key (Ed25519, PEM) whose owner may bring programs through a client; repeat it for several, at most 16
    #[arg(long, value_name = "PEM")]
    pub bpf_key: Vec<PathBuf>,
}

/// Answers requests until a signal.
///
/// # Errors
/// What keeps it from starting.
#[cfg(all(feature = "bpf", target_os = "linux"))]
pub(crate) async fn run(args: HelperArgs) -> Outcome {
    use crate::cli::signals::Signals;
    use crate::cli::status::socket;
    use crate::cli::{output, systemd};
    use crate::programs::{Kernel, Programs, VerifyingKey};

    /// The owner and the group may connect.
    const MODE: u32 = 0o660;

    let stop = Signals::listen()?.stop();
    let mut programs = Programs::new(Kernel::new());
    for path in &args.bpf_object {
        let wrong = |error: &dyn std::fmt::Display| format!("can't use {}: {error}", path.display());
        let object = std::fs::read(path).map_err(|error| wrong(&error))?;
        let id = programs.allow(object).map_err(|error| wrong(&error))?;
        output::tell(format_args!("{} has the SHA-256 {id}", path.display()));
    }
    for path in &args.bpf_key {
        let key = VerifyingKey::from_file(path).map_err(|error| format!("can't use {}: {error}", path.display()))?;
        programs.trust(key)?;
    }
    let listening = socket::listen_at(&args.socket, MODE).map_err(|error| {
        let path = args.socket.display();
        format!("can't listen at {path}: {error}; create its directory, or choose another --socket")
    })?;
    output::tell(format_args!("answers at {}", args.socket.display()));
    systemd::notify(systemd::State::Ready);
    tokio::select! {
        never = super::attend::attend(&listening.listener, &mut programs) => match never {},
        stopped = stop => {
            systemd::notify(systemd::State::Stopping);
            output::tell(format_args!("{stopped}: unregistering the programs"));
        }
    }
    Ok(())
}

/// Says that this build can't.
///
/// # Errors
/// Always.
#[cfg(not(all(feature = "bpf", target_os = "linux")))]
pub(crate) async fn run(_: HelperArgs) -> Outcome {
    Err(super::UNAVAILABLE.into())
}
