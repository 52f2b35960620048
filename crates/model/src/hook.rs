//! The hook protocol, version 1: what a training process says and what the agent answers. Specified in `docs/hook-protocol.md`.

use serde::{Deserialize, Serialize};

/// The protocol version this build speaks.
pub const VERSION: u32 = 1;
/// The longest line either side sends or accepts, its newline included, in bytes.
pub const LINE_MAX: usize = 8 * 1024;
/// How long a held process waits before it goes on by itself, in milliseconds.
pub const HOLD_DEADLINE_MS: u64 = 5_000;

/// The phases a trainer can be held in.
pub const PHASES: &[&str] = &[
    "data-wait",
    "forward",
    "backward",
    "all-reduce",
    "optimizer-step",
    "step-end",
    "epoch-end",
    "evaluation",
    "checkpoint-begin",
    "checkpoint-written",
    "checkpoint-renamed",
    "exit",
];

/// First message of a connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Protocol version.
    pub v: u32,
    /// Pid as the process sees it; the kernel's credentials of the socket are what counts.
    pub pid: u32,
    /// Global rank; absent outside a data-parallel job.
    #[serde(default)]
    pub rank: Option<u32>,
    /// Rank on this host.
    #[serde(default)]
    pub local_rank: Option<u32>,
    /// Number of ranks.
    #[serde(default)]
    pub world: Option<u32>,
    /// How often the job was restarted before this process started, from 0.
    #[serde(default)]
    pub restart: u32,
    /// Hold points this process can offer.
    #[serde(default)]
    pub phases: Vec<String>,
    /// `rank`, `supervisor` or `script`.
    #[serde(default)]
    pub role: String,
}

/// One thing that happened in training, from the hook or from a log pattern. Only the fields of its kind are set.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TrainingEvent {
    /// Counter of the sender's connection, from 1; 0 for events read from a log.
    #[serde(default)]
    pub seq: u64,
    /// CLOCK_MONOTONIC of the sender, in nanoseconds; 0 for events read from a log.
    #[serde(default)]
    pub t_mono_ns: u64,
    /// `step-end`, `epoch-end`, `phase-begin`, … as in the protocol; unknown kinds are kept as they are.
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Loss of this rank's own part of the batch, where `loss` is a mean over ranks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_loss: Option<f64>,
    /// Learning rate that the step was made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// Length of the gradient that the step was made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grad_norm: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Events dropped by the sender since the last one that got through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
}

/// A process has reached an armed hold point and blocks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HoldReached {
    pub id: String,
    #[serde(default)]
    pub step: Option<u64>,
    #[serde(default)]
    pub epoch: Option<u64>,
    pub phase: String,
}

/// A script asks that its own process be ended, here; it blocks like a hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// `r` and a number that counts from 1 per process.
    pub id: String,
    /// `process-terminate` or `process-kill`.
    pub fault: String,
    #[serde(default)]
    pub step: Option<u64>,
    #[serde(default)]
    pub epoch: Option<u64>,
    /// For `process-terminate`: KILL follows after this many milliseconds.
    #[serde(default)]
    pub grace_ms: Option<u64>,
}

/// A place where a process is to wait. Given fields must equal; absent ones match anything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HoldSpec {
    pub id: String,
    pub phase: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
}

/// From the trainer: one line is one of these, as an object with exactly one key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromTrainer {
    Hello(Hello),
    Event(TrainingEvent),
    Hold(HoldReached),
    Request(Request),
}

/// From the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromAgent {
    Welcome {
        v: u32,
        arm: Vec<HoldSpec>,
    },
    Arm {
        holds: Vec<HoldSpec>,
    },
    Landed {
        id: String,
    },
    Release {
        id: String,
    },
    /// With an id: that request is refused. Without: the connection is.
    Refused {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        because: String,
    },
}
