//! The seam between the experiment file and the catalogue: what a list of faults must offer so that files can be read, checked and explained.

use schemars::{Schema, SchemaGenerator};
use serde::Serialize;
use std::fmt::Debug;

/// What kind of undo a fault has.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// A state of the world that is undone.
    Lasting,
    /// Happens once (a kill): needs evidence, has no undo.
    OneShot,
    /// A child process does it; its undo is to stop that child, cleanly first.
    Served,
}

/// What people read about a fault, all of it beside its code.
#[derive(Debug, Clone, Copy)]
pub struct KindInfo {
    /// The key in the file, e.g. `process-pause`.
    pub kind: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// What kind of undo it has.
    pub class: Class,
    /// Which layer really sees it (design §2.11), e.g. "the kernel's scheduler; the process itself sees a jump in time".
    pub layer: &'static str,
    /// What must be true of the host, in words; empty when nothing.
    pub requires: &'static str,
    /// What removes it after kill -9 of everything: "the kernel, at once" or "the next `squall undo`".
    pub after_kill: &'static str,
    /// Which selectors it accepts, by key: `rank`, `pid`, `file`, `host`, …
    pub targets: &'static [&'static str],
    /// A complete step of a method in YAML, that parses and plans.
    pub example: &'static str,
}

/// A problem with a fault's own values that its types cannot express (an empty list, a window that cannot be).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The key of the fault's config it belongs to.
    pub key: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

/// A flat list of faults, as `catalog` builds it. One value is one fault with its config.
pub trait FaultList: Sized + Clone + PartialEq + Debug + Serialize + Send + Sync + 'static {
    /// Every fault, in the order of the list.
    fn kinds() -> &'static [KindInfo];
    /// The schema of one fault's own config (without the shared keys).
    fn config_schema(kind: &str, generator: &mut SchemaGenerator) -> Option<Schema>;
    /// Reads the config of `kind`. `Err` names the path of the offending key inside the config and the reason.
    fn parse(kind: &str, config: serde_json::Value) -> Result<Self, (String, String)>;
    /// The key of this fault.
    fn kind(&self) -> &'static str;
    /// Its config as JSON, so that it can travel to an agent.
    fn config(&self) -> serde_json::Value;
    /// Problems beyond types.
    fn problems(&self) -> Vec<ConfigProblem>;
}
