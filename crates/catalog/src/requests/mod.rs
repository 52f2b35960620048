//! Faults of requests and their answers: rules on a proxy. One fault, one file.
//!
//! What a rule can be is defined beside the proxy that obeys it; each file here repeats the keys of one, and a test holds them together.

pub mod http_delay;
pub mod http_hang;
pub mod http_rate_limit;
pub mod http_reset;
pub mod http_status;
pub mod llm_cut;
pub mod llm_error;
pub mod llm_first_token;
pub mod llm_malformed;
pub mod llm_stall;
pub mod llm_structure;
pub mod llm_text;
pub mod llm_token_delay;
pub mod llm_tool_call;
pub mod retrieval_documents;
pub mod retrieval_vectors;

use serde::Serialize;
use squall_model::syntax::ConfigProblem;

/// What all of them say of themselves.
pub(crate) mod said {
    pub(crate) const REQUIRES: &str = "a proxy in the way: `proxy:` below `workload: process:`";
    pub(crate) const AFTER_KILL: &str = "the end of the proxy, at once";
    pub(crate) const TARGETS: &[&str] = &["proxy"];
}

/// Keys that are written otherwise in a proxy file.
pub(crate) const OTHERWISE: [(&str, &str); 2] = [("tokens", "after"), ("token", "at")];

/// The rule as the proxy reads it, without its name.
pub(crate) fn rule(kind: &str, config: &impl Serialize) -> serde_json::Value {
    let mut config = serde_json::to_value(config).unwrap_or_default();
    let mut rule = serde_json::json!({});
    if let Some(keys) = config.as_object_mut() {
        // `after` and `at` say in every step of a method when it acts.
        for (key, name) in OTHERWISE {
            if let Some(value) = keys.remove(key) {
                keys.insert(name.to_owned(), value);
            }
        }
        for (key, name) in [("when", "when"), ("share", "probability")] {
            if let Some(value) = keys.remove(key) {
                rule[name] = value;
            }
        }
    }
    rule["fault"] = serde_json::json!({ kind: config });
    rule
}

/// What the proxy would not take.
pub(crate) fn problems(kind: &str, config: &impl Serialize) -> Vec<ConfigProblem> {
    let found = squall_proxy::file::problems_of_rule(&rule(kind, config));
    found
        .into_iter()
        .map(|(message, help)| ConfigProblem {
            key: "when",
            message,
            help: help.unwrap_or_else(|| "see docs/proxy.md".to_owned()),
        })
        .collect()
}

/// Makes the config of a fault of requests: its own keys, and those that all of them share.
macro_rules! on_requests {
    ($(#[$about:meta])* pub struct $Fault:ident { $($(#[$field_about:meta])* pub $field:ident: $type:ty),* $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        pub struct $Fault {
            $($(#[$field_about])* pub $field: $type,)*
            /// Which requests it acts on; all unless given.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub when: Option<squall_proxy::web::When>,
            /// Share of the requests that fit, drawn from the run's seed; all unless given.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub share: Option<squall_model::units::Percent>,
        }

        impl squall_faults::fault::Fault for $Fault {
            fn unmet(
                &self,
                target: &squall_faults::fault::Target,
                _: &squall_faults::kind::HostFacts,
            ) -> Vec<squall_faults::fault::Unmet> {
                squall_faults::proxy::unmet(target)
            }

            fn mechanism(&self, _: &squall_faults::kind::HostFacts) -> String {
                "a rule on the proxy, removed again".to_owned()
            }

            fn inject(
                &self,
                target: &squall_faults::fault::Target,
                host: &mut dyn squall_faults::fault::Door,
            ) -> Result<(), squall_faults::fault::FaultError> {
                let kind = <$Fault as squall_faults::fault::FaultKind>::INFO.kind;
                squall_faults::proxy::set(target, super::rule(kind, self), host)
            }

            fn observe(
                &self,
                _: &squall_faults::fault::Target,
                changes: &[squall_faults::undo::Undo],
            ) -> Vec<squall_model::event::Observation> {
                changes.iter().map(squall_faults::undo::presence).collect()
            }

            fn lets_go_early(&self) -> bool {
                true
            }

            fn fired(
                &self,
                changes: &[squall_faults::undo::Undo],
            ) -> Option<squall_model::event::Observation> {
                Some(squall_faults::proxy::fired(changes))
            }

            fn problems(&self) -> Vec<squall_model::syntax::ConfigProblem> {
                let kind = <$Fault as squall_faults::fault::FaultKind>::INFO.kind;
                super::problems(kind, self)
            }
        }
    };
}
pub(crate) use on_requests;

#[cfg(test)]
mod tests;
