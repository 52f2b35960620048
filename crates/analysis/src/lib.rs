//! What a stored run means: recoveries, lost steps, same result or not, the verdict and the report's model.
//!
//! Pure: data in, findings out. No I/O, no clock.
#![forbid(unsafe_code)]

mod attribution;
pub mod chart;
mod conclude;
pub mod diagnosis;
pub mod ettr;
pub mod expect;
mod figures;
pub mod hang;
pub mod interval;
pub mod landing;
mod ledger;
pub mod lineage;
pub mod lives;
mod log;
mod losses;
pub mod models;
pub mod num;
mod pair;
pub mod past;
pub mod projection;
pub mod recovery;
pub mod render;
pub mod report;
pub mod run;
pub mod same_result;
pub mod sieve;
mod signals;
mod steady;
mod story;
mod trajectory;
pub mod verdict;
mod words;

pub use conclude::conclude;
pub use report::report_schema;
