//! The expression language of definition files.
