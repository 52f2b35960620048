//! From a file to a script that may be played: read, planned, held against the policies and the host. Changes nothing.

use crate::policy_files::{PolicyError, policies};
use crate::run::{Script, Source, Undecided};
use squall_catalog::Faults;
use squall_faults::agent::targets::{Scope, eligible as known, resolve};
use squall_faults::fault::{Injectable, Target};
use squall_faults::kind::HostFacts;
use squall_faults::sys::private::may_be_made;
use squall_model::diagnostic::Diagnostic;
use squall_model::exit::Exit;
use squall_model::experiment::Workload;
use squall_model::id::RuleId;
use squall_model::load;
use squall_model::plan::{Plan, PlannedRule, Unmet, build};
use squall_model::policy::{Refusal, at_injection, judge};
use squall_model::syntax::FaultList;
use squall_model::timing::{OWN_PROXY, Selector};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// An experiment that may be played.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// What the conductor plays.
    pub script: Script,
    /// What will happen, for people and for `plan.json`.
    pub plan: Plan,
    /// Rules that a policy can only judge when their targets are known.
    pub undecided: Vec<RuleId>,
}

/// Why an experiment may not be played. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The file cannot be read.
    #[error("could not read {path}, because {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is not a valid experiment.
    #[error("could not understand the experiment, because it has {} problem(s)", problems.len())]
    Invalid {
        /// Its text, so that the problems can be shown at their place.
        text: String,
        /// All of them, most important first.
        problems: Vec<Diagnostic>,
    },
    /// The policies of this host are not known.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A policy forbids it.
    #[error("could not run the experiment, because a policy forbids {} thing(s)", refusals.len())]
    Refused {
        /// All of them.
        refusals: Vec<Refusal>,
        /// What would have happened.
        plan: Box<Plan>,
    },
    /// A selection is empty.
    #[error("could not find a target for `{kind}`, because {because}")]
    NoTarget {
        /// The rule.
        rule: RuleId,
        /// Its fault.
        kind: String,
        /// Why nothing was found.
        because: String,
    },
    /// The host lacks something.
    #[error(
        "could not run the experiment, because this host lacks what it needs: {}",
        words(unmet)
    )]
    Unmet {
        /// All of it.
        unmet: Vec<(RuleId, Unmet)>,
        /// What would have happened.
        plan: Box<Plan>,
    },
}

fn words(unmet: &[(RuleId, Unmet)]) -> String {
    let all: Vec<&str> = unmet.iter().map(|(_, unmet)| unmet.what.as_str()).collect();
    all.join("; ")
}

impl PrepareError {
    /// How the process is to end.
    pub fn exit(&self) -> Exit {
        match self {
            PrepareError::File { .. } | PrepareError::Invalid { .. } => Exit::Invalid,
            PrepareError::Policy(_) | PrepareError::Refused { .. } => Exit::Refused,
            PrepareError::NoTarget { .. } => Exit::NoTarget,
            PrepareError::Unmet { .. } => Exit::Unmet,
        }
    }
}

/// What decides beside the file.
#[derive(Debug, Clone)]
pub struct Circumstances {
    /// Used instead of the file's seed.
    pub seed: Option<u64>,
    /// Where policy files may be.
    pub policy_places: Vec<PathBuf>,
    /// What this host is.
    pub facts: HostFacts,
    /// Whether a workload can be started in namespaces of its own. Asked only when a fault needs it.
    pub private: fn() -> io::Result<()>,
}

impl Circumstances {
    /// Those of this host.
    pub fn here(seed: Option<u64>) -> Circumstances {
        Circumstances {
            seed,
            policy_places: crate::policy_files::places(),
            facts: HostFacts::read(),
            private: may_be_made,
        }
    }
}

/// Prepares the experiment in a file.
pub fn prepare(path: &Path, circumstances: &Circumstances) -> Result<Prepared, PrepareError> {
    let failed = |source| PrepareError::File {
        path: path.to_path_buf(),
        source,
    };
    let absolute = std::path::absolute(path).map_err(failed)?;
    // One byte more than the loader accepts: enough to know that a file is too large without reading all of it.
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| {
            file.take(load::BYTES_MAX as u64 + 1)
                .read_to_end(&mut bytes)
        })
        .map_err(failed)?;
    let lossy = || String::from_utf8_lossy(&bytes).into_owned();
    let name = path.to_string_lossy();
    let loaded =
        load::read_bytes::<Faults>(&bytes, &name).map_err(|problems| PrepareError::Invalid {
            text: lossy(),
            problems,
        })?;
    let source = Source {
        file: loaded.file_name.clone(),
        text: lossy(),
        sha256: loaded.sha256.clone(),
        directory: absolute
            .parent()
            .map_or_else(|| PathBuf::from("/"), Path::to_path_buf),
    };
    let seed = circumstances
        .seed
        .or(loaded.experiment.seed)
        .unwrap_or_else(draw);
    let mut plan = build(&loaded.experiment, seed);
    let owned = loaded.experiment.workload.is_some();
    let (mut eligible, mut planned) = (BTreeMap::new(), BTreeMap::new());
    for rule in &mut plan.rules {
        let found = targets(rule, owned)?;
        preflight(rule, &circumstances.facts, found.as_deref());
        let Some(found) = found else { continue };
        rule.blast_radius.eligible = Some(found.len() as u64);
        if let ([Target::Process { identity, .. }], Some(_)) = (&found[..], rule.target.pid) {
            planned.insert(rule.id, identity.clone());
        }
        eligible.insert(rule.id, known(&found));
    }
    isolate(&mut plan, circumstances);
    let has_proxy = matches!(
        &loaded.experiment.workload,
        Some(Workload::Process(process)) if process.proxy.is_some()
    );
    if has_proxy && plan.isolation.is_some() {
        unreachable_proxy(&mut plan);
    }
    let policies = policies::<Faults>(&circumstances.policy_places)?;
    let decision = judge(&plan, &policies, &eligible);
    if !decision.refusals.is_empty() {
        return Err(PrepareError::Refused {
            refusals: decision.refusals,
            plan: Box::new(plan),
        });
    }
    let unmet = plan
        .rules
        .iter()
        .flat_map(|rule| rule.unmet.iter().map(|unmet| (rule.id, unmet.clone())));
    let unmet: Vec<_> = unmet.collect();
    if !unmet.is_empty() {
        return Err(PrepareError::Unmet {
            unmet,
            plan: Box::new(plan),
        });
    }
    let mut script = Script::new(&loaded.experiment, &plan, source);
    script.undecided = (!decision.undecided.is_empty()).then(|| Undecided {
        rules: decision.undecided.clone(),
        plan: plan.clone(),
        policies: policies.clone(),
    });
    for rule in &mut script.rules {
        rule.process = planned.remove(&rule.id);
        rule.policies = at_injection(&policies.files, &rule.target);
    }
    script.policies = policies
        .files
        .iter()
        .map(|file| (file.source.file.clone(), file.source.sha256.clone()))
        .collect();
    Ok(Prepared {
        script,
        plan,
        undecided: decision.undecided,
    })
}

