pub mod hook;
pub mod output;
