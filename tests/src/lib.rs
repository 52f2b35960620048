//! Independent readers and end-to-end suites.
