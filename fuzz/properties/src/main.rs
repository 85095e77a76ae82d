//! Runs one input of a fuzz target without a fuzzer. With `TCPLS_RECORDING`, what its sessions did until it failed
//! becomes a file for `tcpls replay`; with `TCPLS_RECORDING_ALWAYS` also that of an input that does not fail:
//!
//! ```sh
//! TCPLS_RECORDING=crash.tcplsrec cargo run -p tcpls-fuzz-properties -- bytes CRASH
//! ```

use tcpls_fuzz_properties as properties;

/// A name and what it runs.
type Target = (&'static str, fn(&[u8]));

/// The targets that have sessions.
const TARGETS: [Target; 6] = [
    ("acks", properties::acks),
    ("bytes", properties::bytes),
    ("early", properties::early),
    ("joins", properties::joins),
    ("ops", properties::ops),
    ("reassembly", properties::reassembly),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [target, file] = &arguments[..] else { return Err("usage: tcpls-fuzz-properties TARGET FILE".into()) };
    let Some((_, property)) = TARGETS.iter().find(|(name, _)| name == target) else {
        let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        return Err(format!("{target} has no sessions; these have: {}", names.join(", ")).into());
    };
    property(&std::fs::read(file).map_err(|error| format!("{file}: {error}"))?);
    println!("the property holds");
    Ok(())
}
