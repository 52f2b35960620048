//! What a stored run means: recoveries, lost steps, same result or not, the verdict and the report's model.
//!
//! Pure: data in, findings out. No I/O, no clock.
#![forbid(unsafe_code)]

pub mod run;
