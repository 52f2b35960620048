//! The one flat list of everything an experiment may name. Syntax, schema, help and reference come from here.
//!
//! A fault is one file in its crate and one word in the list below.
#![forbid(unsafe_code)]

pub mod requests;
pub mod served;

use schemars::{Schema, SchemaGenerator};
use serde::{Serialize, Serializer};
use squall_faults::fault::{Fault, FaultKind, Injectable};
use squall_model::syntax::{ConfigProblem, FaultList, KindInfo};

/// Makes the enum of all faults from their words.
macro_rules! faults {
    ($($home:ident { $($module:ident::$Fault:ident),* $(,)? })*) => {
        /// A fault with its config.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Faults { $($(
            #[doc = concat!("`", stringify!($module), "`")]
            $Fault($home::$module::$Fault),
        )*)* }

        const KINDS: &[KindInfo] = &[$($(<$home::$module::$Fault as FaultKind>::INFO),*),*];

        impl Injectable for Faults {
            fn fault(&self) -> &dyn Fault {
                match self { $($(Faults::$Fault(config) => config,)*)* }
            }
        }

        impl FaultList for Faults {
            fn kinds() -> &'static [KindInfo] {
                KINDS
            }
            fn config_schema(kind: &str, generator: &mut SchemaGenerator) -> Option<Schema> {
                $($(if kind == <$home::$module::$Fault as FaultKind>::INFO.kind {
                    // In place, not by reference: the keys that all faults share are added to it.
                    return Some(<$home::$module::$Fault as schemars::JsonSchema>::json_schema(generator));
                })*)*
                None
            }
            fn parse(kind: &str, config: serde_json::Value) -> Result<Self, (String, String)> {
                $($(if kind == <$home::$module::$Fault as FaultKind>::INFO.kind {
                    return read(config).map(Faults::$Fault);
                })*)*
                Err((String::new(), format!("there is no fault `{kind}`")))
            }
            fn kind(&self) -> &'static str {
                match self { $($(Faults::$Fault(_) => <$home::$module::$Fault as FaultKind>::INFO.kind,)*)* }
            }
            fn config(&self) -> serde_json::Value {
                let value = match self { $($(Faults::$Fault(config) => serde_json::to_value(config),)*)* };
                value.unwrap_or_default()
            }
            fn problems(&self) -> Vec<ConfigProblem> {
                self.fault().problems()
            }
        }
    };
}

faults! {
    squall_faults {
        process_pause::ProcessPause,
        process_kill::ProcessKill,
        process_terminate::ProcessTerminate,
        cpu_pressure::CpuPressure,
        memory_pressure::MemoryPressure,
        file_damage::FileDamage,
        network_partition::NetworkPartition,
        network_delay::NetworkDelay,
        network_loss::NetworkLoss,
        network_dns::NetworkDns,
        network_duplicate::NetworkDuplicate,
        network_reorder::NetworkReorder,
        network_corrupt::NetworkCorrupt,
        network_rate::NetworkRate,
        network_blackhole::NetworkBlackhole,
        network_reset::NetworkReset,
    }
    requests {
        http_status::HttpStatus,
        http_rate_limit::HttpRateLimit,
        http_delay::HttpDelay,
        http_hang::HttpHang,
        http_reset::HttpReset,
        llm_first_token::LlmFirstToken,
        llm_token_delay::LlmTokenDelay,
        llm_stall::LlmStall,
        llm_cut::LlmCut,
        llm_malformed::LlmMalformed,
        llm_error::LlmError,
        llm_text::LlmText,
        llm_tool_call::LlmToolCall,
        llm_structure::LlmStructure,
        retrieval_vectors::RetrievalVectors,
        retrieval_documents::RetrievalDocuments,
    }
}

/// Reads one config; an error names the path of the key inside it.
fn read<T: FaultKind>(config: serde_json::Value) -> Result<T, (String, String)> {
    serde_path_to_error::deserialize(config).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        (path, error.into_inner().to_string())
    })
}

/// As in the file: `{KIND: CONFIG}`.
impl Serialize for Faults {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.kind(), &self.config())?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_named_once_in_kebab_case_and_fully_documented() {
        let mut names: Vec<&str> = Faults::kinds().iter().map(|info| info.kind).collect();
        assert!(
            names
                .iter()
                .all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
        );
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Faults::kinds().len());
        for info in Faults::kinds() {
            for text in [
                info.summary,
                info.layer,
                info.requires,
                info.after_kill,
                info.example,
            ] {
                assert!(!text.is_empty(), "{}", info.kind);
            }
            assert!(!info.targets.is_empty(), "{}", info.kind);
            let mut generator = SchemaGenerator::default();
            let schema = Faults::config_schema(info.kind, &mut generator).unwrap();
            documented(info.kind, schema.as_value());
            for (name, definition) in generator.definitions() {
                documented(name, definition);
            }
        }
    }

    fn documented(name: &str, definition: &serde_json::Value) {
        assert!(
            definition.get("description").is_some(),
            "{name} has no description"
        );
        let properties = definition
            .get("properties")
            .and_then(|value| value.as_object());
        for (key, property) in properties.into_iter().flatten() {
            assert!(
                property.get("description").is_some(),
                "{name}.{key} has no description"
            );
        }
    }

    #[test]
    fn a_config_travels_to_an_agent_and_back() {
        let fault = Faults::parse("process-kill", serde_json::json!({"signal": "ABRT"})).unwrap();
        assert_eq!(fault.kind(), "process-kill");
        assert_eq!(Faults::parse(fault.kind(), fault.config()).unwrap(), fault);
        assert_eq!(
            serde_json::to_value(&fault).unwrap(),
            serde_json::json!({"process-kill": {"signal": "ABRT"}})
        );
    }

    #[test]
    fn a_wrong_value_is_reported_with_its_key() {
        let (path, because) =
            Faults::parse("process-terminate", serde_json::json!({"grace": "5"})).unwrap_err();
        assert_eq!(path, "grace");
        assert!(because.contains("it has no unit"), "{because}");
        let (path, because) =
            Faults::parse("process-kill", serde_json::json!({"sginal": "KILL"})).unwrap_err();
        assert_eq!(path, "sginal");
        assert!(because.contains("unknown field"), "{because}");
        assert!(Faults::parse("process-kil", serde_json::json!({})).is_err());
    }
}
