//! One module per verb.

pub(crate) mod check;
pub(crate) mod doctor;
pub(crate) mod faults;
pub(crate) mod file;
pub(crate) mod inner;
pub(crate) mod plan;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod schema;
pub(crate) mod status;
pub(crate) mod undo;
