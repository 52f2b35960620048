//! One fault, its prey, a journal of its own, and the host as it was before.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use squall_catalog::Faults;
use squall_faults::fault::{FaultError, Injectable as _, Target};
use squall_faults::host::Host;
use squall_faults::journal::Journal;
use squall_faults::journal::record::{About, Writer};
use squall_faults::kind::HostFacts;
use squall_faults::undo::perform::{Outcome, undo_injection};
use squall_model::event::{Observation, Presence};
use squall_model::id::{InjectionId, RuleId, RunId};
use squall_model::syntax::{Class, FaultList as _, KindInfo};

use super::Way;
use super::children::Children;
use crate::folder::Folder;
use crate::poll::until;
use crate::snapshot::{HostSnapshot, Scope};
use crate::targets::{Prey, Recipe, Size, recipe};

/// How long anything may take to show.
pub const LIMIT: Duration = Duration::from_secs(10);
/// The one run of a trial.
pub const RUN: &str = "01890000-0000-7000-8000-000000000001";

/// A fault about to be injected.
#[derive(Debug)]
pub struct Trial {
    /// What the fault says of itself.
    pub info: KindInfo,
    /// How it is tried.
    pub recipe: &'static Recipe,
    /// What it attacks.
    pub prey: Prey,
    /// The state folder.
    pub state: PathBuf,
    config: serde_json::Value,
    scope: Scope,
    before: HostSnapshot,
    _folder: Folder,
}

impl Trial {
    /// Prepares the prey and takes the snapshot.
    ///
    /// # Errors
    /// When there is no recipe, or preparing fails.
    pub fn set(way: &Way) -> anyhow::Result<Self> {
        Self::set_with(way, |_| Ok(()))
    }

    /// The same, with the prey changed before the snapshot.
    ///
    /// # Errors
    /// As [`Trial::set`], and as `change`.
    pub fn set_with(
        way: &Way,
        change: impl FnOnce(&mut Prey) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let info = way.info;
        let recipe = recipe(info.kind)?;
        let folder = Folder::new()?;
        let state = folder.path().join("state");
        fs::create_dir_all(run_dir(&state))?;
        let place = folder.path().join("place");
        let none = folder.path().join("no-cgroups");
        fs::create_dir(&place)?;
        fs::create_dir(&none)?;
        let mut prey = (recipe.prepare)(&place, Size::Small)?;
        change(&mut prey)?;
        let mut variants = (recipe.variants)(&prey);
        let config = variants.swap_remove(way.variant);
        let scope = Scope::host()
            .cgroup_root(&none)
            .descendants(std::process::id());
        let scope = prey.watched(scope, info.class != Class::OneShot);
        let before = HostSnapshot::take(&scope)?;
        for kind in recipe.shows_in {
            if let Some(reason) = before.blind().get(kind) {
                bail!("{kind} cannot be read here, so nothing can be proven: {reason}");
            }
        }
        Ok(Self {
            info,
            config,
            recipe,
            prey,
            state,
            scope,
            before,
            _folder: folder,
        })
    }

    /// The fault, from its config.
    ///
    /// # Errors
    /// When the recipe's config is not one.
    pub fn fault(&self) -> anyhow::Result<Faults> {
        build(self.info.kind, self.config.clone())
    }

    /// What it acts on.
    ///
    /// # Errors
    /// When the prey is gone already.
    pub fn target(&self) -> anyhow::Result<Target> {
        if let Some(process) = &self.prey.process {
            let identity = squall_faults::sys::process::identity(process.pid())?
                .context("the prey is gone")?;
            return Ok(Target::Process {
                identity,
                rank: None,
                command: "prey".to_owned(),
            });
        }
        if let Some(socket) = self.prey.proxy_socket() {
            return Ok(Target::Proxy {
                socket: socket.to_path_buf(),
            });
        }
        Ok(self
            .prey
            .file
            .clone()
            .map_or(Target::Host, |path| Target::File { path }))
    }

    /// An injection here and now.
    ///
    /// # Errors
    /// When the journal cannot be made.
    pub fn injection(&self) -> anyhow::Result<Injection> {
        Injection::begin(&self.state, &self.fault()?, self.target()?)
    }

    /// Whether the independent reading shows the fault.
    ///
    /// # Errors
    /// When it cannot be taken.
    pub fn is_seen(&self) -> anyhow::Result<bool> {
        (self.recipe.is_seen)(&self.prey)
    }

    /// Waits until it shows.
    ///
    /// # Errors
    /// When it does not.
    pub fn becomes_seen(&self) -> anyhow::Result<()> {
        until(LIMIT, || self.is_seen()).context("the independent reading does not show the fault")
    }

    /// Asserts that the host is as it was, less the target of a one-shot fault.
    ///
    /// # Errors
    /// With what is not.
    pub fn is_as_before(&self) -> anyhow::Result<()> {
        let mut left = Vec::new();
        until(LIMIT, || {
            left = self.left()?;
            Ok(left.is_empty())
        })
        .map_err(|_| anyhow!("left behind: {}", left.join("; ")))
    }