/// A seed from the system's randomness, small enough to be typed again.
fn draw() -> u64 {
    let bytes = *uuid::Uuid::now_v7().as_bytes();
    let mut last = [0u8; 8];
    last.copy_from_slice(&bytes[8..]);
    u64::from_le_bytes(last) % 1_000_000_000
}

/// Fills in how a rule acts on this host and what is missing, given the targets that are there already.
fn preflight(rule: &mut PlannedRule, facts: &HostFacts, found: Option<&[Target]>) {
    let Ok(faults) = Faults::parse(&rule.kind, rule.config.clone()) else {
        return;
    };
    let fault = faults.fault();
    rule.mechanism = Some(fault.mechanism(facts));
    // What will be chosen is not known yet; one of the candidates stands for all.
    let host = is_private(rule).then_some(&Target::Host);
    let first = found.and_then(<[Target]>::first).or(host);
    rule.unmet = first.map_or_else(Vec::new, |target| {
        let unmet = fault.unmet(target, facts).into_iter();
        unmet
            .map(|unmet| Unmet {
                what: unmet.what,
                remedy: unmet.remedy,
            })
            .collect()
    });
}

/// Aimed at the owned workload, and acting in its network namespace: then that must be one of its own.
fn is_private(rule: &PlannedRule) -> bool {
    rule.target.workload == Some(true)
        && Faults::parse(&rule.kind, rule.config.clone())
            .is_ok_and(|faults| faults.fault().needs_namespaces())
}

/// Decides whether the workload starts in namespaces of its own. Where a fault needs that and the host does not allow it, its rule is refused.
fn isolate(plan: &mut Plan, circumstances: &Circumstances) {
    let needing: Vec<usize> = (0..plan.rules.len())
        .filter(|index| is_private(&plan.rules[*index]))
        .collect();
    let Some(first) = needing.first() else {
        return;
    };
    plan.isolation = Some(format!(
        "the workload starts in network and mount namespaces of its own, with nothing but loopback, because {} is aimed at it: \
         the host's network is never touched, and nothing outside reaches the workload",
        plan.rules[*first].kind
    ));
    if let Err(error) = (circumstances.private)() {
        for index in needing {
            plan.rules[index].unmet.push(Unmet {
                what: format!("network and mount namespaces for the workload ({error})"),
                remedy: "run as root, or aim at a namespace that `ip netns` shows".into(),
            });
        }
    }
}

/// A workload in a network namespace of its own reaches no proxy outside of it.
fn unreachable_proxy(plan: &mut Plan) {
    for rule in plan.rules.iter_mut().filter(|rule| is_private(rule)) {
        rule.unmet.push(Unmet {
            what: "a network that workload and proxy share".into(),
            remedy: "leave `proxy:` out, or aim at a namespace that `ip netns` shows".into(),
        });
    }
}

/// The targets that a selector matches now; nothing when they belong to a workload that does not run yet.
fn targets(rule: &PlannedRule, owned: bool) -> Result<Option<Vec<Target>>, PrepareError> {
    let target = &rule.target;
    let later = |text: &Option<String>| text.as_ref().is_some_and(|text| text.contains("{out}"));
    let of_workload = target.rank.is_some()
        || target.workload == Some(true)
        || target.proxy.as_deref() == Some(OWN_PROXY)
        || later(&target.file)
        || later(&target.pid_file);
    if (owned && of_workload)
        || *target
            == (Selector {
                at_most: target.at_most,
                ..Selector::default()
            })
    {
        return Ok(None);
    }
    let all = Selector {
        at_most: Some(u32::MAX),
        ..target.clone()
    };
    let scope = Scope {
        own: [std::process::id()].into(),
        ..Scope::default()
    };
    resolve(&all, &scope)
        .map(Some)
        .map_err(|none| PrepareError::NoTarget {
            rule: rule.id,
            kind: rule.kind.clone(),
            because: none.to_string(),
        })
}

#[cfg(test)]
mod tests;
