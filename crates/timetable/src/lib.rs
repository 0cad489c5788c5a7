//! Definition files: YAML, JSON, TOML and Python headers, with errors that point at the line.