    fn left(&self) -> anyhow::Result<Vec<String>> {
        let after = HostSnapshot::take(&self.scope)?;
        ensure!(
            after.blind() == self.before.blind(),
            "the reader sees less than before: {:?}",
            after.blind()
        );
        let prey = format!("pid {}", self.prey.pid());
        let is_spent = |name: &str| self.info.class == Class::OneShot && name == prey;
        let differences = self.before.diff(&after).into_iter();
        Ok(differences
            .filter(|one| !is_spent(&one.name))
            .map(|one| one.to_string())
            .collect())
    }
}

/// A fault from its key and config.
///
/// # Errors
/// When the config is not one of that fault.
pub fn build(kind: &str, config: serde_json::Value) -> anyhow::Result<Faults> {
    Faults::parse(kind, config)
        .map_err(|(path, because)| anyhow!("its recipe's config is wrong at `{path}`: {because}"))
}

/// The folder of the one run.
pub fn run_dir(state: &Path) -> PathBuf {
    state.join("runs").join(RUN)
}

/// The facts of this host as this thread may use them.
pub fn facts() -> HostFacts {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let rights = line
        .and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
        .unwrap_or(0);
    let may = |bit: u32| rights >> bit & 1 == 1;
    HostFacts {
        root: rustix::process::geteuid().is_root(),
        net_admin: may(12),
        sys_admin: may(21),
        kill: may(5),
        nftables: true,
        packet_queue: squall_faults::kind::packet_queue(),
        netem: squall_faults::kind::netem(),
        tcx: squall_faults::kind::tcx(),
        cores: std::thread::available_parallelism()
            .map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1)),
        memory_total: 8 << 30,
        memory_available: 4 << 30,
        ..HostFacts::default()
    }
}

/// One injection through the door, as the agent makes it.
#[derive(Debug)]
pub struct Injection {
    fault: Faults,
    target: Target,
    journal: Arc<Mutex<Journal>>,
    children: Children,
    id: InjectionId,
}

impl Injection {
    /// Makes the journal of a run.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn begin(state: &Path, fault: &Faults, target: Target) -> anyhow::Result<Self> {
        let run = RunId(RUN.to_owned());
        let journal = Journal::create(&run_dir(state), &run, Writer::Agent)?;
        Ok(Self {
            fault: fault.clone(),
            target,
            journal: Arc::new(Mutex::new(journal)),
            children: Children::default(),
            id: InjectionId::derive(&run, RuleId(0), 0),
        })
    }

    fn class(&self) -> Class {
        let info = crate::catalogue::kinds()
            .iter()
            .find(|info| info.kind == self.fault.kind());
        info.map_or(Class::Lasting, |info| info.class)
    }

    /// Injects, reads back and records, like the agent.
    ///
    /// # Errors
    /// As the fault.
    pub fn inject(&self) -> Result<Vec<Observation>, FaultError> {
        let about = About {
            rule: Some(RuleId(0)),
            kind: self.fault.kind().to_owned(),
            class: self.class(),
            target: "the prey".to_owned(),
            process: None,
            aim: squall_model::event::Place::default(),
            mechanism: self.fault.fault().mechanism(&facts()),
        };
        let (journal, children) = (Arc::clone(&self.journal), Arc::new(self.children.clone()));
        let mut host = Host::new(
            journal,
            self.id.clone(),
            about,
            1,
            Arc::new(AtomicBool::new(false)),
            children,
        );
        self.fault.fault().inject(&self.target, &mut host)?;
        let observations = self.observe(&host.changes());
        host.land(None, observations.clone())?;
        Ok(observations)
    }

    fn observe(&self, changes: &[squall_faults::undo::Undo]) -> Vec<Observation> {
        self.fault.fault().observe(&self.target, changes)
    }

    /// What the fault itself reads of the world now.
    pub fn observed(&self) -> Vec<Observation> {
        let changes = {
            let journal = squall_faults::undo::perform::locked(&self.journal);
            journal
                .state()
                .get(&self.id)
                .map(|one| one.undos.clone())
                .unwrap_or_default()
        };
        self.observe(&changes)
    }

    /// Whether anything was recorded.
    pub fn is_recorded(&self) -> bool {
        squall_faults::undo::perform::locked(&self.journal)
            .state()
            .get(&self.id)
            .is_some()
    }

    /// Undoes it.
    pub fn undo(&self) -> Option<Outcome> {
        let outcome = undo_injection(&self.journal, &self.id, "the test says so");
        self.children.reap();
        outcome
    }

    /// The undos, as data.
    pub fn undos(&self) -> Vec<squall_faults::undo::Undo> {
        let journal = squall_faults::undo::perform::locked(&self.journal);
        journal
            .state()
            .get(&self.id)
            .map(|one| one.undos.clone())
            .unwrap_or_default()
    }

    /// The journal, for a second undo beside the first.
    pub fn parts(&self) -> (Arc<Mutex<Journal>>, InjectionId) {
        (Arc::clone(&self.journal), self.id.clone())
    }
}

/// Whether all that was read says this.
pub fn all_say(observations: &[Observation], presence: Presence) -> bool {
    !observations.is_empty() && observations.iter().all(|one| one.presence == presence)
}
