//! A test kit: fake clock, run until idle, crash here.
