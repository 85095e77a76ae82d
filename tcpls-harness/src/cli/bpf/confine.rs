//! What a helper may do: register programs, and nothing else that needs a privilege.

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs};

use crate::cli::Outcome;

/// What the kernel wants for a program (CAP_BPF) that uses pointers (CAP_PERFMON).
const NEEDED: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::PERFMON);

/// Drops all other capabilities, for ever. Capabilities belong to threads: to be called before there is another one.
///
/// # Errors
/// The process lacks one of the two.
pub(crate) fn confine() -> Outcome {
    let now = capabilities(None).map_err(|error| format!("can't read this process' capabilities: {error}"))?;
    if !now.permitted.contains(NEEDED) {
        return Err("bpf-helper needs CAP_BPF and CAP_PERFMON: start it as root, or by a systemd unit with \
                    AmbientCapabilities=CAP_BPF CAP_PERFMON"
            .into());
    }
    let kept = CapabilitySets { effective: NEEDED, permitted: NEEDED, inheritable: CapabilitySet::empty() };
    set_no_new_privs(true)
        .and_then(|()| set_capabilities(None, kept))
        .map_err(|error| format!("can't drop capabilities: {error}"))?;
    Ok(())
}
