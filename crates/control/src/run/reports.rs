//! The report in all its forms, beside the run.

use super::folder::RunFolder;
