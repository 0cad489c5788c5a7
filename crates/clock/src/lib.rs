//! The one place that reads the wall clock and draws randomness.
//!
//! Everything else takes a [`Clock`] and an [`Entropy`], so that a test or a simulation decides what time it is and a
//! seed reproduces a history. Clippy forbids the calls behind these traits elsewhere (`clippy.toml`).
//!
//! ```
//! use std::time::Duration;
//! use ostler_clock::{Clock, FakeClock};
//! let clock = FakeClock::at("2027-03-28T00:59:59Z".parse().unwrap());
//! clock.advance(Duration::from_secs(2));
//! assert_eq!(clock.now().to_string(), "2027-03-28T01:00:01Z");
//! ```

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use rand::{Rng, SeedableRng, rngs::StdRng};

/// Tells the time.
pub trait Clock: Send + Sync {
    /// The moment, by the wall clock. May jump.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment of this boot, time asleep included; never jumps, whatever the wall clock does.
    fn elapsed(&self) -> Duration;
}

/// Draws random numbers.
pub trait Entropy: Send + Sync {
    /// A uniformly drawn number.
    fn next_u64(&self) -> u64;

    /// A uniformly drawn number below `bound` (0 when `bound` is 0).
    fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64 }
    }
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// `CLOCK_BOOTTIME`: leases must not stand still while the machine sleeps.
    fn elapsed(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
    }
}

/// A clock that stands until it is moved.
#[derive(Debug)]
pub struct FakeClock {
    state: Mutex<(Timestamp, Duration)>,
}

impl FakeClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self { state: Mutex::new((now, Duration::ZERO)) }
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = state
            .0
            .saturating_add(jiff::SignedDuration::try_from(by).unwrap_or(jiff::SignedDuration::MAX))
            .unwrap_or(Timestamp::MAX);
        state.1 += by;
    }

    /// Sets the wall clock without letting time pass: a clock jump.
    pub fn jump_to(&self, now: Timestamp) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 = now;
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn elapsed(&self) -> Duration {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

/// Randomness from a seed; the operating system's when made with [`SeededEntropy::from_os`].
#[derive(Debug)]
pub struct SeededEntropy {
    rng: Mutex<StdRng>,
}

impl SeededEntropy {
    /// The same seed draws the same numbers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { rng: Mutex::new(StdRng::seed_from_u64(seed)) }
    }

    /// Seeded by the operating system.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place")]
    pub fn from_os() -> Self {
        Self { rng: Mutex::new(StdRng::from_rng(&mut rand::rng())) }
    }
}

impl Entropy for SeededEntropy {
    fn next_u64(&self) -> u64 {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }
}
