//! Every fault there is, as the catalogue lists it: the suites run over this list and nothing else.

use squall_model::syntax::{Class, KindInfo};

/// Every fault.
pub fn kinds() -> Vec<KindInfo> {
    use squall_faults::fault::FaultKind;
    vec![
        squall_faults::process_pause::ProcessPause::INFO,
        squall_faults::process_kill::ProcessKill::INFO,
        squall_faults::process_terminate::ProcessTerminate::INFO,
    ]
}

/// A class's name.
pub fn class_name(class: Class) -> &'static str {
    match class {
        Class::Lasting => "lasting",
        Class::OneShot => "one-shot",
        Class::Served => "served",
    }
}
