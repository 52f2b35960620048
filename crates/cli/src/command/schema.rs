//! `squall schema`.

use crate::Outcome;
use crate::arguments::{Schema, SchemaOf};
use crate::output::Failure;
use squall_catalog::Faults;
use squall_model::exit::Exit;

pub(crate) fn run(arguments: &Schema) -> Outcome {
    let schema = match arguments.of {
        SchemaOf::Experiment => squall_model::load::schema::<Faults>(),
        SchemaOf::Report => squall_analysis::report::report_schema(),
        SchemaOf::Patterns => squall_model::patterns::schema(),
        SchemaOf::Proxy => squall_proxy::file::schema(),
        SchemaOf::Policy => squall_model::policy::schema(),
    };
    let text = serde_json::to_string_pretty(&schema).map_err(|error| {
        Failure::new(
            Exit::Bug,
            format!("could not write the schema, because {error}"),
            None,
        )
    })?;
    println!("{text}");
    Ok(Exit::Held)
}
