//! What a fault is: a config type that can inject itself into a target and read back what it did.

use crate::undo::Undo;
use squall_model::event::Observation;
use squall_model::process::ProcessIdentity;
use squall_model::syntax::{Class, ConfigProblem, KindInfo};
use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

/// One thing that a fault acts on, resolved at the moment of the injection.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// A process, with the rank it carries when it is one of a training job.
    Process {
        identity: ProcessIdentity,
        rank: Option<u32>,
        /// The first words of its command line, for people.
        command: String,
    },
    /// A regular file.
    File { path: PathBuf },
    /// A network namespace, by a path that can be opened.
    Namespace { path: PathBuf },
    /// A container: its network namespace, and its first process.
    Container {
        /// The Unix socket of its engine.
        engine: PathBuf,
        id: String,
        name: String,
        /// Its first process; a container that restarts has another.
        init: ProcessIdentity,
        /// Other containers in the same network namespace, by name.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        shares_network_with: Vec<String>,
    },
    /// This machine.
    Host,
}

/// Something a fault needs that the host does not have. Checked before anything is touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmet {
    /// What is missing, e.g. `CAP_NET_ADMIN in the network namespace`.
    pub what: String,
    /// What to do, or what would serve instead.
    pub remedy: String,
}

/// Why an injection did not happen or did not complete. What had been done by then is in the journal and is undone.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// The undo could not be made durable, so nothing was changed.
    #[error("could not record the undo of `{action}`, because {source}")]
    Journal {
        action: String,
        #[source]
        source: std::io::Error,
    },
    /// A system call failed.
    #[error("could not {action} on {object}, because {source}")]
    Os {
        action: String,
        object: String,
        #[source]
        source: std::io::Error,
    },
    /// The target is gone or is not what the fault acts on.
    #[error("could not act on {target}, because {because}")]
    Target { target: String, because: String },
    /// The run is ending; the fault stopped between two changes.
    #[error("the injection was cancelled")]
    Cancelled,
    /// A bound was reached (size, rate, duration).
    #[error("refused to {action}, because {because}")]
    Limit { action: String, because: String },
}

/// A fault with its config. Synchronous: it runs on a thread of the agent and checks for cancellation between changes.
pub trait Fault: Debug + Send + Sync {
    /// What is missing on this host for this target; empty when it can be injected. Must not change anything.
    fn unmet(&self, target: &Target, facts: &crate::kind::HostFacts) -> Vec<Unmet>;
    /// How it will act on this host, in words for plan and report, e.g. `SIGSTOP by pidfd`.
    fn mechanism(&self, facts: &crate::kind::HostFacts) -> String;
    /// Changes the world, through the door only.
    fn inject(&self, target: &Target, host: &mut dyn Door) -> Result<(), FaultError>;
    /// Reads the world back after `inject`: did it land? `changes` are the undos journalled for this injection.
    fn observe(&self, target: &Target, changes: &[Undo]) -> Vec<Observation>;
    /// Whether a held process goes on after the first change already: it has to run for the rest of the fault to make sense.
    fn lets_go_early(&self) -> bool {
        false
    }
    /// Whether the target `workload` means the network namespace that the workload has to be started in for this fault, and not its processes.
    fn needs_namespaces(&self) -> bool {
        false
    }
    /// Problems with its values that types cannot express.
    fn problems(&self) -> Vec<ConfigProblem> {
        Vec::new()
    }
}

/// A config type that is a fault, with what people read about it. The doc comments of its fields are the reference.
pub trait FaultKind:
    Fault
    + serde::Serialize
    + serde::de::DeserializeOwned
    + schemars::JsonSchema
    + Clone
    + PartialEq
    + 'static
{
    /// Its key, class, layer, needs and example.
    const INFO: KindInfo;
}

/// A list of faults that an agent can inject.
pub trait Injectable: squall_model::syntax::FaultList {
    /// The fault behind the name.
    fn fault(&self) -> &dyn Fault;
}

/// The one way out into the world.
pub trait Door {
    /// Makes `undo` durable, then acts. If the journal cannot be written, `act` is not called.
    fn change(
        &mut self,
        undo: Undo,
        action: &str,
        act: &mut dyn FnMut() -> std::io::Result<()>,
    ) -> Result<(), FaultError>;
    /// Starts a served child (this binary as `serve-fault KIND`) that waits; journals its undo; then lets it go.
    /// Returns when the child has said that it is ready, or fails after `ready_within`.
    fn serve(
        &mut self,
        kind: &str,
        config: serde_json::Value,
        ready_within: Duration,
    ) -> Result<ProcessIdentity, FaultError>;
    /// A folder of this injection in the state folder, for verified backups. Created on first use, mode 0700.
    fn backup_dir(&mut self) -> Result<PathBuf, FaultError>;
    /// Fails with [`FaultError::Cancelled`] when the run is ending.
    fn check_cancelled(&self) -> Result<(), FaultError>;
    /// The injection's id: part of every name that the kernel lets us give.
    fn injection(&self) -> &squall_model::id::InjectionId;
    /// A seeded draw in [0, 1) for this injection, named by what it decides.
    fn draw(&self, what: &str) -> f64;
}

/// What a class means for the agent: whether something is left to undo.
pub fn leaves_something(class: Class) -> bool {
    class != Class::OneShot
}
