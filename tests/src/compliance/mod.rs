//! What every fault must show before it may be let loose. The suite runs over the catalogue by itself; a fault's author only gives it a recipe
//! in [`crate::targets`].

pub mod children;
pub mod crashes;
pub mod documents;
pub mod lifecycle;
pub mod refusal;
pub mod trial;

use anyhow::{Context as _, bail};

use crate::catalogue::kinds;
use squall_model::syntax::KindInfo;

/// Holds every fault of the catalogue to one demand; all failures are told, not only the first.
///
/// # Errors
/// With the faults that do not meet it.
pub fn assert_fault_compliance(
    demand: impl Fn(&KindInfo) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    for info in kinds() {
        if let Err(error) = demand(info).with_context(|| info.kind) {
            failures.push(format!("{error:#}"));
        }
    }
    if !failures.is_empty() {
        bail!(
            "{} of {} faults do not comply:\n{}",
            failures.len(),
            kinds().len(),
            failures.join("\n")
        );
    }
    Ok(())
}
