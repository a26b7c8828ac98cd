//! Non-preemptive priorities: whoever runs is not interrupted, and a free server takes the most urgent class first.

use crate::error::{not_negative, positive, servers, stable};
use crate::{Markov, QueueingError};

/// One class of calls.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PriorityClass {
    /// Calls per second.
    pub arrival_per_s: f64,
    /// Mean service time, in seconds.
    pub service_s: f64,
    /// Coefficient of variation of the service time.
    pub service_cv: f64,
}

/// The mean wait of each class under strict priorities, the most urgent first.
///
/// One server: exact for any service times (A. Cobham, 1954). Several: exact when all classes have the same exponential
/// service time (O. Kella and U. Yechiali, 1985), and refused otherwise.
#[derive(Clone, PartialEq, Debug)]
pub struct Priorities {
    waits_s: Vec<f64>,
}

impl Priorities {
    /// The classes, the most urgent first.
    ///
    /// # Errors
    /// [`QueueingError::Unstable`] when all classes together are more than the servers can do;
    /// [`QueueingError::Invalid`] for several servers and classes that differ in service, or are not exponential.
    pub fn new(classes: &[PriorityClass], server_count: u32) -> Result<Self, QueueingError> {
        let capacity = f64::from(servers(server_count)?);
        for class in classes {
            positive("the arrival rate", class.arrival_per_s)?;
            positive("the service time", class.service_s)?;
            not_negative("the coefficient of variation", class.service_cv)?;
        }
        let Some(first) = classes.first() else { return Ok(Self { waits_s: Vec::new() }) };
        let load: f64 = classes.iter().map(|class| class.arrival_per_s * class.service_s).sum();
        stable(load, capacity)?;
        let residual_s = if server_count == 1 {
            classes.iter().map(|class| class.arrival_per_s * second_moment(class)).sum::<f64>() / 2.0
        } else {
            let odd = classes.iter().find(|class| class.service_s != first.service_s || class.service_cv != 1.0);
            if let Some(odd) = odd {
                let must = "exponential and the same for all classes when there are several servers";
                return Err(QueueingError::Invalid { what: "the service time", value: odd.service_s, must });
            }
            let arrival_per_s = classes.iter().map(|class| class.arrival_per_s).sum();
            let all = Markov::new(arrival_per_s, first.service_s, server_count)?;
            all.probability_of_waiting() * first.service_s / capacity
        };
        let mut above = 0.0;
        let wait = |class: &PriorityClass| {
            let below = above + class.arrival_per_s * class.service_s / capacity;
            let wait_s = residual_s / ((1.0 - above) * (1.0 - below));
            above = below;
            wait_s
        };
        Ok(Self { waits_s: classes.iter().map(wait).collect() })
    }

    /// The mean time in the queue of each class, in seconds, the most urgent first.
    #[must_use]
    pub fn mean_waits_s(&self) -> &[f64] {
        &self.waits_s
    }
}

fn second_moment(class: &PriorityClass) -> f64 {
    class.service_s * class.service_s * (1.0 + class.service_cv * class.service_cv)
}
