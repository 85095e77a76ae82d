//! x
#[derive(Debug, clap::Subcommand)]
/// Measure
pub enum Perf {
    /// x
    Server,
}
/// x
/// # Errors
/// x
pub async fn run(_: Perf) -> super::Outcome {
    Ok(())
}
