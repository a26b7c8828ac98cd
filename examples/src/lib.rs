//! A service that the examples share: one program serves it, others call it.

use antiphon::{Context, Failure};
use serde::{Deserialize, Serialize};

/// Why arithmetic goes wrong.
#[derive(Debug, thiserror::Error, Serialize, Deserialize, antiphon::Failure)]
pub enum MathError {
    /// The value would not fit.
    #[error("{n} is above {max}")]
    #[failure(code = OutOfRange)]
    TooLarge {
        /// What was asked for.
        n: u32,
        /// The most that fits.
        max: u32,
    },
}

/// Arithmetic, far away.
#[antiphon::service]
pub trait Math {
    /// The n-th Fibonacci number; `n` is at most 93.
    #[procedure(idempotent)]
    fn fib(&self, n: u32) -> Result<u64, MathError>;

    /// The sum of the first Fibonacci numbers, each of them a call of its own.
    #[procedure(idempotent, attempt_timeout = "10s")]
    async fn fib_sum(&self, context: &Context, count: u32) -> Result<u64, Failure>;
}

/// Does arithmetic.
pub struct Calculator;

impl Math for Calculator {
    fn fib(&self, n: u32) -> Result<u64, MathError> {
        const MAX: u32 = 93;
        if n > MAX {
            return Err(MathError::TooLarge { n, max: MAX });
        }
        Ok((0..n).fold((0, 1), |(a, b), _| (b, u64::wrapping_add(a, b))).0)
    }

    async fn fib_sum(&self, context: &Context, count: u32) -> Result<u64, Failure> {
        let math = MathClient::within(context);
        let mut numbers = antiphon::map((0..count).map(|n| math.fib(n)), 8);
        let mut sum = 0_u64;
        while let Some(number) = numbers.next().await {
            sum += number.map_err(|error| Failure::new(error.code(), error.to_string()))?;
        }
        Ok(sum)
    }
}

/// The code of the README and the guide: compiled, and run where it says so, as doc tests.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../README.md")]
    struct Readme;

    #[doc = include_str!("../../docs/guide/src/first-service.md")]
    struct FirstService;
}
