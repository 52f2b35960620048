//! The printed examples of the four basic models, and what models say of whole runs.

use crate::runs::*;
use crate::scenarios::*;
use proptest::prelude::*;
use squall_analysis::conclude;
use squall_analysis::models::formulas::{daly, projected_ettr, young};
use squall_analysis::models::{self, Model, measured};

fn all_examples() -> [Model; 4] {
    let weighted = |weight, impact| {
        (
            measured("w", weight, "", "weight"),
            measured("i", impact, "days", "impact"),
        )
    };
    [
        models::fault_probability(
            measured("n_f", 2.0, "machines", "machines that failed"),
            measured("n", 10.0, "machines", "machines"),
        ),
        models::expected_impact(
            vec![weighted(0.5, 1.0), weighted(0.3, 2.0), weighted(0.2, 3.0)],
            "days",
        ),
        models::elasticity(
            measured("C(R)", 1000.0, "", "capacity added"),
            measured("T(R)", 2.0, "days", "time that it took"),
            "per day",
        ),
        models::detection_probability(
            measured("N(D)", 3.0, "faults", "faults noticed"),
            measured("N(T)", 5.0, "faults", "faults"),
        ),
    ]
}

#[test]
fn the_printed_examples_word_for_word() {
    let [fault, impact, elastic, detected] = all_examples();
    assert_eq!(fault.worked, "P(F) = 2 / 10 = 20.0 %");
    assert_eq!(impact.worked, "E(I) = 0.5·1 + 0.3·2 + 0.2·3 = 1.70 days");
    assert_eq!(elastic.worked, "E(S) = 1000 / 2 days = 500 per day");
    assert!(elastic.cautions[0].starts_with("larger is not better"));
    assert_eq!(detected.worked, "P(D) = 3 / 5 = 60.0 %");
    assert_eq!(detected.interval_words(), "23.1 to 88.2 % (Wilson, n = 5)");
    let values = [fault, impact, elastic, detected].map(|it| it.value.unwrap());
    for (value, wanted) in values.into_iter().zip([20.0, 1.7, 500.0, 60.0]) {
        assert!((value - wanted).abs() < 1e-9);
    }
}

#[test]
fn a_run_gives_all_ten_with_their_inputs_and_window() {
    let report = conclude(&held());
    let models = report.models.unwrap();
    let keys: Vec<&str> = models
        .basic
        .iter()
        .chain(&models.beside)
        .map(|it| it.key.as_str())
        .collect();
    assert_eq!(
        keys,
        [
            "fault-probability",
            "impact",
            "elasticity",
            "detection-probability",
            "mttf",
            "mttd",
            "mttr",
            "availability",
            "ettr",
            "goodput"
        ]
    );
    for it in models.basic.iter().chain(&models.beside) {
        assert!(!it.inputs.is_empty() && it.value.is_some(), "{it:#?}");
    }
    let effective = report.training.unwrap().effectiveness.unwrap();
    assert_eq!(
        (models.from_ns, models.to_ns),
        (effective.from_ns, effective.to_ns)
    );
    let ettr = models.beside.iter().find(|it| it.key == "ettr").unwrap();
    assert!((ettr.value.unwrap() - effective.ettr * 100.0).abs() < 1e-9);
}

#[test]
fn what_a_run_cannot_tell_is_not_measured() {
    let report = conclude(&paused(Undo::Works));
    let models = report.models.unwrap();
    assert!(models.basic[2].worked.starts_with("not measured: "));
    assert_eq!(
        (models.basic[2].value, &models.basic[2].interval),
        (None, &None)
    );
    assert!(report.projection.is_none());
    let given_up = conclude(&given_up()).models.unwrap();
    let mttr = given_up.beside.iter().find(|it| it.key == "mttr").unwrap();
    assert!(
        mttr.value.is_none() && mttr.worked.contains("too small"),
        "{mttr:#?}"
    );
}

proptest! {
    #[test]
    fn more_machines_never_help(save in 0.01f64..100.0, interval in 1.0f64..1e4, loss in 0.1f64..1e4, mttf in 10.0f64..1e7) {
        let at = |mttf: f64| projected_ettr(save, interval, loss, mttf);
        prop_assert!(at(mttf / 2.0) < at(mttf));
        prop_assert!((0.0..=1.0).contains(&at(mttf)));
    }

    /// Daly's interval is Young's less about two thirds of a save, as long as saves are short beside failures.
    #[test]
    fn daly_corrects_young_by_less_than_a_save(save in 0.01f64..100.0, times in 50.0f64..1e6) {
        let mttf = save * times;
        let less = young(save, mttf) - daly(save, mttf);
        prop_assert!((0.0..save).contains(&less), "{less}");
    }
}
