//! What every fault must show before it may be let loose. The suite runs over the catalogue by itself; a fault's author only gives it a recipe
//! in [`crate::targets`].

pub mod children;
pub mod crashes;
pub mod documents;
pub mod lifecycle;
pub mod refusal;
pub mod trial;

use anyhow::{Context as _, bail, ensure};

use crate::catalogue::kinds;
use crate::folder::Folder;
use crate::targets::{Size, recipe};
use squall_model::syntax::KindInfo;

/// The beginning of the names of the faults that are tried; every fault unless it is set. For a guest that is slow.
const FAULTS: &str = "SQUALL_FAULTS";

/// Holds every fault of the catalogue to one demand; all failures are told, not only the first.
///
/// # Errors
/// With the faults that do not meet it.
pub fn assert_fault_compliance(
    demand: impl Fn(&KindInfo) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let beginning = std::env::var(FAULTS).unwrap_or_default();
    let tried = kinds()
        .iter()
        .filter(|info| info.kind.starts_with(&beginning));
    ensure!(
        tried.clone().count() > 0,
        "no fault begins with {beginning}"
    );
    let mut failures = Vec::new();
    for info in tried {
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

/// The same in each way to use it that its recipe knows.
///
/// # Errors
/// With the first way in which it does not comply.
pub fn in_every_way(
    info: &KindInfo,
    demand: impl Fn(&Way) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for variant in 0..Way::count(info)? {
        let way = Way {
            info: *info,
            variant,
        };
        demand(&way).with_context(|| format!("in its way {variant}"))?;
    }
    Ok(())
}

/// A fault and one of the ways to use it.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// The fault.
    pub info: KindInfo,
    /// The place in its recipe's list.
    pub variant: usize,
}

impl Way {
    /// One of the ways to use a fault: they take turns.
    ///
    /// # Errors
    /// When its recipe knows none.
    pub fn in_turn(info: &KindInfo, turn: usize) -> anyhow::Result<Self> {
        let count = Self::count(info)?;
        Ok(Self {
            info: *info,
            variant: turn % count,
        })
    }

    fn count(info: &KindInfo) -> anyhow::Result<usize> {
        let recipe = recipe(info.kind)?;
        let folder = Folder::new()?;
        let prey = (recipe.prepare)(folder.path(), Size::Small)?;
        let count = (recipe.variants)(&prey).len();
        ensure!(count > 0, "its recipe knows no way to use it");
        Ok(count)
    }
}
