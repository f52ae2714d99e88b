//! From weights to slots: how often an endpoint stands in a list of which every place is as likely as any other.
//!
//! Weights mean nothing by themselves; what counts is what they are to each other. So 100 and 300 are three slots for one.
//! While one of them starts slowly, the others have ten slots for one, so that each of its steps is a slot for each unit of its weight.
//! Where that would take more slots than [`most`] allows, shares are rounded to whole slots, and the smallest is one slot.

use crate::Endpoint;
use crate::slow_start::STEPS;

/// Lists of any length may have this many slots.
const MOST: usize = 1024;
/// Longer lists may have this many for each endpoint.
const FOR_EACH: usize = 8;

/// The most slots that a list of endpoints gets, whatever the weights.
pub fn most(endpoints: usize) -> usize {
    MOST.max(endpoints.saturating_mul(FOR_EACH))
}

/// How many slots each of these endpoints gets; `None` if each gets one. None of them drains.
pub fn slots(endpoints: &[Endpoint]) -> Option<Vec<u32>> {
    if endpoints.iter().all(|endpoint| endpoint.steering.is_none()) {
        return None;
    }
    let weight = |endpoint: &Endpoint| u64::from(endpoint.weight().max(1));
    let divisor = endpoints.iter().map(weight).fold(0, greatest_common_divisor);
    let starting = endpoints.iter().any(|endpoint| endpoint.step().is_some());
    let steps = |endpoint: &Endpoint| match endpoint.step() {
        Some(step) => step.number().into(),
        None if starting => STEPS.into(),
        None => 1,
    };
    let weights: Vec<u64> =
        endpoints.iter().map(|e| weight(e) / divisor.max(1) * steps(e)).collect();
    if weights.iter().all(|weight| *weight == weights[0]) {
        return None;
    }
    let most = u64::try_from(most(endpoints.len())).unwrap_or(u64::MAX);
    let slots =
        if weights.iter().sum::<u64>() <= most { weights } else { apportion(&weights, most) };
    Some(slots.into_iter().map(|slots| u32::try_from(slots).unwrap_or(u32::MAX)).collect())
}

/// Divides slots by weight, at least one for each. Who is due less gets one, and the others share the rest by the largest remainders.
fn apportion(weights: &[u64], slots: u64) -> Vec<u64> {
    let mut single = vec![false; weights.len()];
    let (mut left, mut sum) = (slots, weights.iter().sum::<u64>());
    loop {
        let is_due_less = |(index, weight): (usize, &u64)| !single[index] && weight * left < sum;
        let due: Vec<usize> =
            weights.iter().enumerate().filter(|due| is_due_less(*due)).map(|(i, _)| i).collect();
        if due.is_empty() {
            break;
        }
        for index in due {
            single[index] = true;
            left -= 1;
            sum -= weights[index];
        }
    }
    let whole = |(weight, single): (&u64, &bool)| if *single { 1 } else { weight * left / sum };
    let mut shares: Vec<u64> = weights.iter().zip(&single).map(whole).collect();
    let mut by_remainder: Vec<usize> = (0..weights.len()).filter(|index| !single[*index]).collect();
    by_remainder.sort_by_key(|index| std::cmp::Reverse(weights[*index] * left % sum));
    let given: u64 = shares.iter().sum();
    let rest = usize::try_from(slots.saturating_sub(given)).unwrap_or(usize::MAX);
    for index in by_remainder.into_iter().take(rest) {
        shares[index] += 1;
    }
    shares
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests;
