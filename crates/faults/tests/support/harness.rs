//! `guard`, `agent` and `serve-fault` with the faults of this crate, for its own tests.

mod controller;
mod trainer;

use schemars::{Schema, SchemaGenerator};
use serde::Serialize;
use squall_faults::fault::{Fault, FaultKind, Injectable};
use squall_model::syntax::{ConfigProblem, FaultList, KindInfo};
use std::process::ExitCode;

macro_rules! faults {
    ($($module:ident::$Fault:ident),*) => {
        #[derive(Debug, Clone, PartialEq, Serialize)]
        enum Faults { $($Fault(squall_faults::$module::$Fault)),* }

        impl Injectable for Faults {
            fn fault(&self) -> &dyn Fault {
                match self { $(Faults::$Fault(fault) => fault),* }
            }
        }

        impl FaultList for Faults {
            fn kinds() -> &'static [KindInfo] {
                const { &[$(squall_faults::$module::$Fault::INFO),*] }
            }
            fn config_schema(_: &str, _: &mut SchemaGenerator) -> Option<Schema> {
                None
            }
            fn parse(kind: &str, config: serde_json::Value) -> Result<Self, (String, String)> {
                $(if kind == squall_faults::$module::$Fault::INFO.kind {
                    return serde_json::from_value(config).map(Faults::$Fault).map_err(|error| (String::new(), error.to_string()));
                })*
                Err((String::new(), format!("there is no fault `{kind}`")))
            }
            fn kind(&self) -> &'static str {
                match self { $(Faults::$Fault(_) => squall_faults::$module::$Fault::INFO.kind),* }
            }
            fn config(&self) -> serde_json::Value {
                match self { $(Faults::$Fault(fault) => serde_json::to_value(fault).unwrap_or_default()),* }
            }
            fn problems(&self) -> Vec<ConfigProblem> {
                self.fault().problems()
            }
        }
    };
}

faults! {
    process_pause::ProcessPause,
    process_kill::ProcessKill,
    process_terminate::ProcessTerminate,
    cpu_pressure::CpuPressure,
    memory_pressure::MemoryPressure,
    network_delay::NetworkDelay,
    network_loss::NetworkLoss
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    match (words.get(1).map(String::as_str), words.get(2)) {
        (Some("guard"), Some(options)) => squall_faults::guard::main(options),
        (Some("agent"), Some(options)) => {
            squall_faults::agent::main::<Faults>(options, &[("sitecustomize.py", b"# hook\n")])
        }
        (Some("serve-fault"), Some(kind)) => squall_faults::serve::main(kind, |_| None),
        // A controller that can be stopped and killed: starts a run and renews until its input ends.
        (Some("controller"), Some(folder)) => controller::run(std::path::Path::new(folder)),
        (Some("trainer"), _) => trainer::train(),
        (Some("supervisor"), _) => trainer::supervise(),
        _ => ExitCode::from(2),
    }
}
