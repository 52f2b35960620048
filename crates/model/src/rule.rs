//! Work in progress: triggers as a pure state machine.
