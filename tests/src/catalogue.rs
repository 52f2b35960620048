//! Every fault there is, as the catalogue lists it: the suites run over this list and nothing else.

use squall_catalog::Faults;
use squall_model::syntax::{Class, FaultList as _, KindInfo};

/// Every fault.
pub fn kinds() -> &'static [KindInfo] {
    Faults::kinds()
}

/// A class's name.
pub fn class_name(class: Class) -> &'static str {
    match class {
        Class::Lasting => "lasting",
        Class::OneShot => "one-shot",
        Class::Served => "served",
    }
}
