//! The loop and the machines.
