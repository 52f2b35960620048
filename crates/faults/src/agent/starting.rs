//! Starting the owned workload: its files, its cgroups, and its spawn behind a durable undo.

use super::HookFile;
use super::guard_calls::GuardCalls;
use super::shared::Shared;
use crate::cgroups;
use crate::fault::{Door, FaultError};
use crate::guard::wire::{Program, SpawnRequest};
use crate::host::Host;
use crate::journal::record::About;
use crate::protocol::WorkloadSpec;
use crate::state_dir::create_private;
use crate::undo::Undo;
use crate::undo::perform::undo_injection;
use squall_model::event::{Observation, Place, Presence};
use squall_model::id::InjectionId;
use squall_model::process::ProcessIdentity;
use squall_model::syntax::Class;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How long the tree may take to end by itself after TERM.
const GRACE_MS: u64 = 5_000;

/// All that the starting thread needs.
pub(super) struct Starting {
    pub(super) spec: WorkloadSpec,
    pub(super) env: Vec<(String, String)>,
    pub(super) injection: InjectionId,
    pub(super) mark: String,
    pub(super) write: OwnedFd,
}

impl Starting {
    pub(super) fn run(
        self,
        shared: &Arc<Shared>,
        calls: &GuardCalls,
    ) -> Result<ProcessIdentity, FaultError> {
        let mut this = self;
        if let Some(proxy) = &this.spec.proxy {
            // What the file says of a variable itself holds.
            let mut env = super::proxied::start(proxy, shared)?;
            env.retain(|(name, _)| !this.spec.env.contains_key(name));
            this.env.extend(env);
        }
        this.started(shared, calls)
    }

    fn started(self, shared: &Shared, calls: &GuardCalls) -> Result<ProcessIdentity, FaultError> {
        let started = self.change(shared, calls);
        if let Err(error) = &started {
            // A cgroup may have been made, and the child may have been started after all.
            undo_injection(
                &shared.journal,
                &self.injection,
                &format!("the workload did not start: {error}"),
            );
        }
        started
    }

    fn change(&self, shared: &Shared, calls: &GuardCalls) -> Result<ProcessIdentity, FaultError> {
        let about = About {
            rule: None,
            kind: "workload".into(),
            class: Class::Lasting,
            target: self.spec.argv.join(" ").chars().take(500).collect(),
            process: None,
            aim: Place::default(),
            mechanism: if self.spec.private {
                "started by the guard in network and mount namespaces of its own, marked in its environment".into()
            } else {
                "started by the guard, marked in its environment".into()
            },
        };
        let mut host = Host::new(
            shared.journal.clone(),
            self.injection.clone(),
            about,
            shared.seed,
            shared.cancelled.clone(),
            shared.spawner.clone(),
        );
        let cgroups = self.make_cgroups(&mut host)?;
        let undo = Undo::EndTree {
            mark: self.mark.clone(),
            cgroups: cgroups.clone(),
            grace_ms: GRACE_MS,
        };
        let mut process = None;
        host.change(undo, "start the workload", &mut || {
            let request = SpawnRequest {
                request: 0,
                program: Program::Workload {
                    argv: self.spec.argv.clone(),
                },
                env: self.env.clone(),
                directory: Some(self.spec.directory.clone()),
                cgroups: cgroups.clone(),
                private: self.spec.private,
                until_boot_ns: 0,
            };
            let null = std::fs::File::open("/dev/null")?;
            let (out, err) = (self.write.try_clone()?, self.write.try_clone()?);
            process = Some(calls.spawn(request, &[null.into(), out, err])?);
            Ok(())
        })?;
        let pid = process
            .as_ref()
            .map_or(0, |process: &ProcessIdentity| process.pid);
        let seen = Observation {
            presence: Presence::Present,
            source: "guard".into(),
            evidence: format!("process {pid} was started"),
        };
        host.land(None, vec![seen])?;
        process.ok_or(FaultError::Cancelled)
    }

    /// A cgroup of our own in each hierarchy that allows it. Where none does, the mark in the environment serves alone.
    fn make_cgroups(&self, host: &mut Host) -> Result<Vec<PathBuf>, FaultError> {
        let paths = cgroups::below_own(&format!("squall-{}", self.injection));
        if paths.is_empty() {
            return Ok(paths);
        }
        let mut made = Vec::new();
        host.change(
            Undo::RemoveCgroups {
                paths: paths.clone(),
            },
            "make cgroups",
            &mut || {
                made = paths
                    .iter()
                    .filter(|path| std::fs::create_dir(path).is_ok())
                    .cloned()
                    .collect();
                Ok(())
            },
        )?;
        Ok(made)
    }
}

/// Where the boot file of the unpacked hook lies, below the run's folder. It finds its package by its own place.
pub(super) const HOOK_BOOT: &str = "hook/squall_hook/boot";

pub(super) fn unpack(folder: &Path, files: &[HookFile]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    for (path, content) in files {
        let path = folder.join(path);
        create_private(path.parent().unwrap_or(folder))?;
        let mut file = std::fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(content)?;
    }
    Ok(())
}
