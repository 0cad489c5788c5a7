//! The store contract: commands, replies, queries and the conformance suite.
