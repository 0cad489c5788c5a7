//! Where the engine is.

use std::{path::Path, time::Duration};

use bollard::{API_DEFAULT_VERSION, Docker};
use ostler_model::TypedError;

/// How long an engine may take to say that it is there.
const ANSWER: Duration = Duration::from_secs(10);
/// Seconds for what is answered at once; the rest has limits of its own.
const TIMEOUT: u64 = 120;

/// An engine that answers.
pub(super) struct Engine {
    pub(super) docker: Docker,
    /// As in `DOCKER_HOST`.
    pub(super) address: String,
    /// It shares the files of this machine.
    pub(super) is_here: bool,
}

impl Engine {
    /// The engine at an address; without one, that of `DOCKER_HOST` or `CONTAINER_HOST`, or the first that answers in
    /// the usual places.
    pub(super) async fn connect(address: Option<&str>) -> Result<Self, TypedError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let named = address
            .map(str::to_owned)
            .or_else(|| variable("DOCKER_HOST"))
            .or_else(|| variable("CONTAINER_HOST"));
        if let Some(address) = named {
            return Self::at(&address).await.map_err(|why| {
                none(format!("the container engine at {address} does not answer: {why}; is it running?"))
            });
        }
        let mut tried = Vec::new();
        for place in usual() {
            if !Path::new(&place).exists() {
                tried.push(format!("{place} (not there)"));
                continue;
            }
            match Self::at(&format!("unix://{place}")).await {
                Ok(engine) => return Ok(engine),
                Err(why) => tried.push(format!("{place} ({why})")),
            }
        }
        Err(none(format!(
            "no container engine answers; tried {}. Start Docker, or `systemctl --user start podman.socket`, or set DOCKER_HOST for the node",
            tried.join(", ")
        )))
    }

    /// The engine at an address.
    pub(super) async fn at(address: &str) -> Result<Self, String> {
        let is_here = address.starts_with("unix://") || address.starts_with('/');
        let docker = if is_here {
            Docker::connect_with_unix(address, TIMEOUT, API_DEFAULT_VERSION)
        } else if address.starts_with("tcp://") || address.starts_with("http://") {
            Docker::connect_with_http(address, TIMEOUT, API_DEFAULT_VERSION)
        } else {
            return Err("its address begins with neither unix:// nor tcp://".into());
        };
        let docker = docker.map_err(|e| cause(&e))?;
        // Old engines refuse the newest version of the protocol.
        match tokio::time::timeout(ANSWER, docker.negotiate_version()).await {
            Ok(Ok(docker)) => Ok(Self { docker, address: address.to_owned(), is_here }),
            Ok(Err(error)) => Err(cause(&error)),
            Err(_) => Err(format!("nothing for {} s", ANSWER.as_secs())),
        }
    }
}

/// Docker's socket, then Podman's of root and of this user.
fn usual() -> Vec<String> {
    let own = std::env::var("XDG_RUNTIME_DIR")
        .unwrap_or_else(|_| format!("/run/user/{}", rustix::process::getuid().as_raw()));
    vec![
        "/var/run/docker.sock".into(),
        format!("{own}/docker.sock"),
        "/run/podman/podman.sock".into(),
        format!("{own}/podman/podman.sock"),
    ]
}

fn none(message: String) -> TypedError {
    TypedError::new("container.engine", message)
}

fn cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
