//! Adam (Kingma and Ba, 2015) and the schedule of its learning rate.

const DECAY_FIRST: f32 = 0.9;
const DECAY_SECOND: f32 = 0.999;
const EPSILON: f32 = 1e-8;
/// Largest learning rate of the schedule.
const PEAK: f32 = 5e-4;

/// The moments of the gradient and how often they were updated.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Adam {
    pub(crate) first: Vec<f32>,
    pub(crate) second: Vec<f32>,
    /// Updates made; the bias correction depends on it.
    pub(crate) updates: u64,
}

impl Adam {
    /// An optimiser that has seen nothing.
    pub(crate) fn new(parameters: usize) -> Self {
        Self {
            first: vec![0.0; parameters],
            second: vec![0.0; parameters],
            updates: 0,
        }
    }

    /// Moves `parameters` one step against `gradient`.
    pub(crate) fn update(&mut self, parameters: &mut [f32], gradient: &[f32], learning_rate: f32) {
        self.updates += 1;
        let updates = i32::try_from(self.updates).unwrap_or(i32::MAX);
        let first_scale = 1.0 / (1.0 - DECAY_FIRST.powi(updates));
        let second_scale = 1.0 / (1.0 - DECAY_SECOND.powi(updates));
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((parameter, g), (first, second)) in parameters.iter_mut().zip(gradient).zip(moments) {
            *first = DECAY_FIRST * *first + (1.0 - DECAY_FIRST) * g;
            *second = DECAY_SECOND * *second + (1.0 - DECAY_SECOND) * g * g;
            *parameter -= learning_rate * (*first * first_scale)
                / ((*second * second_scale).sqrt() + EPSILON);
        }
    }
}

/// Learning rate of the step after `completed` of `total` steps: linear warm-up over the first twentieth, then half
/// a cosine down to a hundredth of the peak.
pub(crate) fn learning_rate(completed: u64, total: u64) -> f32 {
    let warm_up = (total / 20).max(1);
    if completed < warm_up {
        return PEAK * (completed + 1) as f32 / warm_up as f32;
    }
    let progress = (completed - warm_up) as f32 / (total - warm_up).max(1) as f32;
    PEAK * (0.01 + 0.99 * 0.5 * (1.0 + (std::f32::consts::PI * progress.min(1.0)).cos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_learning_rate_rises_then_falls() {
        assert!(learning_rate(0, 640) < learning_rate(20, 640));
        assert!((learning_rate(32, 640) - PEAK).abs() < 1e-9);
        assert!(learning_rate(639, 640) < 0.011 * PEAK);
    }

    #[test]
    fn the_first_update_moves_each_parameter_by_the_learning_rate() {
        let mut parameters = [1.0, -1.0];
        Adam::new(2).update(&mut parameters, &[0.5, -3.0], 0.1);
        assert!((parameters[0] - 0.9).abs() < 1e-5 && (parameters[1] + 0.9).abs() < 1e-5);
    }
}
