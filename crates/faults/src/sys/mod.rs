//! System calls. The only place with `unsafe`.
#![allow(unsafe_code)] // the one exception

pub mod spawn;
