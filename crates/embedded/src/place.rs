//! Where things are kept.

use std::path::{Path, PathBuf};

use ostler_store::StoreError;
use ostler_store_postgres::Address;

/// Where a store is kept, and what stands beside it.
#[derive(Clone, Debug)]
pub enum Place {
    /// In memory: gone with the process.
    Memory,
    /// In a file.
    File(PathBuf),
    /// In a PostgreSQL database, shared with other hosts.
    Postgres(Box<Address>),
}

impl Place {
    /// The place as people give it: `:memory:`, a URL that begins with `postgres://`, or a file, which may have
    /// `sqlite:` before it.
    ///
    /// # Errors
    /// The URL does not read.
    pub fn of(path: &Path) -> Result<Self, StoreError> {
        match path.to_str() {
            Some(":memory:") => Ok(Self::Memory),
            Some(url) if Address::is_one(url) => {
                Address::parse(url).map(|address| Self::Postgres(Box::new(address)))
            }
            Some(file) => Ok(Self::File(file.strip_prefix("sqlite:").unwrap_or(file).into())),
            None => Ok(Self::File(path.to_owned())),
        }
    }

    /// The place that is used when nobody says: `ostler.db` in the platform's data directory.
    #[must_use]
    pub fn default_place() -> Self {
        Self::File(data_dir().join("ostler.db"))
    }

    /// Something that stands beside the file: its name with more at the end.
    #[must_use]
    pub fn beside(&self, suffix: &str) -> Option<PathBuf> {
        match self {
            Self::Memory | Self::Postgres(_) => None,
            Self::File(path) => {
                let mut name = path.as_os_str().to_owned();
                name.push(suffix);
                Some(name.into())
            }
        }
    }

    /// The folder of run logs: beside the file, or in the temporary folder of this process.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.beside(".logs")
            .unwrap_or_else(|| std::env::temp_dir().join(format!("ostler-{}.logs", std::process::id())))
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory => f.write_str(":memory:"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Postgres(address) => write!(f, "{address}"),
        }
    }
}

/// The platform's data directory for this program; the temporary folder where there is no home.
#[must_use]
pub fn data_dir() -> PathBuf {
    directories::ProjectDirs::from("", "", "ostler")
        .map_or_else(|| std::env::temp_dir().join("ostler"), |dirs| dirs.data_dir().to_owned())
}

/// The platform's cache directory for this program: virtual environments and the like.
#[must_use]
pub fn cache_dir() -> PathBuf {
    directories::ProjectDirs::from("", "", "ostler")
        .map_or_else(|| std::env::temp_dir().join("ostler-cache"), |dirs| dirs.cache_dir().to_owned())
}

/// The platform's configuration directory for this program.
#[must_use]
pub fn config_dir() -> PathBuf {
    directories::ProjectDirs::from("", "", "ostler")
        .map_or_else(|| std::env::temp_dir().join("ostler-config"), |dirs| dirs.config_dir().to_owned())
}
