//! A whole answer, changed once all of it is there.

use super::change::{GARBAGE, REFUSAL, usage};
use super::rule::{CallWrong, Finds, Speech, StructureWrong, VectorsWrong, WebFault, WebRule};
use serde_json::Value;
use squall_llm::retrieval::{self, Documents};
use squall_llm::tools::{self, Call, Structure};
use squall_llm::vectors::{self, Vectors};
use squall_llm::{Api, edit};
use std::sync::Arc;

/// Changes a whole answer. The rules that acted.
pub(super) fn changed(body: &mut Vec<u8>, rules: &[Arc<WebRule>], api: Api) -> Vec<Arc<WebRule>> {
    let Ok(mut value) = serde_json::from_slice::<Value>(body) else {
        return Vec::new();
    };
    let mut acted = Vec::new();
    for rule in rules {
        let done = match &rule.fault {
            WebFault::RetrievalDocuments { finds } => {
                retrieval::documents(&mut value, documents(finds))
            }
            WebFault::RetrievalVectors { how } => vectors::vectors(&mut value, vector(*how)),
            _ if api == Api::Other => false,
            WebFault::LlmToolCall { how } => {
                tools::call(&mut value, api, call(*how), &mut tools::Started::default())
            }
            WebFault::LlmStructure { how } => structured(&mut value, *how),
            WebFault::LlmUsage { says } => edit::usage(&mut value, usage(*says)),
            WebFault::LlmFinishReason { value: reason } => edit::finish(&mut value, reason),
            WebFault::LlmModel { value: model } => edit::model(&mut value, model),
            WebFault::LlmText { says } => speak(&mut value, says),
            _ => false,
        };
        if done {
            acted.push(rule.clone());
        }
    }
    if !acted.is_empty() {
        *body = vectors::written(&value).into_bytes();
    }
    acted
}

pub(super) fn call(how: CallWrong) -> Call {
    match how {
        CallWrong::UnknownTool => Call::UnknownTool,
        CallWrong::BrokenArguments => Call::BrokenArguments,
    }
}

pub(super) fn structure(how: StructureWrong) -> Structure {
    match how {
        StructureWrong::ExtraKey => Structure::ExtraKey,
        StructureWrong::Prose => Structure::Prose,
        StructureWrong::MissingKey => Structure::MissingKey,
        StructureWrong::WrongType => Structure::WrongType,
    }
}

fn vector(how: VectorsWrong) -> Vectors {
    match how {
        VectorsWrong::Shorter => Vectors::Shorter,
        VectorsWrong::Longer => Vectors::Longer,
        VectorsWrong::Zero => Vectors::Zero,
        VectorsWrong::Nan => Vectors::Nan,
        VectorsWrong::Permuted => Vectors::Permuted,
    }
}

fn documents(finds: &Finds) -> Documents<'_> {
    match finds {
        Finds::Nothing => Documents::None,
        Finds::Fewer => Documents::Fewer,
        Finds::Irrelevant => Documents::Irrelevant,
        Finds::Stale(years) => Documents::Stale(*years),
        Finds::Poisoned(words) => Documents::Poisoned(words),
    }
}

fn structured(value: &mut Value, how: StructureWrong) -> bool {
    let text = edit::text_of(value).and_then(|text| tools::violated(text, structure(how)));
    text.is_some_and(|text| edit::text(value, &text))
}

fn speak(value: &mut Value, says: &Speech) -> bool {
    let Some(text) = edit::text_of(value).map(str::to_owned) else {
        return false;
    };
    let text = match says {
        Speech::Empty => String::new(),
        Speech::Garbage => GARBAGE.repeat(3),
        Speech::Repeat => {
            let first = text.split_inclusive(' ').next().unwrap_or_default();
            first.repeat(50)
        }
        Speech::Refusal => REFUSAL.to_owned(),
        Speech::Also(words) => format!("{words}{text}"),
    };
    edit::text(value, &text)
}
