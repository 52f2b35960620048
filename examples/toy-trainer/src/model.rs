//! A multi-layer perceptron in plain loops with a fixed order of every sum.
//!
//! All parameters lie in one vector, so the optimiser and the all-reduce see plain numbers; [`TENSORS`] says which
//! part is which tensor. Weights are stored input-major: `w[input * outputs + output]`.

use crate::data::{Batch, CLASSES, INPUTS};
use crate::random::Random;

const WIDTHS: [usize; 4] = [INPUTS, 128, 64, CLASSES];
const LAYERS: usize = WIDTHS.len() - 1;

/// Name and shape of each tensor, in the order in which they lie in the parameter vector.
pub(crate) const TENSORS: [(&str, &[usize]); 6] = [
    ("layer1.weight", &[WIDTHS[0], WIDTHS[1]]),
    ("layer1.bias", &[WIDTHS[1]]),
    ("layer2.weight", &[WIDTHS[1], WIDTHS[2]]),
    ("layer2.bias", &[WIDTHS[2]]),
    ("layer3.weight", &[WIDTHS[2], WIDTHS[3]]),
    ("layer3.bias", &[WIDTHS[3]]),
];

/// Number of parameters (f32) of the model.
pub(crate) fn parameter_count() -> usize {
    TENSORS
        .iter()
        .map(|(_, shape)| shape.iter().product::<usize>())
        .sum()
}

/// Seeded starting parameters: weights uniform with the variance that He et al. (2015) ask for, biases zero.
pub(crate) fn initial_parameters(seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed, 0);
    let mut parameters = Vec::with_capacity(parameter_count());
    for (_, shape) in TENSORS {
        match *shape {
            [inputs, outputs] => {
                let bound = (6.0 / inputs as f32).sqrt();
                parameters
                    .extend((0..inputs * outputs).map(|_| bound * (2.0 * random.unit() - 1.0)));
            }
            _ => parameters.extend(std::iter::repeat_n(0.0, shape.iter().product())),
        }
    }
    parameters
}

/// What the forward pass leaves behind for the backward pass.
pub(crate) struct Activations {
    /// The input of each layer and, last, the scores of the classes; rows of samples.
    layers: Vec<Vec<f32>>,
}

/// Offset of the weights of `layer` (from 0) in the parameter vector; its biases follow them.
fn offset(layer: usize) -> usize {
    (0..layer).map(|l| (WIDTHS[l] + 1) * WIDTHS[l + 1]).sum()
}

/// Computes the scores of every class for every sample.
pub(crate) fn forward(parameters: &[f32], batch: &Batch) -> Activations {
    let samples = batch.classes.len();
    let mut layers = vec![batch.inputs.clone()];
    for layer in 0..LAYERS {
        let (inputs, outputs) = (WIDTHS[layer], WIDTHS[layer + 1]);
        let (weights, rest) = parameters[offset(layer)..].split_at(inputs * outputs);
        let mut result = Vec::with_capacity(samples * outputs);
        for row in layers[layer].chunks_exact(inputs) {
            let start = result.len();
            result.extend_from_slice(&rest[..outputs]);
            let sums = &mut result[start..];
            for (x, weights) in row.iter().zip(weights.chunks_exact(outputs)) {
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum += x * weight;
                }
            }
            if layer + 1 < LAYERS {
                sums.iter_mut().for_each(|sum| *sum = sum.max(0.0));
            }
        }
        layers.push(result);
    }
    Activations { layers }
}

/// Mean cross-entropy in nats per sample, and its gradient with respect to the scores.
pub(crate) fn loss(activations: &Activations, classes: &[usize]) -> (f32, Vec<f32>) {
    let scores = &activations.layers[LAYERS];
    let mut gradient = Vec::with_capacity(scores.len());
    let mut total = 0.0;
    for (row, &class) in scores.chunks_exact(CLASSES).zip(classes) {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = row.iter().map(|score| (score - largest).exp()).sum();
        total += sum.ln() + largest - row[class];
        gradient.extend(row.iter().enumerate().map(|(at, score)| {
            let wanted = if at == class { 1.0 } else { 0.0 };
            ((score - largest).exp() / sum - wanted) / classes.len() as f32
        }));
    }
    (total / classes.len() as f32, gradient)
}

/// Gradient of the loss with respect to every parameter, from its gradient with respect to the scores.
pub(crate) fn backward(
    parameters: &[f32],
    activations: &Activations,
    scores: Vec<f32>,
) -> Vec<f32> {
    let mut gradient = vec![0.0; parameters.len()];
    let mut upper = scores;
    for layer in (0..LAYERS).rev() {
        let (inputs, outputs) = (WIDTHS[layer], WIDTHS[layer + 1]);
        let at = offset(layer);
        let weights = &parameters[at..at + inputs * outputs];
        let (by_weight, rest) = gradient[at..].split_at_mut(inputs * outputs);
        let rows = activations.layers[layer].chunks_exact(inputs);
        let mut lower = Vec::with_capacity(rows.len() * inputs);
        for (row, above) in rows.zip(upper.chunks_exact(outputs)) {
            rest[..outputs]
                .iter_mut()
                .zip(above)
                .for_each(|(sum, g)| *sum += g);
            for (at, &x) in row.iter().enumerate() {
                let here = at * outputs..(at + 1) * outputs;
                by_weight[here.clone()]
                    .iter_mut()
                    .zip(above)
                    .for_each(|(sum, g)| *sum += x * g);
                let back: f32 = weights[here]
                    .iter()
                    .zip(above)
                    .map(|(weight, g)| weight * g)
                    .sum();
                // A rectified unit that is off passes nothing back.
                lower.push(if layer > 0 && x <= 0.0 { 0.0 } else { back });
            }
        }
        upper = lower;
    }
    gradient
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Data;

    #[test]
    fn the_model_has_at_least_ten_thousand_parameters() {
        assert!(parameter_count() >= 10_000);
        assert_eq!(parameter_count(), offset(LAYERS));
    }

    #[test]
    fn the_gradient_agrees_with_finite_differences() {
        let data = Data::generate(3, 8);
        let batch = data.batch(&[0, 1, 2, 3], &mut Random::new(3, 9), 0.0);
        let mut parameters = initial_parameters(3);
        let activations = forward(&parameters, &batch);
        let gradient = backward(
            &parameters,
            &activations,
            loss(&activations, &batch.classes).1,
        );
        for at in [
            0,
            5,
            offset(1) - 3,
            offset(1) + 7,
            offset(2) + 11,
            offset(3) - 1,
        ] {
            let kept = parameters[at];
            let mut loss_at = |value| {
                parameters[at] = value;
                loss(&forward(&parameters, &batch), &batch.classes).0
            };
            let slope = (loss_at(kept + 5e-3) - loss_at(kept - 5e-3)) / 1e-2;
            parameters[at] = kept;
            assert!(
                (slope - gradient[at]).abs() < 2e-3,
                "parameter {at}: {slope} against {}",
                gradient[at]
            );
        }
    }
}
